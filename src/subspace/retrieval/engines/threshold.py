"""Priors on top of an engine that can only rank by similarity: the threshold algorithm.

Two lists are read from their best ends: items by similarity, which the engine gives, and items by
their priors. An item on neither list so far totals at most ::

    last similarity read  +  best prior not read yet

As soon as k items read total more than that, they are the best k of all: Fagin, Lotem and Naor,
"Optimal aggregation algorithms for middleware" (J. Computer and System Sciences 66, 2003). Each
round reads both lists twice as deep as the one before.

Rescoring just the best few by similarity would be wrong wherever a prior outweighs the distance
between them and the rest. If an engine gives no more than so many items, or if few items have a
prior of their own, the search ends another way that is exact as well: those items are fetched, and
the others, which all have the same prior, are searched by similarity alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.retrieval.engines.engine import ROUNDING, Candidates, Priors

# The items most similar to some queries (their rows), best first: that many per query, fewer only
# if there are no more, without those that have such ids.
Nearest = Callable[[Sequence[int], int, Sequence[str]], list[Candidates]]
# Items by id, in any order; those that are not there, or may not be found, are left out.
Fetch = Callable[[Sequence[str]], Candidates]


# Read beyond k at first, so that a tie or two at its end needs no second call.
_SPARE = 8
# A first round with priors reads twice as many as are asked for, and no fewer than these.
_ROUND = 64


def search_by_similarity(
    queries: Vectors, *, k: int, nearest: Nearest, limit: int
) -> list[Candidates]:
    """The best `k` of each query, and what ties with the last of them.

    Args:
        queries: Queries (Q, dim), float32.
        k: How many; with fewer items, all of them.
        nearest: The engine's search.
        limit: How many items the engine gives at most. Ties beyond it are cut off.
    """
    search = _Search(queries, k=k, nearest=nearest, limit=limit)
    return search.by_similarity(range(len(queries)))


def search_with_priors(
    queries: Vectors, *, k: int, priors: Priors, nearest: Nearest, fetch: Fetch, limit: int
) -> list[Candidates]:
    """The best `k` of each query by similarity plus prior, and what ties with the last of them.

    All queries go through the rounds together: a round is one call of `nearest` for those that
    have not ended yet, and one of `fetch` for all.

    Args:
        queries: Queries (Q, dim), float32.
        k: How many; with fewer items, all of them.
        priors: What is added to the similarity of each item.
        nearest: The engine's search.
        fetch: Items by id.
        limit: How many items the engine gives at most.
    """
    search = _Search(queries, k=k, nearest=nearest, limit=limit, own=_Own.of(priors))
    return search.by_total(fetch)


@dataclass(frozen=True, eq=False)
class _Own:
    """Items that have a prior of their own, the largest first."""

    ids: tuple[str, ...] = ()
    values: Floats = field(default_factory=lambda: np.empty(0))
    default: float = 0.0
    by_id: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, priors: Priors) -> "_Own":
        values = np.asarray(priors.values, dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        return cls(
            ids=tuple(priors.ids[row] for row in order.tolist()),
            values=values[order],
            default=float(priors.default),
            by_id=dict(zip(priors.ids[: len(values)], values.tolist(), strict=True)),
        )

    @property
    def largest(self) -> float:
        """The largest prior there is, in absolute value."""
        return float(np.abs(np.append(self.values, self.default)).max())

    def between(self, start: int, end: int) -> tuple[str, ...]:
        """Ids from one place of the list to another, as far as they are above the default.

        The others need not be looked for: what was not seen may have the default anyway.
        """
        return self.ids[start : min(end, int((self.values > self.default).sum()))]

    def best_after(self, end: int) -> float:
        """The best prior of items that are not among the first `end`."""
        return max(self.default, float(self.values[end])) if end < len(self.ids) else self.default

    def at_least(self, floor: float) -> tuple[str, ...]:
        """Ids of those whose priors are not below `floor`."""
        return self.ids[: int((self.values >= floor).sum())]


@dataclass(eq=False)
class _Search:
    """One search of a batch of queries; `rows` are rows of `queries`."""

    queries: Vectors
    k: int
    nearest: Nearest
    limit: int
    own: _Own = field(default_factory=_Own)

    def __post_init__(self) -> None:
        """Floats that differ by less than the margin cannot be told apart."""
        self._margins = ROUNDING * (np.abs(self.queries).sum(axis=1) + self.own.largest)
        self._nothing = Candidates((), np.empty((0, self.queries.shape[1]), dtype=np.float32))

    def by_similarity(self, rows: Sequence[int], without: Sequence[str] = ()) -> list[Candidates]:
        """Reads deeper until the last item read is worse than the k-th."""
        done: dict[int, Candidates] = {}
        left, depth = list(rows), min(self.k + _SPARE, self.limit)
        while left:
            for row, found in zip(left, self.nearest(left, depth, without), strict=True):
                scores = self._similarities(found, row)
                ended = len(scores) < depth or depth == self.limit
                if ended or scores.min() + self._margins[row] < self._kth(scores):
                    done[row] = self._keep(found, scores, row)
            left, depth = [row for row in left if row not in done], min(2 * depth, self.limit)
        return [done[row] for row in rows]

    def by_total(self, fetch: Fetch) -> list[Candidates]:
        """Rounds of the threshold algorithm, and the other way for what they leave."""
        done: dict[int, Candidates] = {}
        seen = dict.fromkeys(range(len(self.queries)), self._nothing)
        left, start, depth = list(seen), 0, min(max(2 * self.k, _ROUND), self.limit)
        preferred, floor = self._nothing, -np.inf
        while left and depth < min(self.limit, len(self.own.ids)):
            preferred = _join(preferred, fetch(self.own.between(start, depth)))
            best_left, floor = self.own.best_after(depth), np.inf
            for row, found in zip(left, self.nearest(left, depth, ()), strict=True):
                seen[row] = _join(found, preferred)
                totals = self._totals(seen[row], row)
                # What was not seen is among the best only if its prior is not below this.
                last = self._similarities(found, row).min(initial=np.inf)
                needed = self._kth(totals) - last - self._margins[row]
                if len(found.documents) < depth or best_left < needed:
                    done[row] = self._keep(seen[row], totals, row)
                else:
                    floor = min(floor, needed)
            left, start, depth = [row for row in left if row not in done], depth, 2 * depth
        if left:
            known = {document.id for document in preferred.documents}
            missing = [name for name in self.own.at_least(floor) if name not in known]
            preferred = _join(preferred, fetch(missing))
        for row, others in zip(left, self.by_similarity(left, self.own.ids), strict=True):
            found = _join(_join(others, preferred), seen[row])
            done[row] = self._keep(found, self._totals(found, row), row)
        return [done[row] for row in seen]

    def _similarities(self, found: Candidates, row: int) -> Floats:
        return np.asarray(found.vectors.astype(np.float64) @ self.queries[row])

    def _totals(self, found: Candidates, row: int) -> Floats:
        added = [self.own.by_id.get(d.id, self.own.default) for d in found.documents]
        return self._similarities(found, row) + np.array(added, dtype=np.float64)

    def _kth(self, scores: Floats) -> float:
        """The k-th best score; with fewer items, what any item reaches."""
        if len(scores) < self.k:
            return -np.inf
        return float(np.partition(scores, len(scores) - self.k)[len(scores) - self.k])

    def _keep(self, found: Candidates, scores: Floats, row: int) -> Candidates:
        kept = np.flatnonzero(scores >= self._kth(scores) - self._margins[row])
        return Candidates(tuple(found.documents[n] for n in kept), found.vectors[kept])


def _join(first: Candidates, second: Candidates) -> Candidates:
    """Items of both, each once."""
    known = {document.id for document in first.documents}
    new = [n for n, document in enumerate(second.documents) if document.id not in known]
    return Candidates(
        first.documents + tuple(second.documents[n] for n in new),
        np.concatenate([first.vectors, second.vectors[new]]),
    )
