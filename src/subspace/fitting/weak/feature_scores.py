"""Scores of complexity, specificity and formality, counted in English texts.

Each score is a mean of a few features, in standard deviations of the training texts of nine
labelled corpora (every corpus counts the same). Signs are such that a higher score means harder,
more specific, or more formal:

- complexity: sentence length, share of long words, rarity of content words. The first two are the
  ones that the readability formula LIX counts (Björnsson 1968).
- specificity: names and numbers minus generic words (people, something, usually; Li and Nenkova
  2015).
- style: formality. Abstract nouns, `of` and `the` minus contractions, casual words, `I` and `you`.
  This follows the formality score of Heylighen and Dewaele (1999), nouns minus deixis, but counts
  words instead of parts of speech.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from subspace.arrays import Floats
from subspace.fitting.weak.features import text_features

# Sign, mean and standard deviation of every feature used (benchmarks/labels.py --reference).
REFERENCE: Mapping[str, Mapping[str, tuple[int, float, float]]] = {
    "complexity": {
        "sentence length": (+1, 2.77, 0.56),
        "long words": (+1, 0.199, 0.118),
        "content word frequency": (-1, 4.637, 0.472),
    },
    "specificity": {
        "names": (+1, 0.230, 0.188),
        "numbers": (+1, 0.054, 0.107),
        "generic words": (-1, 0.106, 0.119),
    },
    "style": {
        "noun endings": (+1, 0.079, 0.108),
        "of": (+1, 0.108, 0.114),
        "the": (+1, 0.194, 0.135),
        "apostrophes": (-1, 0.051, 0.096),
        "casual words": (-1, 0.052, 0.097),
        "first singular words": (-1, 0.061, 0.115),
        "second words": (-1, 0.054, 0.107),
    },
}


def score_text(text: str, *, factors: Collection[str] = tuple(REFERENCE)) -> dict[str, float]:
    """Returns complexity, specificity and formality (as `style`), in standard deviations.

    Args:
        text: The text.
        factors: Those that are returned.

    Raises:
        ConfigError: The word frequencies are not installed.
    """
    found = text_features(text, factors=factors)
    return {
        factor: sum(
            sign * (found[factor][name] - mean) / deviation
            for name, (sign, mean, deviation) in parts.items()
        )
        / len(parts)
        for factor, parts in REFERENCE.items()
        if factor in factors
    }


def score_features(texts: Sequence[str]) -> dict[str, Floats]:
    """Returns the complexity and the specificity of several texts: an array (N,) for each.

    Raises:
        ConfigError: The word frequencies are not installed.
    """
    factors = ("complexity", "specificity")
    scores = [score_text(text, factors=factors) for text in texts]
    return {factor: np.array([score[factor] for score in scores]) for factor in factors}
