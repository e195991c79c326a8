"""Rewrites: rules that change one factor of a text and keep its content.

A rewritten text does not have to read well. It must differ in one factor only, so that the mean
change of the embedding over many texts is the direction of that factor.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from subspace.data.records import Record
from subspace.fitting.weak.lexicon import (
    ARCHAIC,
    CASUAL,
    CONTRACTIONS,
    FIRST_PERSON,
    FORMAL,
    general_words,
    rarer_words,
    simpler_words,
)

# Style of a text that no rule has changed.
AS_WRITTEN = "as written"
_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_MONTHS = "January February March April May June July August September October November December"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_CALENDAR = "|".join(f"{_MONTHS} {_DAYS}".split())
_NUMBERS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|"
    "hundred|thousand|million|billion|dozen"
)


@dataclass(frozen=True)
class Rule:
    """One way to rewrite a text.

    Attributes:
        name: Name of the rule in records and reports.
        factor: The factor that it changes.
        level: +1 for more of an ordered factor, -1 for less; 0 for style.
        apply: Maps a text and a random generator to the new text, which is the same text if the
            rule does not apply.
    """

    name: str
    factor: str
    level: int
    apply: Callable[[str, random.Random], str]


@dataclass(frozen=True)
class Rewrite:
    """A rewritten text and the rule that made it."""

    rule: Rule
    text: str


def rewrite_text(
    text: str,
    *,
    seed: str,
    factors: Sequence[str] | None = None,
    per_factor: int | None = None,
) -> list[Rewrite]:
    """Rewrites one text by rules drawn at random; leaves out rules that change nothing.

    Args:
        text: The text.
        seed: Seeds the random generator; the same seed gives the same rewrites.
        factors: The factors to change; None for all.
        per_factor: Number of rules to draw for each factor; None for all.
    """
    chance = random.Random(seed)
    rewrites = []
    for factor in dict.fromkeys(rule.factor for rule in RULES):
        if factors is not None and factor not in factors:
            continue
        rules = [rule for rule in RULES if rule.factor == factor]
        if per_factor is not None and per_factor < len(rules):
            rules = chance.sample(rules, per_factor)
        for rule in rules:
            rewritten = re.sub(r"\s+", " ", rule.apply(text, chance)).strip()
            if rewritten and rewritten != text:
                rewrites.append(Rewrite(rule=rule, text=rewritten))
    return rewrites


def rewrite_record(
    record: Record, *, factors: Sequence[str], per_factor: int | None = None
) -> list[Record]:
    """Returns a text and its rewrites as labelled records of one group.

    Args:
        record: The text. Its labels are dropped, since a rewrite may change them.
        factors: The factors to change.
        per_factor: Number of rules to draw for each factor; None for all.

    Returns:
        First the text, labelled `as written` for style and 0 for ordered factors. Then the
        rewrites, each labelled with its rule for style and the rule's level for ordered factors.
    """
    unchanged = {factor: AS_WRITTEN if factor == "style" else 0.0 for factor in factors}
    original = Record(
        id=record.id,
        text=record.text,
        source=record.source,
        factors=unchanged,
        split=record.split,
        group=record.group or record.id,
    )
    rewrites = rewrite_text(record.text, seed=record.id, factors=factors, per_factor=per_factor)
    return [original, *(_label(original, rewrite) for rewrite in rewrites)]


def _label(original: Record, rewrite: Rewrite) -> Record:
    rule = rewrite.rule
    return replace(
        original,
        id=f"{original.id}~{rule.name.replace(' ', '-')}",
        text=rewrite.text,
        factors={rule.factor: float(rule.level) if rule.level else rule.name},
    )


def _like(new: str, old: str) -> str:
    """Gives `new` the capitals of `old`."""
    if len(old) > 1 and old.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def _replace_words(text: str, table: Mapping[str, str]) -> str:
    def replaced(match: re.Match[str]) -> str:
        word = match[0]
        return _like(table[word.lower()], word) if word.lower() in table else word

    return _WORD.sub(replaced, text)


def _replace_phrases(text: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        text = re.sub(
            rf"\b{re.escape(old)}\b",
            lambda match, new=new: _like(new, match[0]),  # type: ignore[misc]
            text,
            flags=re.IGNORECASE,
        )
    return text


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+", text) if part]


def _uncapitalise(text: str) -> str:
    """Makes the first letter lower case, unless the text begins with an acronym."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _contract(text: str, _: random.Random) -> str:
    return _replace_phrases(text, CONTRACTIONS)


def _expand(text: str, _: random.Random) -> str:
    return _replace_phrases(text, {short: full for full, short in CONTRACTIONS.items()})


def _casual(text: str, chance: random.Random) -> str:
    text = _replace_words(_replace_phrases(text, CONTRACTIONS), CASUAL).lower()
    text = re.sub(
        r"[.;:]+(\s|$)",
        lambda match: chance.choice(["", "...", " ", "!", " lol"]) + match[1],
        text,
    )
    return chance.choice(["hey, ", "ok so ", "well ", "honestly ", "yeah ", "", ""]) + text


