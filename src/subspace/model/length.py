"""Directions that do not prefer long or short texts.

Longer texts of one kind are often simpler, or harder: a direction toward a factor then takes length
along. The number of words is known of the texts that are searched, so the part of a direction that
follows it is taken out without labels. With c the covariance of each dimension with the logarithm
of the number of words,

    u' = u - c (c.u) / (c.c)

orders these texts without correlation with their length.
"""

from collections.abc import Sequence

import numpy as np

from subspace.arrays import AnyFloats, Floats

# Chance decides the covariance of few texts: that of n texts is taken out by n / (n + 50).
_FEW = 50


def log_words(texts: Sequence[str]) -> Floats:
    """Returns the logarithm of the number of words of each text (N,); 0 for a text without any."""
    return np.log([max(len(text.split()), 1) for text in texts]).reshape(len(texts))


def length_covariance(vectors: AnyFloats, texts: Sequence[str]) -> Floats:
    """Returns the covariance of dimensions (N, dim) with the logarithm of the number of words."""
    words = log_words(texts)
    if not len(words) or np.ptp(words) == 0:  # rounding would give a direction, too
        return np.zeros(vectors.shape[1])
    return np.asarray((words - words.mean()) @ vectors.astype(np.float64) / len(words))


def without_length(direction: AnyFloats, covariance: Floats, *, count: int) -> Floats:
    """Returns a direction without the part that follows the number of words.

    Args:
        direction: A direction (dim,); dimensions that are 0 stay 0.
        covariance: Made by `length_covariance`.
        count: Number of texts that the covariance was measured on.
    """
    part = np.where(direction != 0, covariance, 0)
    energy = float(part @ part)
    if energy <= 0:  # all texts have the same number of words
        return direction.astype(np.float64)
    share = count / (count + _FEW)
    return np.asarray(direction - share * part * (part @ direction) / energy)
