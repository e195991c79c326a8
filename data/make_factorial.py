"""Generate the factorial corpus, ``data/factorial/records.jsonl``.

Every group is one piece of content. It is written in all 36 combinations of style,
complexity and specificity, so each factor is exactly independent of the others. The word
lists live in ``data/factorial_lexicon``; this file only draws from them.

Notation of the word lists: ``{town}`` draws a name, ``{#3-9}`` a number, ``{=a|b}`` one of
a few words; ``<is/was>`` follows the tense of the text; ``[leave/left]`` is a verb that agrees
with the subject. In capitals are the slots of a sentence frame, such as ``{SUBJ} {ACT}``.

Usage::

    python data/make_factorial.py           # write the records
    python data/make_factorial.py --check   # exit 1 if the checked-in file differs
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

HERE = Path(__file__).resolve().parent
LEXICON = HERE / "factorial_lexicon"
RECORDS = HERE / "factorial" / "records.jsonl"

SEED = "factorial-1"
STYLES = ("casual", "formal", "journalistic", "literary")
LEVELS = (1, 2, 3)

#: Range of the target length in words. It does not depend on the cell, so that length
#: says little about any factor.
TARGET_WORDS = (24, 40)
TOLERANCE = 3
MAX_TRIES = 60
MAX_SENTENCES = 4

PRESENT_TENSE_RATE = {1: 0.65, 2: 0.45, 3: 0.25}
PLAIN_RATE = 0.25
OPENING_RATE = 0.35
SWAP_RATE = 0.65
#: Rates of the adjuncts a sentence may start with: none, time, place, place and time.
ADJUNCT_RATES = {
    1: (0.4, 0.4, 0.2, 0.0),
    2: (0.2, 0.4, 0.3, 0.1),
    3: (0.1, 0.35, 0.3, 0.25),
}
#: Slots that may occur once in a text (two witnesses or two places would contradict).
UNIQUE_SLOTS = ("{WIT}", "{DUR}", "{WHERE}")
DOUBLING = {
    *("commit", "counsel", "cut", "defer", "deter", "distil", "flag", "get", "let"),
    *("permit", "plan", "put", "set", "sit", "stop", "strip", "submit"),
}
SENTENCE_START = re.compile(r'(^|[.!?]"?\s+)("?)([a-zà-ÿ])')
SENTENCE_END = re.compile(r'[.!?]"?(?=\s|$)')
TOKEN = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Cell:
    """One combination of the three factors that vary within a group."""

    style: str
    complexity: int
    specificity: int

    def __str__(self) -> str:
        """Return the short name used in record ids."""
        return f"{self.style}-c{self.complexity}-s{self.specificity}"


@dataclass(frozen=True)
class Lexicon:
    """All word lists, as read from ``data/factorial_lexicon``."""

    names: dict[str, list[str]]
    settings: dict[str, Any]
    styles: dict[str, Any]
    topics: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, folder: Path = LEXICON) -> Lexicon:
        """Read the word lists."""

        def read(path: Path) -> Any:
            return json.loads(path.read_text(encoding="utf-8"))

        topics = {path.stem: read(path) for path in sorted((folder / "topics").glob("*.json"))}
        names, settings, styles = (
            read(folder / f"{stem}.json") for stem in ("names", "settings", "styles")
        )
        return cls(names, settings, styles, topics)


class Dice:
    """Seeded choices that rest on ``random()`` alone, which Python keeps reproducible."""

    def __init__(self, *key: object) -> None:
        """Seed with the corpus seed and a key."""
        self._rng = random.Random(":".join(map(str, (SEED, *key))))

    def chance(self, rate: float) -> bool:
        """Return true with probability ``rate``."""
        return self._rng.random() < rate

    def number(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return low + int(self._rng.random() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[int(self._rng.random() * len(items))]

    def weighted(self, rates: Sequence[float]) -> int:
        """Return an index, drawn with the given rates."""
        point = self._rng.random() * sum(rates)
        for index, rate in enumerate(rates):
            point -= rate
            if point < 0:
                return index
        return len(rates) - 1

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        keys = [self._rng.random() for _ in items]
        return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


def third_person(verb: str) -> str:
    """Return the third person singular: ``watch`` -> ``watches``."""
    if verb == "have":
        return "has"
    if re.search(r"(s|sh|ch|x|z|o)$", verb):
        return verb + "es"
    return re.sub(r"(?<![aeiou])y$", "ie", verb) + "s"


def gerund(verb: str) -> str:
    """Return the ``-ing`` form: ``set`` -> ``setting``."""
    if verb in DOUBLING:
        verb += verb[-1]
    elif verb.endswith("ie"):
        verb = verb[:-2] + "y"
    elif verb.endswith("e") and not verb.endswith("ee"):
        verb = verb[:-1]
    return verb + "ing"


def plural(role: str) -> str:
    """Return the plural of a role: ``coach`` -> ``coaches``."""
    if role.endswith("man"):
        return role[:-3] + "men"
    return role + ("es" if role.endswith("ch") else "s")


class Writer:
    """Fills templates for one draft of one text."""

    def __init__(
        self,
        lexicon: Lexicon,
        topic: dict[str, Any],
        content: dict[str, Any],
        cell: Cell,
        split: str,
        dice: Dice,
    ) -> None:
        """Settle what the whole draft shares: tense, role and home town."""
        self.lexicon = lexicon
        self.topic = topic
        self.content = content
        self.cell = cell
        self.split = split
        self.dice = dice
        self.spec = str(cell.specificity)
        self.past = not dice.chance(PRESENT_TENSE_RATE[cell.specificity])
        self.role: str = dice.pick(content["who"])
        self.used: set[str] = set()
        self.town = self.fresh("town")

    # --- words ---------------------------------------------------------------------

    def fresh(self, kind: str) -> str:
        """Return a proper name that this text does not use yet."""
        unused = [name for name in self.lexicon.names[kind] if name not in self.used]
        self.used.add(name := self.dice.pick(unused))
        return name

    def word(self, token: str) -> str:
        """Return a word for a lower-case token such as ``{town}`` or ``{#3-9}``."""
        if token.startswith("#"):
            low, high = token[1:].split("-")
            return str(self.dice.number(int(low), int(high)))
        if token.startswith("="):
            return self.dice.pick(token[1:].split("|"))
        if token in ("month", "weekday"):
            return self.dice.pick(self.lexicon.names[token])
        return self.proper_name(token) or self.fact(token)

    def proper_name(self, token: str) -> str | None:
        """Return a name of a person or a place, or None for another token."""
        match token:
            case "town":
                return self.town
            case "away":
                return self.fresh("town")
            case "surname" | "street":
                return self.fresh(token)
            case "first":
                return self.fresh(self.dice.pick(("first_f", "first_m")))
            case "name":
                return f"{self.proper_name('first')} {self.fresh('surname')}"
        return None

    def fact(self, token: str) -> str:
        """Return a role, an age or a part of a date."""
        match token:
            case "role":
                return self.role
            case "roles":
                return plural(self.role)
            case "age":
                return str(self.dice.number(*self.topic["ages"]))
            case "day":
                return str(self.dice.number(1, 28))
            case "year":
                return str(self.dice.number(1994, 2023))
            case "time":
                hour, minute = self.dice.number(*self.topic["hours"]), 5 * self.dice.number(0, 11)
                return f"{hour}.{minute:02d}"
        raise KeyError(f"no such token: {{{token}}}")

    def expand(self, text: str) -> str:
        """Fill lower-case tokens, then tense brackets ``<present/past>``."""
        text = re.sub(r"<([^<>/]*)/([^<>]*)>", r"\2" if self.past else r"\1", text)
        return TOKEN.sub(lambda match: self.word(match[1]), text)

    def person(self, kind: str) -> str:
        """Return someone to speak of, as named or nameless as the level asks."""
        gender = self.dice.pick(("f", "m"))
        first, surname = self.fresh(f"first_{gender}"), self.fresh("surname")
        template = self.dice.pick(self.lexicon.settings[kind][self.cell.style][self.spec])
        if template == "you":
            self.past = False
        for token, value in (
            ("{name}", f"{first} {surname}"),
            ("{first}", first),
            ("{surname}", surname),
            ("{town}", "{away}"),
            ("{honorific}", self.dice.pick(("Dr", "Ms" if gender == "f" else "Mr"))),
        ):
            template = template.replace(token, value)
        return self.expand(template)

    # --- phrases -------------------------------------------------------------------

    def when(self) -> str:
        """Return an adverbial of time."""
        tense = "past" if self.past else "present"
        return self.expand(self.dice.pick(self.lexicon.settings["when"][tense][self.spec]))

    def where(self) -> str:
        """Return an adverbial of place."""
        generic = self.lexicon.settings["where"]
        return self.expand(self.dice.pick(self.topic["places"].get(self.spec, generic)))

    def duration(self) -> str:
        """Return a stretch of time in the content's own unit."""
        settings, scale = self.lexicon.settings, self.content["scale"]
        options = {
            1: settings["duration"]["any"],
            2: settings["duration"][scale],
            3: settings["duration_numbers"][scale],
        }
        return self.expand(self.dice.pick(options[self.cell.specificity]))

    def adjunct(self, *, place_taken: bool) -> str:
        """Return what a sentence starts with: a place, a time, both or nothing."""
        form = self.dice.weighted(ADJUNCT_RATES[self.cell.specificity])
        parts = [self.where()] if form >= 2 and not place_taken else []
        parts += [self.when()] if form in (1, 3) or (form == 2 and place_taken) else []
        return "".join(f"{part}, " for part in parts)

    def clause(self, part: str) -> str:
        """Return the content's action, result or aim at the cell's complexity."""
        text = self.dice.pick(self.content[part][str(self.cell.complexity)])
        thing = self.dice.pick(self.content["thing"][self.spec])
        return self.expand(text.replace("{thing}", thing))

    def action(self, form: str) -> str:
        """Return the action with its verbs in the given form.

        Args:
            form: ``finite`` (agrees with a subject at this level) or ``gerund``.
        """

        def inflect(match: re.Match[str]) -> str:
            base, past = match.groups()
            if form == "gerund":
                return gerund(base)
            if self.past:
                return past
            return base if self.cell.specificity == 1 else third_person(base)

        return re.sub(r"\[([^\[\]/]+)/([^\[\]/]+)\]", inflect, self.clause("act"))

    def subject(self, template: str) -> str:
        """Return the subject; ``you`` cannot carry an apposition."""
        while True:
            subject = self.person("people")
            if subject != "you" or "{SUBJ}," not in template:
                return subject

    # --- texts ---------------------------------------------------------------------

    def template(self, style: str, part: str) -> str:
        """Return a template; every third one is kept for validation and test."""
        templates: list[str] = self.lexicon.styles[style][str(self.cell.complexity)][part]
        held_out = templates[2::3]
        if self.split == "train":
            return self.dice.pick([t for t in templates if t not in held_out])
        return self.dice.pick(held_out)

    def choose(self) -> list[str]:
        """Choose templates: perhaps an opening, a core, and up to three closings."""
        style = self.cell.style
        use_plain = self.dice.chance(PLAIN_RATE)
        chosen = [self.template("plain" if use_plain else style, "core")]
        if self.dice.chance(OPENING_RATE):
            source = "plain" if self.dice.chance(PLAIN_RATE) else style
            chosen.insert(0, self.template(source, "open"))
        for index in range(self.dice.number(1 if use_plain else 0, 3)):
            source = "plain" if index and self.dice.chance(2 * PLAIN_RATE) else style
            chosen.append(self.template(source, "close"))
        return chosen

    def draft(self) -> str | None:
        """Write one draft, or return None if the templates drawn do not fit together."""
        chosen = self.choose()
        joined = " ".join(chosen)
        if len(set(chosen)) < len(chosen) or any(joined.count(s) > 1 for s in UNIQUE_SLOTS):
            return None
        # The subject comes first, because it may decide the tense.
        values = {"SUBJ": self.subject(joined)}
        values |= {
            "PRE": self.adjunct(place_taken="{WHERE}" in joined),
            "ACT": self.action("finite"),
            "ING": self.action("gerund"),
            "RES": self.clause("res"),
            "AIM": self.clause("aim"),
            "WHERE": self.where(),
            "DUR": self.duration(),
            "WIT": self.person("witness"),
        }
        for slot, value in values.items():
            joined = joined.replace(f"{{{slot}}}", value)
        text = tidy(self.swap(self.expand(joined)))
        return text if len(SENTENCE_END.findall(text)) <= MAX_SENTENCES else None

    def swap(self, text: str) -> str:
        """Exchange some words for those the style prefers."""
        for old, new in self.lexicon.settings["swaps"][self.cell.style]:
            if self.dice.chance(SWAP_RATE):
                text = re.sub(rf"\b{old}\b", new, text)
        return text


def tidy(text: str) -> str:
    """Mend articles, commas and capital letters of a filled template."""
    text = re.sub(r",\s*([,.;:!?])", r"\1", text)
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU]|8|1[18]\b)(?!one\b|uni|use)", r"\1n ", text)
    return SENTENCE_START.sub(lambda m: m[1] + m[2] + m[3].upper(), text)