def _formal(text: str, chance: random.Random) -> str:
    opening = chance.choice(
        ["It should be noted that ", "Accordingly, ", "Furthermore, ", "", "", ""]
    )
    return opening + _replace_words(_expand(text, chance), FORMAL)


def _archaic(text: str, chance: random.Random) -> str:
    opening = chance.choice(["Lo, ", "And ", "Verily, ", "And it came to pass that ", ""])
    return opening + _uncapitalise(_replace_words(text, ARCHAIC))


def _lower_case(text: str, chance: random.Random) -> str:
    return (re.sub(r"[.,;:!?\"]", "", text) if chance.random() < 0.5 else text).lower()


def _polite(text: str, chance: random.Random) -> str:
    opening = chance.choice(
        [
            "Could you please help? ",
            "I would be grateful if you could consider this: ",
            "Thank you for your time. ",
            "If you don't mind, ",
        ]
    )
    end = chance.choice(
        [" Thanks in advance!", " Thank you so much.", " I really appreciate it.", ""]
    )
    return opening + text + end


def _blunt(text: str, chance: random.Random) -> str:
    opening = chance.choice(["No. ", "Wrong. ", "Stop it. ", "Why? ", "Look, "])
    end = chance.choice([" Period.", " Do it.", " Obviously.", " What is wrong with you?", ""])
    courtesies = r"\b(please|perhaps|maybe|thank you|thanks|kindly|could you|would you)\b,?\s*"
    return opening + re.sub(courtesies, "", text, flags=re.IGNORECASE) + end


def _hedged(text: str, chance: random.Random) -> str:
    hedges = ["I think ", "Perhaps ", "It seems that ", "Maybe ", "I guess ", "It may be that "]
    return " ".join(
        chance.choice(hedges) + _uncapitalise(part) if chance.random() < 0.7 else part
        for part in _sentences(text)
    )


def _emphatic(text: str, chance: random.Random) -> str:
    stronger = {
        "good": "really good",
        "very": "extremely",
        "is": "really is",
        "was": "absolutely was",
        "are": "truly are",
    }
    return re.sub(
        r"[.](\s|$)",
        lambda match: chance.choice(["!", "!!", "!!!"]) + match[1],
        _replace_words(text, stronger),
    )


def _telegraphic(text: str, _: random.Random) -> str:
    dropped = r"\b(the|a|an|is|are|was|were|of|has|have|had|that|its|their|his|her)\b\s*"
    return re.sub(dropped, "", text, flags=re.IGNORECASE)


def _spoken(text: str, chance: random.Random) -> str:
    fillers = ["um,", "uh,", "you know,", "like,", "I mean,"]
    words: list[str] = []
    for word in text.split():
        if chance.random() < 0.08:
            words.append(chance.choice(fillers))
        words.append(word)
    return _replace_phrases(" ".join(words), CONTRACTIONS)


def _question(text: str, chance: random.Random) -> str:
    first, *rest = _sentences(text) or [""]
    opening = chance.choice(
        ["Did you know that ", "Is it true that ", "Why is it that ", "Can you tell me whether "]
    )
    return " ".join([opening + _uncapitalise(first).rstrip(".!?") + "?", *rest])


def _first_person(text: str, _: random.Random) -> str:
    return _replace_words(text, FIRST_PERSON)


def _markup(text: str, chance: random.Random) -> str:
    opening = chance.choice(["- ", "* ", "> ", "Subject: ", "Re: ", "## "])
    return opening + text + chance.choice(["", " (edited)", " :-)", " :)", " @user"])


def _without_numbers(text: str) -> str:
    text = re.sub(
        rf"\b(in|on|at|by|since|until) (the )?({_CALENDAR})?\s?\d{{0,2}},?\s?(1[0-9]|20)\d\d\b",
        "at some time",
        text,
    )
    text = re.sub(rf"\b(on |in |last |next |this )?({_CALENDAR})(,? \d+)?\b", "some day", text)
    text = re.sub(r"[$£€]\s?\d[\d,.]*( (million|billion|thousand))?", "some money", text)
    text = re.sub(r"\b\d[\d,.:]*(st|nd|rd|th|s|%|am|pm|km|kg|m)?(?!\w)", "some", text)
    return re.sub(rf"\b({_NUMBERS})\b", "several", text, flags=re.IGNORECASE)


def _without_names(text: str) -> str:
    """Replaces capitalised words that do not begin a sentence."""
    return re.sub(r"(?<=[a-z,;:]\s)(the )?[A-Z][a-z]+(?:\s(?:of\s)?[A-Z][a-z.]+)*", "someone", text)


