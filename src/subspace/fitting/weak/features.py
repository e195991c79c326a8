"""Stylometric features: numbers counted in a text, by the factor that they describe.

Features of style are the frequencies of function words, punctuation and word forms (Mosteller and
Wallace 1964, Biber 1988). Features of complexity are word frequency and the length of words and
sentences, as in readability formulas. Features of specificity are names, numbers, articles and
generic words (Li and Nenkova 2015). Shares of words enter as square roots, which stabilises their
variance.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial

import numpy as np

from subspace.arrays import Floats
from subspace.errors import ConfigError, install_command

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d[\d,.:/]*")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")

_FUNCTION_WORDS = tuple(
    "the of and to a in is it you that he was for on are with as i his they be at one have this "
    "from or had by but not what all were we when your can said there an each which she do how "
    "their if will up about out then them these so some her would like him into has more no way "
    "could my than who its now did been may me over after also back any only very our just most "
    "before too where off such because here through those between both under while during without "
    "against".split()
)
_FUNCTION_WORD_SET = frozenset(_FUNCTION_WORDS)
_PUNCTUATION = tuple(",.;:!?\"()-'/*_<>#@&…")
_STYLES = {
    "archaic": "thou thee thy thine ye unto hath doth shall saith hast art shalt behold lo yea "
    "wherefore thereof therein whence hither upon whom cometh goeth maketh",
    "hedge": "maybe perhaps probably possibly seems seem might could likely apparently somewhat "
    "quite rather guess think believe suppose",
    "casual": "yeah yes ok okay hey hi hello thanks please lol gonna wanna gotta kinda stuff guys "
    "guy cool awesome really pretty totally well oh wow just like got get",
    "formal": "however therefore moreover furthermore thus hence consequently nevertheless "
    "regarding concerning additionally whereas although which whom upon within",
    "first singular": "i me my mine",
    "first plural": "we us our ours",
    "second": "you your yours",
    "third": "he she him her his hers they them their theirs",
    "negation": "not n't no never don't can't won't cannot",
}
_STYLE_WORDS = {name: tuple(words.split()) for name, words in _STYLES.items()}
_ENDINGS: Mapping[str, str | tuple[str, ...]] = {
    "ing": "ing",
    "ed": "ed",
    "ly": "ly",
    "noun": ("tion", "ment", "ness", "ity", "ance", "ence"),
    "archaic": ("eth", "est"),
}
_SUBORDINATORS = (
    "because although though while whereas since unless until if that which who whom whose when "
    "where after before as"
).split()
_GENERIC = (
    "people person thing things something someone somebody anything everyone everybody some many "
    "few several various often usually sometimes always never generally certain kind kinds sort "
    "type types general typical every each any most much lot stuff place places time times way "
    "ways man woman men women others other"
).split()
_NUMBER_WORDS = (
    "two three four five six seven eight nine ten eleven twelve hundred thousand million billion "
    "first second third monday tuesday wednesday thursday friday saturday sunday january february "
    "march april june july august september october november december"
).split()


def text_features(
    text: str, *, factors: Collection[str] = ("style", "complexity", "specificity")
) -> dict[str, dict[str, float]]:
    """Counts the features of one text.

    Args:
        text: The text.
        factors: The factors whose features are counted; those of style take a third of the time.

    Returns:
        Features by factor and name.

    Raises:
        ConfigError: The word frequencies are not installed.
    """
    tokens = _TOKEN.findall(text) or ["-"]
    lower = [token.lower().replace("’", "'") for token in tokens]
    words = [word for word in lower if word[0].isalpha()] or ["-"]
    counts = Counter(lower)
    sentences = max(len(_SENTENCE_END.findall(text)), 1)
    count: Mapping[str, Callable[[], dict[str, float]]] = {
        "style": partial(_style, text, tokens=tokens, lower=lower, counts=counts),
        "complexity": partial(_complexity, text, words=words, counts=counts, sentences=sentences),
        "specificity": partial(_specificity, tokens=tokens, lower=lower, counts=counts),
    }
    return {factor: count[factor]() for factor in factors}


def _share(count: float, total: int) -> float:
    return math.sqrt(count / total)


def _sum(counts: Counter[str], words: Sequence[str]) -> int:
    return sum(counts.get(word, 0) for word in words)  # [] would call into Counter for each of 0


def _style(
    text: str, *, tokens: Sequence[str], lower: Sequence[str], counts: Counter[str]
) -> dict[str, float]:
    total = len(tokens)
    end = text.rstrip()[-1:]
    return {
        **{word: _share(counts.get(word, 0), total) for word in _FUNCTION_WORDS},
        **{mark: _share(text.count(mark), total) for mark in _PUNCTUATION},
        **{
            f"{name} words": _share(_sum(counts, words), total)
            for name, words in _STYLE_WORDS.items()
        },
        **{
            f"{name} endings": _share(sum(word.endswith(forms) for word in lower), total)
            for name, forms in _ENDINGS.items()
        },
        "apostrophes": _share(sum("'" in word for word in lower), total),
        "capital first": float(tokens[0][0].isupper()),
        "capitals": _share(sum(token.isupper() and len(token) > 1 for token in tokens), total),
        "question at the end": float(end == "?"),
        "mark at the end": float(end in (".", "!", "?", '"')),
    }


def _complexity(
    text: str, *, words: Sequence[str], counts: Counter[str], sentences: int
) -> dict[str, float]:
    frequencies = [_zipf(word) for word in words]
    content = [
        frequency
        for word, frequency in zip(words, frequencies, strict=True)
        if word not in _FUNCTION_WORD_SET
    ]
    frequency = np.array(content or frequencies)
    lengths = np.array([len(word) for word in words])
    return {
        "word frequency": float(np.mean(frequencies)),
        "content word frequency": float(frequency.mean()),
        "rarest word": float(frequency.min()),
        "rarest quarter": _lower_quartile(np.sort(frequency)),
        "rare words": float((frequency < 3.5).mean()),
        "infrequent words": float((frequency < 4.5).mean()),
        "word length": float(lengths.mean()),
        "long words": float((lengths > 6).mean()),
        "very long words": float((lengths > 9).mean()),
        "sentence length": float(np.log(len(words) / sentences)),
        "text length": float(np.log(len(words))),
        "subordinators": _share(_sum(counts, _SUBORDINATORS), len(words)),
        "commas": text.count(",") / sentences,
    }


def _lower_quartile(ascending: Floats) -> float:
    """Returns what `np.quantile` returns, to the bit; its checks take longer than all else."""
    place = 0.25 * (len(ascending) - 1)
    below = int(place)
    first, second = float(ascending[below]), float(ascending[min(below + 1, len(ascending) - 1)])
    share, apart = place - below, second - first
    return second - apart * (1 - share) if share >= 0.5 else first + apart * share


def _specificity(
    *, tokens: Sequence[str], lower: Sequence[str], counts: Counter[str]
) -> dict[str, float]:
    total = len(tokens)
    return {
        "names": _share(sum(token[0].isupper() and len(token) > 1 for token in tokens[1:]), total),
        "numbers": _share(sum(token[0].isdigit() for token in tokens), total),
        "number words": _share(_sum(counts, _NUMBER_WORDS), total),
        "generic words": _share(_sum(counts, _GENERIC), total),
        "the": _share(counts["the"], total),
        "a": _share(_sum(counts, ("a", "an")), total),
        "demonstratives": _share(_sum(counts, ("this", "that", "these", "those")), total),
        "plurals": _share(sum(word.endswith("s") and len(word) > 3 for word in lower), total),
        "past": _share(_sum(counts, ("was", "were", "had", "did")), total),
        "modals": _share(_sum(counts, ("can", "may", "should", "must", "could", "would")), total),
    }


@lru_cache(maxsize=200_000)
def _zipf(word: str) -> float:
    """Returns the Zipf frequency of a word, from 0 (unknown) to about 7 (`the`)."""
    try:
        from wordfreq import zipf_frequency
    except ImportError as error:
        raise ConfigError(
            f"features need word frequencies; install them with: {install_command('weak')}"
        ) from error
    return float(zipf_frequency(word, "en"))
