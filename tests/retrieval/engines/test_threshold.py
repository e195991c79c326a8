"""Priors on top of a similarity search: as exact as adding them to every item's score."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from engine_world import ids, make_priors
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.data.records import Record
from subspace.retrieval.engines import Candidates, Priors, threshold
from subspace.retrieval.engines.threshold import search_by_similarity, search_with_priors

MARGIN = 1e-5


@dataclass
class World:
    """Items that an engine ranks by similarity alone, `limit` of them at most."""

    vectors: np.ndarray
    priors: Priors
    hidden: frozenset[int] = frozenset()  # what `where` leaves out
    limit: int = 16_384
    depths: list[int] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def found(self, rows) -> Candidates:
        documents = tuple(Record(id=f"d{row}", text="text") for row in rows)
        return Candidates(documents, self.vectors[list(rows)])

    def search(self, queries: np.ndarray, *, k: int) -> list[Candidates]:
        def nearest(rows, depth, without):
            assert depth <= self.limit
            self.depths.append(depth)
            left_out = {*without, *(f"d{row}" for row in self.hidden)}
            kept = [n for n in range(len(self.vectors)) if f"d{n}" not in left_out]
            order = [np.argsort(-(self.vectors[kept] @ queries[row])) for row in rows]
            return [self.found(np.array(kept, dtype=int)[best[:depth]]) for best in order]

        if not self.priors.ids:
            return search_by_similarity(queries, k=k, nearest=nearest, limit=self.limit)
        return search_with_priors(
            queries, k=k, priors=self.priors, nearest=nearest, fetch=self.fetch, limit=self.limit
        )

    def fetch(self, ids) -> Candidates:
        self.fetched += ids
        rows = [int(name[1:]) for name in ids]
        return self.found([n for n in rows if n < len(self.vectors) and n not in self.hidden])

    def totals(self, query: np.ndarray) -> dict[str, float]:
        """The definition: similarity plus prior, of every item."""
        own = dict(zip(self.priors.ids, self.priors.values, strict=True))
        return {
            f"d{n}": float(vector @ query) + own.get(f"d{n}", self.priors.default)
            for n, vector in enumerate(self.vectors)
            if n not in self.hidden
        }


def best(world: World, query: np.ndarray, *, k: int) -> set[str]:
    """The best k and all that ties with the last of them, by sorting everything."""
    totals = world.totals(query)
    kth = sorted(totals.values(), reverse=True)[:k][-1] if totals else 0.0
    return {name for name, total in totals.items() if total >= kth - MARGIN or k >= len(totals)}


@contextmanager
def small_rounds(small: bool):
    """Small worlds end in the first round unless that is small, too."""
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(threshold, "_ROUND", 1)
            patch.setattr(threshold, "_SPARE", 0)
        yield


# Few different numbers, so that ties are everywhere.
NUMBERS = st.integers(-4, 4).map(lambda number: number / 4)


@st.composite
def worlds(draw):
    count = draw(st.integers(0, 24))
    vectors = draw(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=count, max_size=count))
    # Some of them are of items that are not in the index.
    owners = draw(st.permutations([f"d{n}" for n in range(count + 6)]))
    owners = owners[: draw(st.integers(0, len(owners)))]
    values = draw(st.lists(NUMBERS, min_size=len(owners), max_size=len(owners)))
    hidden = draw(st.frozensets(st.integers(0, 23), max_size=10))
    default = draw(NUMBERS)
    world = World(
        np.array(vectors, dtype=np.float32).reshape(count, 2),
        make_priors(dict(zip(owners, values, strict=True)), default=default),
        hidden,
    )
    queries = draw(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3))
    return world, np.array(queries, dtype=np.float32), draw(st.integers(1, 30))


@given(worlds(), st.booleans())
@settings(max_examples=120, deadline=None)
def test_it_finds_what_sorting_everything_finds_with_all_ties(case, small):
    world, queries, k = case
    with small_rounds(small):
        found = world.search(queries, k=k)
    for query, items in zip(queries, found, strict=True):
        assert len(set(ids(items))) == len(ids(items))
        assert set(ids(items)) == best(world, query, k=k)
        rows = [int(name[1:]) for name in ids(items)]
        np.testing.assert_array_equal(items.vectors, world.vectors[rows])


@given(worlds(), st.integers(1, 12), st.booleans())
@settings(max_examples=120, deadline=None)
def test_an_engine_that_gives_few_items_changes_no_score(case, limit, small):
    """Only ties may be cut off."""
    world, queries, k = case
    world.limit = max(limit, k)
    with small_rounds(small):
        found = world.search(queries, k=k)
    for query, items in zip(queries, found, strict=True):
        totals = world.totals(query)
        ours = sorted((totals[name] for name in ids(items)), reverse=True)[:k]
        np.testing.assert_allclose(ours, sorted(totals.values(), reverse=True)[:k], atol=MARGIN)


def ladder(count: int) -> np.ndarray:
    """Unit vectors, each a step less similar to (1, 0)."""
    similarities = np.linspace(1, 0, count)
    return np.stack([similarities, np.sqrt(1 - similarities**2)], axis=1).astype(np.float32)


QUERY = np.array([[1.0, 0.0]], dtype=np.float32)


def test_rescoring_the_most_similar_would_have_been_wrong():
    world = World(
        ladder(1_000), make_priors({f"d{n}": 1.0 if n == 900 else 0.1 for n in range(990)})
    )
    k = 10
    most_similar = [f"d{n}" for n in range(4 * k)]
    totals = world.totals(QUERY[0])
    rescored = sorted(most_similar, key=totals.__getitem__)[-k:]
    (found,) = world.search(QUERY, k=k)
    assert "d900" not in rescored
    assert "d900" in ids(found)
    assert set(ids(found)) == best(world, QUERY[0], k=k)


def test_it_reads_few_items_where_priors_say_little():
    rng = np.random.default_rng(0)
    count = 20_000
    world = World(ladder(count), make_priors({f"d{n}": 0.1 * rng.random() for n in range(count)}))
    (found,) = world.search(QUERY, k=10)
    assert set(ids(found)) == best(world, QUERY[0], k=10)
    assert max(world.depths) < count / 4
    assert len(world.fetched) < count / 4


def test_with_few_priors_it_takes_one_search_and_one_fetch():
    world = World(ladder(1_000), make_priors({"d900": 1.0, "d1": -1.0, "d5000": 9.0}))
    (found,) = world.search(QUERY, k=3)
    assert set(ids(found)) == best(world, QUERY[0], k=3)
    assert "d900" in ids(found)
    assert len(world.depths) == 1
    assert sorted(world.fetched) == ["d1", "d5000", "d900"]


@pytest.mark.parametrize("others", [0, 5, 1_000])
@pytest.mark.parametrize("default", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("low", [-3.0, 0.0])
def test_it_ends_at_the_limit_of_the_engine_and_is_exact(others, default, low):
    """Thousands of items have priors of their own, most of them worse than those of the others."""
    rng = np.random.default_rng(0)
    priors = make_priors(
        {f"d{n}": low + float(rng.random() ** 4) for n in range(3_000)}, default=default
    )
    world = World(ladder(3_000 + others), priors, limit=512)
    queries = np.array([[1, 0], [0.1, 0], [9, 9], [-1, 0], [0.1, 0], [9, 0]], dtype=np.float32)
    for query, found in zip(queries, world.search(queries, k=10), strict=True):
        assert set(ids(found)) == best(world, query, k=10)


def test_at_the_limit_only_items_that_can_still_win_are_fetched():
    priors = make_priors({f"d{n}": 0.0 for n in range(3_000)}, default=0.9)
    world = World(ladder(4_000), priors, limit=512)
    (found,) = world.search(QUERY, k=10)
    assert set(ids(found)) == best(world, QUERY[0], k=10)
    assert world.fetched == []


def test_ids_are_read_as_far_as_there_are_values():
    """The list of ids may have grown since the values were taken."""
    priors = make_priors({"d3": 5.0})
    priors.ids.append("d4")
    world = World(ladder(8), priors)
    found = search_with_priors(
        QUERY,
        k=1,
        priors=priors,
        nearest=lambda rows, depth, without: [world.found([0, 1, 2]) for _ in rows],
        fetch=world.fetch,
        limit=8,
    )
    assert ids(found[0]) == ["d3"]


def test_a_batch_costs_the_rounds_of_its_longest_query():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(2_000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    priors = make_priors({f"d{n}": float(rng.random()) for n in range(2_000)})
    queries = vectors[:5] * np.array([[9], [3], [1], [0.3], [0.1]], dtype=np.float32)
    alone = []
    for query in queries:
        world = World(vectors, priors)
        (found,) = world.search(query[None], k=5)
        assert set(ids(found)) == best(world, query, k=5)
        alone.append(len(world.depths))
    world = World(vectors, priors)
    together = world.search(queries, k=5)
    assert [set(ids(found)) for found in together] == [best(world, q, k=5) for q in queries]
    assert len(world.depths) == max(alone)
    assert len(set(alone)) > 1
