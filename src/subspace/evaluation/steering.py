"""Steering: how far a weight moves the hits of a query, and how much relevance it costs.

Queries are labelled texts of one source; candidates are its other labelled texts outside the
query's group. `rel` is a score of relevance, `steer` the score that is added; both have mean 0 and
standard deviation 1 among the candidates of a query. The strength c is swept in

    score(c) = (1 - c) rel + c steer

`kept(c)` is the mean raw cosine between query and hits, minus that of random candidates, relative
to the same difference at c = 0. The *gain* is the difference between c and 0 in one of these:

- toward a number: the mean label of the hits, in standard deviations, in the wanted direction;
- alike in a class: the share of hits of the query's own class, over one minus chance.

Methods are compared by the gain at which 95 % or 90 % of the relevance is kept. Steering toward one
number should leave others as they are: what they move by at the same strength is *off target*.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from subspace.arrays import AnyFloats, Floats, Ints, Vectors

HITS = 10
# Strengths that are swept; finer where most of the relevance is kept.
STRENGTHS: Floats = np.concatenate([np.arange(15) * 0.04, np.arange(6, 11) * 0.1])
KEPT = (0.95, 0.90)
_RESAMPLES = 500


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Curve:
    """Relevance and gain at every strength, for every query.

    Attributes:
        relevance: Mean raw cosine of the hits, minus that of random candidates (C, Q).
        gain: Gain of the hits over those at strength 0 (C, Q).
        off_target: By name of another label, how far it moves in the hits at every strength (C,).
    """

    relevance: Floats
    gain: Floats
    off_target: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def kept(self) -> Floats:
        """Share of the relevance that each strength keeps (C,)."""
        means = self.relevance.mean(axis=1)
        return np.asarray(means / means[0])

    @property
    def gained(self) -> Floats:
        """Mean gain at each strength (C,)."""
        return np.asarray(self.gain.mean(axis=1))

    def at(self, kept: float) -> float:
        """Returns the gain at which the share `kept` of the relevance is kept."""
        return _interpolate(self.kept, self.gained, kept)

    def off_target_at(self, kept: float) -> dict[str, float]:
        """Returns how far other labels move where the share `kept` of the relevance is kept."""
        return {
            name: _interpolate(self.kept, moved, kept) for name, moved in self.off_target.items()
        }

    def interval(self, kept: float) -> tuple[float, float]:
        """Returns the 95 % bootstrap interval of `at` over queries."""
        count = self.gain.shape[1]
        drawn = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
        relevance = self.relevance[:, drawn].mean(axis=2)
        gain = self.gain[:, drawn].mean(axis=2)
        found = [_interpolate(r / r[0], g, kept) for r, g in zip(relevance.T, gain.T, strict=True)]
        low, high = np.quantile(found, (0.025, 0.975))
        return float(low), float(high)

    def __add__(self, other: "Curve") -> "Curve":
        """Averages two curves of the same queries, such as toward more and toward less."""
        return Curve(
            relevance=(self.relevance + other.relevance) / 2,
            gain=(self.gain + other.gain) / 2,
            off_target={
                name: (moved + other.off_target[name]) / 2
                for name, moved in self.off_target.items()
            },
        )


@dataclass(frozen=True, eq=False)
class SteeringTask:
    """Queries and candidates of one source.

    Attributes:
        queries: Positions of the queries among the texts (Q,).
        candidates: Whether each query may find each text (Q, N).
        raw: Raw cosine of queries and texts (Q, N), which judges relevance.
    """

    queries: Ints
    candidates: npt.NDArray[np.bool_]
    raw: Vectors

    @classmethod
    def draw(
        cls, raw: Vectors, *, groups: Ints, among: Ints, count: int = 200, seed: int = 0
    ) -> "SteeringTask":
        """Draws queries.

        Args:
            raw: Raw embeddings of unit length (N, D).
            groups: Group of each text (N,), -1 for none.
            among: Positions of the texts that serve as queries and as candidates.
            count: Number of queries; all of `among` if there are fewer.
            seed: Seed of the draw.
        """
        queries = np.sort(np.random.default_rng(seed).permutation(among)[:count])
        known = np.zeros(len(raw), dtype=bool)
        known[among] = True
        candidates = np.repeat(known[None], len(queries), axis=0)
        candidates[np.arange(len(queries)), queries] = False
        same = (groups[queries][:, None] == groups[None]) & (groups[queries][:, None] >= 0)
        candidates &= ~same
        return cls(queries=queries, candidates=candidates, raw=raw[queries] @ raw.T)

    def standardize(self, scores: AnyFloats) -> Vectors:
        """Scales scores (Q, N) to mean 0 and standard deviation 1 among each query's candidates."""
        scores = np.broadcast_to(scores, self.candidates.shape).astype(np.float32)
        mean = scores.mean(axis=1, keepdims=True, where=self.candidates)
        deviation = scores.std(axis=1, keepdims=True, where=self.candidates)
        return np.asarray((scores - mean) / np.where(deviation > 0, deviation, 1), np.float32)

    def sweep(
        self,
        rel: Vectors,
        steer: Vectors,
        *,
        wanted: AnyFloats,
        others: Mapping[str, Floats] | None = None,
    ) -> Curve:
        """Sweeps the strength, and measures relevance and gain of the hits.

        Args:
            rel: Relevance (Q, N), standardised.
            steer: Score that is added (Q, N), standardised.
            wanted: Value of each text as a hit (Q, N): its label, or whether it has the query's
                class.
            others: Other labels (N,) by name, NaN where a text has none.
        """
        others = others or {}
        moved = {name: np.zeros(len(STRENGTHS)) for name in others}
        relevance = np.zeros((len(STRENGTHS), len(self.queries)))
        gain = np.zeros_like(relevance)
        random = self.raw.mean(axis=1, where=self.candidates)
        wanted = np.broadcast_to(wanted, self.candidates.shape)
        rows = np.arange(len(self.queries))[:, None]
        for place, strength in enumerate(STRENGTHS):
            scores = np.where(
                self.candidates,
                np.float32(1 - strength) * rel + np.float32(strength) * steer,
                -np.inf,
            )
            hits = np.argpartition(-scores, HITS, axis=1)[:, :HITS]
            relevance[place] = self.raw[rows, hits].mean(axis=1) - random
            gain[place] = wanted[rows, hits].mean(axis=1)
            for name, values in others.items():
                found = values[hits]
                known = np.isfinite(found)
                moved[name][place] = found[known].mean() if known.any() else 0.0
        off_target = {name: values - values[0] for name, values in moved.items()}
        return Curve(relevance=relevance, gain=gain - gain[0], off_target=off_target)

    def toward(
        self,
        rel: Vectors,
        steer: AnyFloats,
        *,
        labels: AnyFloats,
        others: Mapping[str, Floats] | None = None,
    ) -> Curve:
        """Sweeps toward more and toward less of a number, and averages the two curves.

        Args:
            rel: Relevance (Q, N), standardised.
            steer: Score of each text (N,), higher for more of the factor.
            labels: Labels (N,) with mean 0 and standard deviation 1 among the labelled texts.
            others: Other labels on the same scale, NaN where a text has none.
        """
        up, others = self.standardize(steer[None]), others or {}
        less = {name: -values for name, values in others.items()}
        return self.sweep(rel, up, wanted=labels[None], others=others) + self.sweep(
            rel, -up, wanted=-labels[None], others=less
        )

    def alike(self, rel: Vectors, steer: AnyFloats, *, codes: Ints) -> Curve:
        """Sweeps toward texts of the query's own class.

        Args:
            rel: Relevance (Q, N), standardised.
            steer: Similarity of queries and texts (Q, N).
            codes: Class of each text (N,).
        """
        same = codes[self.queries][:, None] == codes[None]
        curve = self.sweep(rel, self.standardize(steer), wanted=same)
        chance = same.mean(axis=1, where=self.candidates)
        return Curve(relevance=curve.relevance, gain=curve.gain / (1 - chance.mean()))


def _interpolate(kept: Floats, gained: Floats, wanted: float) -> float:
    """Returns the gain where the curve first falls to `wanted`; the last gain if it never does."""
    below = np.flatnonzero(kept < wanted)
    if not len(below):
        return float(gained[-1])
    end = int(below[0])
    share = (kept[end - 1] - wanted) / (kept[end - 1] - kept[end])
    return float(gained[end - 1] + share * (gained[end] - gained[end - 1]))
