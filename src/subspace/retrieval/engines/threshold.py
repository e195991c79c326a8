"""The threshold algorithm: adds priors to an engine that can rank only by similarity.

Two lists are read from their best ends: items by similarity, which the engine returns, and items
by prior. The total score of an item that was read from neither list is at most ::

    last similarity read  +  best prior not read yet

As soon as k of the items read have a higher total, they are the best k of all: Fagin, Lotem and
Naor, "Optimal aggregation algorithms for middleware" (J. Computer and System Sciences 66, 2003).
Each round reads both lists twice as deep as the one before.

Adding priors to only the most similar items would be wrong wherever a prior outweighs a difference
in similarity. If few items have a prior of their own, or the engine's limit on hits is reached,
the search ends in another exact way: the items with a prior of their own that can still matter are
fetched, and all others, which share the default prior, are searched by similarity alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.retrieval.engines.engine import ROUNDING, Candidates, Priors

# Takes rows of queries, a number of hits and ids to leave out. Returns the most similar items of
# each query, best first; fewer than that number only if there are no more.
Nearest = Callable[[Sequence[int], int, Sequence[str]], list[Candidates]]
# Returns items by id, in any order; leaves out unknown ids and items that the filter excludes.
Fetch = Callable[[Sequence[str]], Candidates]


# Hits read beyond k in the first call, so that a few ties with the k-th need no second call.
_SPARE = 8
# Least depth of the first round with priors, which otherwise reads 2 * k items.
_ROUND = 64


def search_by_similarity(
    queries: Vectors, *, k: int, nearest: Nearest, limit: int
) -> list[Candidates]:
    """Finds the best `k` items for each query by similarity, and ties with the last.

    Args:
        queries: Queries (Q, dim), float32.
        k: Number of hits; all items if there are fewer.
        nearest: The engine's search.
        limit: Largest number of hits that the engine returns. Ties beyond it are cut off.
    """
    search = _Search(queries, k=k, nearest=nearest, limit=limit)
    return search.by_similarity(range(len(queries)))


def search_with_priors(
    queries: Vectors, *, k: int, priors: Priors, nearest: Nearest, fetch: Fetch, limit: int
) -> list[Candidates]:
    """Finds the best `k` items for each query by similarity plus prior, and ties with the last.

    All queries go through the rounds together: a round calls `nearest` once, for the queries that
    are not done, and `fetch` once, for all of them.

    Args:
        queries: Queries (Q, dim), float32.
        k: Number of hits; all items if there are fewer.
        priors: Values that are added to the similarity of each item.
        nearest: The engine's search.
        fetch: The engine's items by id.
        limit: Largest number of hits that the engine returns.
    """
    search = _Search(queries, k=k, nearest=nearest, limit=limit, own=_Own.of(priors))
    return search.by_total(fetch)


@dataclass(frozen=True, eq=False)
class _Own:
    """Items that have a prior of their own, the largest first, and the default of all others."""

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
        """Largest absolute value of any prior, default included."""
        return float(np.abs(np.append(self.values, self.default)).max())

    def between(self, start: int, end: int) -> tuple[str, ...]:
        """Returns the ids at positions `start` to `end` whose priors exceed the default.

        The others need no fetching: the bound on unread items allows for the default prior anyway.
        """
        return self.ids[start : min(end, int((self.values > self.default).sum()))]

    def best_after(self, end: int) -> float:
        """Returns the best prior of items beyond the first `end`, default included."""
        return max(self.default, float(self.values[end])) if end < len(self.ids) else self.default

    def at_least(self, floor: float) -> tuple[str, ...]:
        """Returns the ids whose priors are `floor` or more."""
        return self.ids[: int((self.values >= floor).sum())]


@dataclass(eq=False)
class _Search:
    """A search with a batch of queries; a `row` is a position in `queries`."""

    queries: Vectors
    k: int
    nearest: Nearest
    limit: int
    own: _Own = field(default_factory=_Own)

    def __post_init__(self) -> None:
        """Computes the margin of each query within which scores count as equal."""
        self._margins = ROUNDING * (np.abs(self.queries).sum(axis=1) + self.own.largest)
        self._nothing = Candidates((), np.empty((0, self.queries.shape[1]), dtype=np.float32))

    def by_similarity(self, rows: Sequence[int], without: Sequence[str] = ()) -> list[Candidates]:
        """Searches deeper until the last item read is clearly worse than the k-th."""
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
        """Runs the threshold algorithm; finishes open queries in the module's other exact way."""
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
                # An unread item is among the best only if its prior is `needed` or more.
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
        """Returns the k-th best score; minus infinity if there are fewer than k."""
        if len(scores) < self.k:
            return -np.inf
        return float(np.partition(scores, len(scores) - self.k)[len(scores) - self.k])

    def _keep(self, found: Candidates, scores: Floats, row: int) -> Candidates:
        kept = np.flatnonzero(scores >= self._kth(scores) - self._margins[row])
        return Candidates(tuple(found.documents[n] for n in kept), found.vectors[kept])


def _join(first: Candidates, second: Candidates) -> Candidates:
    """Joins two lists of items, and keeps each item once."""
    known = {document.id for document in first.documents}
    new = [n for n, document in enumerate(second.documents) if document.id not in known]
    return Candidates(
        first.documents + tuple(second.documents[n] for n in new),
        np.concatenate([first.vectors, second.vectors[new]]),
    )