def write_text(
    lexicon: Lexicon,
    topic: str,
    content: dict[str, Any],
    cell: Cell,
    split: str,
    taken: set[str],
) -> str:
    """Write a new text for one cell, as near to a random target length as drafts allow."""
    dice = Dice(topic, content["id"], cell)
    target = dice.number(*TARGET_WORDS)
    best, best_gap = "", 10**6
    for _ in range(MAX_TRIES):
        draft = Writer(lexicon, lexicon.topics[topic], content, cell, split, dice).draft()
        if draft is None or draft in taken:
            continue
        gap = abs(len(draft.split()) - target)
        if gap < best_gap:
            best, best_gap = draft, gap
        if gap <= TOLERANCE:
            break
    if not best:
        raise RuntimeError(f"no draft for {topic}-{content['id']}-{cell}")
    return best


def assign_splits(lexicon: Lexicon) -> dict[str, str]:
    """Map each group to a split: of every ten groups in a topic, seven go to train."""
    splits: dict[str, str] = {}
    for index, (topic, entry) in enumerate(lexicon.topics.items()):
        groups = Dice("split", topic).shuffled([f"{topic}-{c['id']}" for c in entry["contents"]])
        held_out = groups[len(groups) * 7 // 10 :]
        middle = (len(held_out) + index % 2) // 2
        splits |= dict.fromkeys(groups, "train")
        splits |= dict.fromkeys(held_out[:middle], "validation")
        splits |= dict.fromkeys(held_out[middle:], "test")
    return splits


def cells() -> Iterator[Cell]:
    """Yield all 36 combinations of style, complexity and specificity."""
    for style in STYLES:
        for complexity in LEVELS:
            for specificity in LEVELS:
                yield Cell(style, complexity, specificity)


def make_records(lexicon: Lexicon) -> list[dict[str, Any]]:
    """Generate all records, sorted by id."""
    splits = assign_splits(lexicon)
    taken: set[str] = set()
    records = []
    for topic, entry in lexicon.topics.items():
        for content in entry["contents"]:
            group = f"{topic}-{content['id']}"
            for cell in cells():
                text = write_text(lexicon, topic, content, cell, splits[group], taken)
                taken.add(text)
                factors = {
                    "topic": topic,
                    "style": cell.style,
                    "complexity": float(cell.complexity),
                    "specificity": float(cell.specificity),
                }
                records.append(
                    {
                        "id": f"{group}-{cell}",
                        "text": text,
                        "group": group,
                        "factors": factors,
                        "split": splits[group],
                    }
                )
    return sorted(records, key=lambda record: record["id"])


def render() -> bytes:
    """Return the whole file as bytes."""
    records = make_records(Lexicon.load())
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return "".join(lines).encode("utf-8")


def check(data: bytes, path: Path = RECORDS) -> int:
    """Compare the generated bytes with the checked-in file; return an exit status."""
    if not path.exists():
        print(f"{path} is missing: run python data/make_factorial.py", file=sys.stderr)
        return 1
    if path.read_bytes() != data:
        print(
            f"{path} differs from what the lexicon gives: run python data/make_factorial.py",
            file=sys.stderr,
        )
        return 1
    print(f"{path.name} is up to date")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Generate data/factorial/records.jsonl.")
    parser.add_argument("--check", action="store_true", help="only compare with the file")
    args = parser.parse_args(argv)
    data = render()
    if args.check:
        return check(data)
    RECORDS.parent.mkdir(parents=True, exist_ok=True)
    RECORDS.write_bytes(data)
    print(f"{len(data.splitlines())} records, sha256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