def _no_names_or_numbers(text: str, _: random.Random) -> str:
    return _without_names(_without_numbers(text))


def _general_nouns(text: str, _: random.Random) -> str:
    return _replace_words(text, general_words())


def _generic(text: str, chance: random.Random) -> str:
    return re.sub(
        r"\b(the|this|that|these|those|my|your|his|her|our|their)\b",
        lambda _match: chance.choice(["a", "some", "any"]),
        _general_nouns(_no_names_or_numbers(text, chance), chance),
        flags=re.IGNORECASE,
    )


def _in_general(text: str, _: random.Random) -> str:
    text = re.sub(r"\b(the|this|that|a|an)\b", "most", text, flags=re.IGNORECASE)
    text = re.sub(r"\bis\b", "is generally", text)
    return re.sub(r"\b(was|were)\b", "are usually", text)


def _in_detail(text: str, chance: random.Random) -> str:
    names = ["Anna Keller", "John Doyle", "Mr. Patel", "Maria Lopez", "the Smith family", "Tom"]
    amounts = ["three", "27", "about 400", "twelve", "2,150"]
    openings = [
        "Yesterday at 5 pm, ",
        "On 12 March 2019, ",
        "In Boston last Tuesday, ",
        "At 14 Elm Street, ",
        "According to Dr. Susan Miller, ",
        "In the summer of 1987, ",
    ]
    text = re.sub(
        r"\b(someone|somebody|people|a man|a woman|they|everyone)\b",
        lambda _match: chance.choice(names),
        text,
        flags=re.IGNORECASE,
    )
    text = re.sub(
        r"\b(some|many|several|few|lots of|a lot of)\b",
        lambda _match: chance.choice(amounts),
        text,
        flags=re.IGNORECASE,
    )
    return chance.choice(openings) + _uncapitalise(text)


def _simple_words(text: str, _: random.Random) -> str:
    return _replace_words(text, simpler_words())


def _rare_words(text: str, _: random.Random) -> str:
    return _replace_words(text, rarer_words())


def _split_sentences(text: str, _: random.Random) -> str:
    openings = {"because": " This is because", "so": " So", "but": " But"}
    text = re.sub(
        r"[,;:]? (and|but|so|because|although|while|whereas) ",
        lambda match: "." + openings.get(match[1], "") + " ",
        text,
    )
    text = re.sub(r", (which|who) ", ". This ", text)
    text = re.sub(r"[;:] ", ". ", text)
    return " ".join(part[:1].upper() + part[1:] for part in _sentences(text))


def _simple(text: str, chance: random.Random) -> str:
    plain = {word: short for short, word in FORMAL.items()}
    return _split_sentences(_replace_words(_simple_words(text, chance), plain), chance)


def _joined_sentences(text: str, chance: random.Random) -> str:
    links = [
        ", and moreover ",
        "; nevertheless, ",
        ", whereas ",
        ", notwithstanding which ",
        ", in consequence of which ",
    ]
    first, *rest = _sentences(text) or [""]
    joined = first.rstrip(".")
    for part in rest:
        joined += chance.choice(links) + _uncapitalise(part).rstrip(".")
    return joined + "."


def _hard(text: str, chance: random.Random) -> str:
    opening = chance.choice(
        ["Notwithstanding appearances, ", "As has been established, ", "In view of this, ", ""]
    )
    return opening + _uncapitalise(_joined_sentences(_rare_words(text, chance), chance))


RULES: tuple[Rule, ...] = (
    Rule("contracted", "style", 0, _contract),
    Rule("expanded", "style", 0, _expand),
    Rule("casual", "style", 0, _casual),
    Rule("formal", "style", 0, _formal),
    Rule("archaic", "style", 0, _archaic),
    Rule("lower case", "style", 0, _lower_case),
    Rule("polite", "style", 0, _polite),
    Rule("blunt", "style", 0, _blunt),
    Rule("hedged", "style", 0, _hedged),
    Rule("emphatic", "style", 0, _emphatic),
    Rule("telegraphic", "style", 0, _telegraphic),
    Rule("spoken", "style", 0, _spoken),
    Rule("question", "style", 0, _question),
    Rule("first person", "style", 0, _first_person),
    Rule("markup", "style", 0, _markup),
    Rule("simple words", "complexity", -1, _simple_words),
    Rule("rare words", "complexity", +1, _rare_words),
    Rule("split sentences", "complexity", -1, _split_sentences),
    Rule("simple", "complexity", -1, _simple),
    Rule("joined sentences", "complexity", +1, _joined_sentences),
    Rule("hard", "complexity", +1, _hard),
    Rule("no names or numbers", "specificity", -1, _no_names_or_numbers),
    Rule("general nouns", "specificity", -1, _general_nouns),
    Rule("generic", "specificity", -1, _generic),
    Rule("in general", "specificity", -1, _in_general),
    Rule("in detail", "specificity", +1, _in_detail),
)
