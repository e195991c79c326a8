"""Directions that do not prefer long or short texts.

Longer texts of one kind are often simpler, or harder: a direction toward a factor then takes length
along. The number of words is known of the texts that are searched, so the part of a direction that
follows it is taken out without labels. With c the covariance of each dimension of a block with the
logarithm of the number of words, S the covariance of its dimensions and

    g = (S + l I)^-1 c,    u' = u - g (c.u) / (c.g),

u' orders these texts without correlation with their length (but for a block of one dimension, where
nothing else would be left). Without l, <g, z> would be the linear regression of that logarithm on a
block z, so that u' changes the scores <u, z> as little as can be: like a regression of the scores
themselves. l keeps small dimensions from being fitted to chance. A direction over several blocks
has a g of each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import AnyFloats, Floats, Vectors

# Chance decides the covariance of few texts: that of n texts is taken out by n / (n + 50).
_FEW = 50
# l, as a share of the mean variance of a block's dimensions. On corpora that no fit saw, 0.03 to 3
# differ by less than 0.005 in what hits gain (LOG.md).
_SMOOTHING = 0.1


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class LengthTrend:
    """How blocks follow the number of words.

    Attributes:
        covariance: Covariance c of each dimension with the logarithm of the number of words (dim,).
        slope: The g of each block (dim,).
        blocks: The dimensions of each block.
        count: Number of texts that it was measured on.
    """

    covariance: Floats
    slope: Floats
    blocks: Sequence[slice]
    count: int

    @classmethod
    def measure(
        cls, vectors: Vectors, texts: Sequence[str], *, blocks: Iterable[slice] | None = None
    ) -> "LengthTrend":
        """Measures it on texts.

        Args:
            vectors: Their vectors (N, dim).
            texts: The texts.
            blocks: The dimensions of each block; None for one block of all dimensions.
        """
        places = [slice(0, vectors.shape[1])] if blocks is None else list(blocks)
        covariance, slope = np.zeros((2, vectors.shape[1]))
        words = log_words(texts)
        if len(words) and np.ptp(words):  # rounding would give a direction, too
            words = words - words.mean()
            centred = vectors - vectors.mean(axis=0)
            covariance = words @ centred.astype(np.float64) / len(words)
            for place in places:
                slope[place] = _slope(centred[:, place], covariance[place])
        return cls(covariance, slope, places, len(words))

    def taken_out_of(self, direction: AnyFloats) -> Floats:
        """Returns a direction (dim,) without the part that follows the number of words.

        Blocks in which it is 0 stay 0.
        """
        found = direction.astype(np.float64)
        used = np.zeros(len(found), np.bool_)
        for place in self.blocks:
            used[place] = found[place].any()
        slope = np.where(used, self.slope, 0)
        energy = float(self.covariance @ slope)
        if energy <= 0:  # all texts have the same number of words
            return found
        share = self.count / (self.count + _FEW)
        along = float(self.covariance[used] @ found[used])
        return np.asarray(found - share * along / energy * slope)


def log_words(texts: Sequence[str]) -> Floats:
    """Returns the logarithm of the number of words of each text (N,); 0 for a text without any."""
    return np.log([max(len(text.split()), 1) for text in texts]).reshape(len(texts))


def _slope(centred: Vectors, covariance: Floats) -> Floats:
    scatter = (centred.T @ centred).astype(np.float64) / len(centred)
    variance = float(np.trace(scatter)) / len(scatter)
    if variance <= 0:
        return np.zeros(len(scatter))
    smoothed = scatter + _SMOOTHING * variance * np.eye(len(scatter))
    return np.asarray(np.linalg.solve(smoothed, covariance), np.float64)
