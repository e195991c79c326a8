"""Bootstrap replicates of steering: other queries of other texts.

What a weight does is measured on the queries and the texts of one source, and both are a sample:
the hits of all queries are often the same few texts, whose labels are no more than those few
labels however many queries there are. So texts and queries are drawn again, with replacement and
independently of each other, and a text that is drawn twice takes the place of two hits: the
*pigeonhole bootstrap* (A. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007),
which does not understate the variance of data that two kinds of things are crossed in. Versions of
one content are drawn together.

A score that each half of the texts learned from the other half needs more. If the halves agree by
chance, both show it: the direction of one half, tried on the other, and the other way round are one
result, not two. For such scores half as many texts are drawn, and each counts twice.
"""

from dataclasses import dataclass

import numpy as np

from subspace.arrays import AnyFloats, Floats, Ints, Vectors
from subspace.evaluation.scores import bootstrap_weights


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Replicates:
    """Relevance and gain at the first strengths, in every replicate.

    Attributes:
        relevance: As in `Curve`, mean over queries (C', R).
        gain: As in `Curve`, mean over queries (C', R).
    """

    relevance: Floats
    gain: Floats


@dataclass(frozen=True, eq=False)
class Resampling:
    """How often each query and each text counts in each replicate.

    Attributes:
        queries: Weights of the queries, which sum to 1 (Q, R).
        texts: How often each text was drawn (N, R).
    """

    queries: Vectors
    texts: Vectors

    @classmethod
    def draw(
        cls,
        *,
        groups: Ints,
        queries: Ints,
        among: Ints,
        count: int,
        seed: int = 0,
        copies: int = 1,
    ) -> "Resampling":
        """Draws replicates.

        Args:
            groups: Group of each text (N,), -1 for none; whole groups are drawn.
            queries: Positions of the queries among the texts (Q,).
            among: Positions of the texts that can be hits.
            count: Number of replicates R.
            seed: Seed of the draws.
            copies: How often each text that is drawn counts; as many fewer are drawn.
        """
        rng = np.random.default_rng(seed)
        asked = bootstrap_weights(groups[queries], replicates=count, rng=rng).T
        texts = np.zeros((len(groups), count), dtype=np.float32)
        drawn = bootstrap_weights(groups[among], replicates=count, rng=rng, copies=copies)
        texts[among] = drawn.T
        total = np.maximum(asked.sum(axis=0), 1)
        return cls(queries=(asked / total).astype(np.float32), texts=texts)

    def of_texts(self, values: Vectors, candidates: Vectors) -> Floats:
        """Returns the mean of values (Q, N) among the candidates of each query (Q, R).

        Args:
            values: A value of each text for each query (Q, N).
            candidates: 1 where a text is a candidate of a query, else 0 (Q, N).
        """
        total = candidates @ self.texts
        return np.asarray((values * candidates) @ self.texts / np.maximum(total, 1), np.float64)

    def of_hits(self, ranked: Ints, *values: AnyFloats, hits: int) -> list[Floats]:
        """Returns the means of some values among the hits of each query, each (Q, R).

        Args:
            ranked: Positions of the best texts of each query, the best first (Q, M); a few times
                as many as there are hits, since some are not drawn.
            values: Values of these texts (Q, M).
            hits: Number of hits.
        """
        free = np.full((len(ranked), self.texts.shape[1]), hits, dtype=np.float32)
        sums = [np.zeros_like(free) for _ in values]
        for place in range(ranked.shape[1]):
            taken = np.minimum(self.texts[ranked[:, place]], free)
            free -= taken
            for total, value in zip(sums, values, strict=True):
                total += taken * value[:, place, None].astype(np.float32)
            if not free.any():
                break
        return [total / np.maximum(hits - free, 1) for total in sums]

    def mean(self, values: AnyFloats) -> Floats:
        """Returns the mean over queries of their values (Q, R) in each replicate (R,)."""
        return np.asarray((values * self.queries).sum(axis=0), dtype=np.float64)
