"""Steering: how far a weight moves the hits of a query, and how much relevance it costs.

Queries are labelled texts of one source; candidates are its other labelled texts outside the
query's group. `rel` is a score of relevance, `steer` the score that is added; both have mean 0 and
standard deviation 1 among the candidates of a query. The strength c is swept in

    score(c) = (1 - c) rel + c steer

`kept(c)` is the mean raw cosine between query and hits, minus that of random candidates, relative
to the same difference at c = 0. The *gain* is the difference between c and 0 in one of these:

- toward a number: the mean label of the hits, in standard deviations, in the wanted direction;
- alike in a class: the share of hits of the query's own class, over one minus chance.

Methods are compared by the gain at which 95 % or 90 % of the relevance is kept; its interval is a
bootstrap over queries and texts (`steering_replicates`). Steering toward one
number should leave others as they are: what they move by at the same strength is *off target*.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from subspace.arrays import AnyFloats, Floats, Ints, Vectors
from subspace.evaluation.scores import interval
from subspace.evaluation.steering_replicates import Replicates, Resampling

HITS = 10
# Strengths that are swept; finer where most of the relevance is kept.
STRENGTHS: Floats = np.concatenate([np.arange(15) * 0.04, np.arange(6, 11) * 0.1])
KEPT = (0.95, 0.90)
_RESAMPLES = 500
# Number of texts that are ranked: enough for 10 hits in all but a few of a million replicates.
_RANKED = 32


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Curve:
    """Relevance and gain at every strength, for every query.

    Attributes:
        relevance: Mean raw cosine of the hits, minus that of random candidates (C, Q).
        gain: Gain of the hits over those at strength 0 (C, Q).
        replicates: Both in bootstrap replicates, up to the strength at which every replicate has
            less than the smallest of `KEPT` left; None if there are none.
        off_target: By name of another label, how far it moves in the hits at every strength (C,).
    """

    relevance: Floats
    gain: Floats
    replicates: Replicates | None = None
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
        """Returns the 95 % bootstrap interval of `at` over queries and texts; NaN without one."""
        if self.replicates is None:
            return float("nan"), float("nan")
        curves = zip(self.replicates.relevance.T, self.replicates.gain.T, strict=True)
        return interval([_interpolate(r / r[0], gain - gain[0], kept) for r, gain in curves])


@dataclass(frozen=True, eq=False)
class _Sweep:
    """One of the scores that are added, and what is measured of its hits.

    Attributes:
        steer: Score that is added (Q, N), standardised.
        wanted: Value of each text as a hit (Q, N).
        others: Other labels (N,) by name, NaN where a text has none.
    """

    steer: Vectors
    wanted: AnyFloats
    others: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SteeringTask:
    """Queries and candidates of one source.

    Attributes:
        queries: Positions of the queries among the texts (Q,).
        candidates: Whether each query may find each text (Q, N).
        raw: Raw cosine of queries and texts (Q, N), which judges relevance.
        resampling: Replicates of queries and texts; None for no intervals.
    """

    queries: Ints
    candidates: npt.NDArray[np.bool_]
    raw: Vectors
    resampling: Resampling | None = None

    @classmethod
    def draw(
        cls,
        raw: Vectors,
        *,
        groups: Ints,
        among: Ints,
        count: int = 200,
        seed: int = 0,
        resamples: int = _RESAMPLES,
        copies: int = 1,
    ) -> "SteeringTask":
        """Draws queries.

        Args:
            raw: Raw embeddings of unit length (N, D).
            groups: Group of each text (N,), -1 for none.
            among: Positions of the texts that serve as queries and as candidates.
            count: Number of queries; all of `among` if there are fewer.
            seed: Seed of the draw.
            resamples: Number of bootstrap replicates behind intervals; 0 for none.
            copies: How often each text that is drawn counts in them: 2 for scores that each half of
                the texts learned from the other; see `steering_replicates`.
        """
        queries = np.sort(np.random.default_rng(seed).permutation(among)[:count])
        known = np.zeros(len(raw), dtype=bool)
        known[among] = True
        candidates = np.repeat(known[None], len(queries), axis=0)
        candidates[np.arange(len(queries)), queries] = False
        same = (groups[queries][:, None] == groups[None]) & (groups[queries][:, None] >= 0)
        candidates &= ~same
        resampling = None
        if resamples:
            resampling = Resampling.draw(
                groups=groups,
                queries=queries,
                among=among,
                count=resamples,
                seed=seed,
                copies=copies,
            )
        return cls(
            queries=queries,
            candidates=candidates,
            raw=raw[queries] @ raw.T,
            resampling=resampling,
        )

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
        return self._sweep(rel, [_Sweep(steer, wanted, others or {})])

    def _sweep(self, rel: Vectors, sweeps: Sequence[_Sweep]) -> Curve:
        """Sweeps the strength of several scores, each by itself, and averages their curves."""
        shape = (len(STRENGTHS), len(self.queries))
        relevance, gain = np.zeros(shape), np.zeros(shape)
        moved = {name: np.zeros(len(STRENGTHS)) for name in sweeps[0].others}
        replicates: list[tuple[Floats, Floats]] = []
        rows = np.arange(len(self.queries))[:, None]
        for place, strength in enumerate(STRENGTHS):
            drawn: list[tuple[Floats, Floats]] = []
            for one in sweeps:
                ranked = self._rank(rel, one.steer, strength)
                raw = self.raw[rows, ranked]
                wanted = np.broadcast_to(one.wanted, self.candidates.shape)[rows, ranked]
                share = 1 / len(sweeps)
                relevance[place] += share * (raw[:, :HITS].mean(axis=1) - self._random)
                gain[place] += share * wanted[:, :HITS].mean(axis=1)
                for name, values in one.others.items():
                    found = values[ranked[:, :HITS]]
                    known = np.isfinite(found)
                    moved[name][place] += share * found[known].mean() if known.any() else 0.0
                if self.resampling is not None and not _fallen(replicates):
                    drawn.append(self._draw(self.resampling, ranked, raw, wanted))
            if drawn:
                replicates.append((_mean(r for r, _ in drawn), _mean(g for _, g in drawn)))
        return Curve(
            relevance=relevance,
            gain=gain - gain[0],
            replicates=_stack(replicates),
            off_target={name: values - values[0] for name, values in moved.items()},
        )

    def _rank(self, rel: Vectors, steer: Vectors, strength: float) -> Ints:
        """Returns the best texts of each query, the best first (Q, M)."""
        scores = np.where(
            self.candidates,
            np.float32(1 - strength) * rel + np.float32(strength) * steer,
            -np.inf,
        )
        count = int(np.clip(self.candidates.sum(axis=1).min(), HITS, _RANKED))
        best = np.argpartition(-scores, min(count, scores.shape[1] - 1), axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1)

    def _draw(
        self, resampling: Resampling, ranked: Ints, raw: Vectors, wanted: AnyFloats
    ) -> tuple[Floats, Floats]:
        relevance, gain = resampling.of_hits(ranked, raw, wanted, hits=HITS)
        return resampling.mean(relevance - self._random_replicates), resampling.mean(gain)

    @cached_property
    def _random(self) -> Vectors:
        """Mean raw cosine of each query and its candidates (Q,)."""
        return np.asarray(self.raw.mean(axis=1, where=self.candidates))

    @cached_property
    def _random_replicates(self) -> Floats:
        """The same in every replicate (Q, R)."""
        assert self.resampling is not None
        return self.resampling.of_texts(self.raw, self.candidates.astype(np.float32))

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
        more = _Sweep(up, labels[None], others)
        return self._sweep(rel, [more, _Sweep(-up, -labels[None], less)])

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
        share = 1 / (1 - chance.mean())
        drawn = curve.replicates
        return replace(
            curve,
            gain=curve.gain * share,
            replicates=drawn and replace(drawn, gain=drawn.gain * share),
        )


def _fallen(replicates: Sequence[tuple[Floats, Floats]]) -> bool:
    """Tells whether every replicate has less than the smallest of `KEPT` of its relevance left."""
    if not replicates:
        return False
    (first, _), (last, _) = replicates[0], replicates[-1]
    return bool((last < min(KEPT) * first).all())


def _stack(replicates: Sequence[tuple[Floats, Floats]]) -> Replicates | None:
    if not replicates:
        return None
    relevance, gain = zip(*replicates, strict=True)
    return Replicates(relevance=np.stack(relevance), gain=np.stack(gain))


def _mean(arrays: Iterable[Floats]) -> Floats:
    return np.asarray(np.mean(list(arrays), axis=0))


def _interpolate(kept: Floats, gained: Floats, wanted: float) -> float:
    """Returns the gain where the curve first falls to `wanted`; the last gain if it never does."""
    below = np.flatnonzero(kept < wanted)
    if not len(below):
        return float(gained[-1])
    end = int(below[0])
    share = (kept[end - 1] - wanted) / (kept[end - 1] - kept[end])
    return float(gained[end - 1] + share * (gained[end] - gained[end - 1]))
