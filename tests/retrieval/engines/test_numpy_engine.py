"""The exact engine: what it keeps, what it finds, and what it takes in."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.blocks import BlockLayout, unit_blocks
from subspace.data.retrieval_sets import Document
from subspace.errors import ConfigError, EngineError, LayoutError, QueryError
from subspace.retrieval.engines import Found, NumpyEngine, Priors

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3, "tone": 2})


def unit_vectors(count: int, *, seed: int = 0) -> np.ndarray:
    z = np.random.default_rng(seed).normal(size=(count, LAYOUT.dim)).astype(np.float32)
    return unit_blocks(z, layout=LAYOUT)


def documents(*names: str, text: str = "a text", **metadata) -> list[Document]:
    return [Document(id=name, text=text, metadata=metadata) for name in names]


def make_engine(count: int = 30, *, dtype: str = "float32", seed: int = 0) -> NumpyEngine:
    engine = NumpyEngine(layout=LAYOUT, projection_digest="0" * 64, dtype=dtype)
    engine.upsert(documents(*[f"d{n}" for n in range(count)]), unit_vectors(count, seed=seed))
    return engine


def ids(found: Found) -> list[str]:
    return [document.id for document in found.documents]


# What it keeps.


def test_a_document_given_again_replaces_the_old_one_in_its_place():
    engine, changed = make_engine(5), unit_vectors(2, seed=9)
    engine.upsert(documents("d3", "new", text="another", lang="en"), changed)
    assert [document.id for document in engine.documents] == ["d0", "d1", "d2", "d3", "d4", "new"]
    found = engine.fetch(["d3"])
    assert found.documents == tuple(documents("d3", text="another", lang="en"))
    np.testing.assert_array_equal(found.vectors, changed[:1])
    np.testing.assert_array_equal(engine.vectors[[0, 1, 2, 4]], unit_vectors(5)[[0, 1, 2, 4]])


def test_removing_passes_over_what_is_not_there():
    engine = make_engine(6)
    assert engine.delete(["d1", "nowhere", "d4", "d1"]) == 2
    assert [document.id for document in engine.documents] == ["d0", "d2", "d3", "d5"]
    np.testing.assert_array_equal(engine.vectors, unit_vectors(6)[[0, 2, 3, 5]])
    assert engine.delete([]) == engine.delete(["d1"]) == 0
    assert engine.count() == 4


def test_fetching_gives_what_is_there_in_the_order_asked_for():
    engine = make_engine(6)
    found = engine.fetch(["d4", "nowhere", "d0", "d4"])
    assert ids(found) == ["d4", "d0", "d4"]
    np.testing.assert_array_equal(found.vectors, unit_vectors(6)[[4, 0, 4]])
    nothing = engine.fetch([])
    assert nothing.documents == () and nothing.vectors.shape == (0, LAYOUT.dim)


def test_what_is_fetched_or_given_can_be_changed_without_changing_the_engine():
    vectors = unit_vectors(3)
    engine = NumpyEngine(layout=LAYOUT, projection_digest="0" * 64)
    engine.upsert(documents("a", "b", "c"), vectors)
    vectors[:] = 0
    engine.fetch(["a"]).vectors[:] = 0
    engine.search(unit_vectors(1), k=3)[0].vectors[:] = 0
    np.testing.assert_array_equal(engine.vectors, unit_vectors(3))


steps = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(0, 12), max_size=6, unique=True)), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(steps=steps, dtype=st.sampled_from(["float32", "float16"]))
def test_any_order_of_adding_and_removing_ends_with_what_a_dictionary_would(steps, dtype):
    engine = NumpyEngine(layout=LAYOUT, projection_digest="0" * 64, dtype=dtype)
    kept: dict[str, np.ndarray] = {}
    for number, (adds, names) in enumerate(steps):
        if adds:
            vectors = unit_vectors(len(names), seed=number)
            engine.upsert(documents(*map(str, names), text=f"step {number}"), vectors)
            kept.update(zip(map(str, names), vectors.astype(dtype), strict=True))
        else:
            gone = [str(name) for name in names if str(name) in kept]
            assert engine.delete(list(map(str, names))) == len(gone)
            for name in gone:
                del kept[name]
    assert [document.id for document in engine.documents] == list(kept)
    wanted = np.array(list(kept.values())).reshape(-1, LAYOUT.dim)
    np.testing.assert_array_equal(engine.vectors, wanted)
    assert set(ids(engine.search(unit_vectors(1), k=99)[0])) == set(kept)


def test_a_sample_is_of_different_documents_and_the_same_each_time():
    engine = make_engine(30)
    sample = engine.sample(10)
    assert len(set(ids(sample))) == 10
    assert ids(engine.sample(10)) == ids(sample)
    assert ids(engine.sample(99)) == [f"d{n}" for n in range(30)]


# Half precision.


def test_half_precision_halves_the_memory_and_rounds_by_less_than_a_thousandth():
    full, half = make_engine(300), make_engine(300, dtype="float16")
    assert half.vectors.nbytes * 2 == full.vectors.nbytes
    np.testing.assert_allclose(half.vectors, full.vectors, atol=5e-4)
    assert (half.vectors != full.vectors).any()
    assert half.fetch(["d7"]).vectors.dtype == np.float32


def test_a_search_in_half_precision_is_exact_on_the_vectors_that_are_kept():
    """More rows than are widened at once, so that the last piece is a part of one."""
    engine = make_engine(5000, dtype="float16")
    kept = engine.vectors.astype(np.float64)
    for query in unit_vectors(3, seed=1):
        best = np.argsort(-(kept @ query), kind="stable")[:10]
        assert {f"d{row}" for row in best} <= set(ids(engine.search(query[None], k=10)[0]))


@pytest.mark.parametrize("dtype", ["float64", "int8", "half", "", None])
def test_another_precision_is_refused_with_those_there_are(dtype):
    with pytest.raises(ConfigError, match="kept as float32 or float16"):
        NumpyEngine(layout=LAYOUT, projection_digest="0" * 64, dtype=dtype)


# What it finds.


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 100),
    k=st.integers(1, 40),
    own=st.dictionaries(st.integers(0, 40), st.floats(-3, 3), max_size=20) | st.none(),
    dtype=st.sampled_from(["float32", "float16"]),
)
def test_the_best_are_found_with_and_without_priors(seed, k, own, dtype):
    """All of the best `k` by a slow sum, and nothing that is clearly worse than the last."""
    engine = make_engine(30, dtype=dtype, seed=seed)
    priors = None
    if own is not None:
        priors = Priors([f"d{n}" for n in own], np.array(list(own.values())), default=0.5)
    queries = unit_vectors(3, seed=seed + 1)
    for query, found in zip(queries, engine.search(queries, k=k, priors=priors), strict=True):
        scores = {
            f"d{n}": float(vector.astype(np.float64) @ query)
            + (0.0 if own is None else own.get(n, 0.5))
            for n, vector in enumerate(engine.vectors)
        }
        last = sorted(scores.values(), reverse=True)[:k][-1]
        assert {name for name, score in scores.items() if score > last + 1e-5} <= set(ids(found))
        assert all(scores[name] > last - 1e-4 for name in ids(found))
        assert len(found.documents) >= min(k, 30)
        assert len(set(ids(found))) == len(found.documents)


def test_priors_may_grow_at_their_end_and_items_may_come_and_go():
    """What the engine remembers of them is never what is no longer so."""
    engine, names = make_engine(10), ["nowhere", "d3"]
    query = np.zeros((1, LAYOUT.dim), dtype=np.float32)

    def best(values: list[float]) -> str:
        found = engine.search(
            query, k=1, priors=Priors(names, np.array(values, dtype=float), default=0.5)
        )[0]
        return ids(found)[0]

    assert best([9, 1]) == "d3"
    names.append("d5")
    assert best([9, 1, 2]) == "d5"
    assert best([9, 1]) == "d3"  # fewer values than names: the list grew meanwhile
    engine.delete(["d0", "d5"])
    assert best([9, 1, 2]) == "d3"
    engine.upsert(documents("nowhere", "d5"), unit_vectors(2))
    assert best([9, 1, 2]) == "nowhere"
    assert best([0, 1, 2]) == "d5"
    other = ["d7"]
    names, kept = other, names
    assert best([3]) == "d7"
    names = kept
    assert best([0, 1, 2]) == "d5"


def test_a_batch_larger_than_is_scored_at_once_is_scored_whole():
    engine, queries = make_engine(50), unit_vectors(150, seed=1)
    batch = engine.search(queries, k=3)
    assert len(batch) == 150
    for query, found in zip(queries, batch, strict=True):
        alone = engine.search(query[None], k=3)[0]
        assert ids(alone) == ids(found)


def test_an_empty_engine_finds_nothing_for_any_number_of_queries():
    engine = make_engine(0)
    priors = Priors(["d0"], np.array([1.0]), default=0.5)
    for options in ({}, {"priors": priors}, {"where": {"lang": "en"}}):
        found = engine.search(unit_vectors(2), k=3, **options)
        assert [ids(one) for one in found] == [[], []]
    assert engine.search(unit_vectors(0), k=3) == []
    assert engine.count() == engine.count({"lang": "en"}) == 0


def test_small_differences_of_large_priors_are_told_apart():
    """The margin of rounding grows with the priors, so that no best item is cut off."""
    engine = make_engine(200)
    values = 1e4 + np.random.default_rng(0).uniform(0, 1e-3, size=200)
    priors = Priors([f"d{n}" for n in range(200)], values, default=0.0)
    query = 1e-3 * unit_vectors(1, seed=1)
    found = ids(engine.search(query, k=5, priors=priors)[0])
    best = np.argsort(-(engine.vectors.astype(np.float64) @ query[0] + values))[:5]
    assert {f"d{row}" for row in best} <= set(found)


# Filters.


PEOPLE: list[Mapping] = [
    {"lang": "en", "year": 1999, "good": True},
    {"lang": "de", "year": 2001.5, "good": False},
    {"lang": "en", "year": 1},
    {"lang": "'; DROP TABLE items; --", "good": 1},
    {},
]


@pytest.fixture
def people() -> NumpyEngine:
    engine = NumpyEngine(layout=LAYOUT, projection_digest="0" * 64)
    items = [Document(id=f"d{n}", text="a", metadata=metadata) for n, metadata in enumerate(PEOPLE)]
    engine.upsert(items, unit_vectors(5))
    return engine


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (None, [0, 1, 2, 3, 4]),
        ({}, [0, 1, 2, 3, 4]),
        ({"lang": "en"}, [0, 2]),
        ({"lang": ["en", "de"]}, [0, 1, 2]),
        ({"lang": ("en",), "year": 1999.0}, [0]),
        ({"year": [1, 2001.5]}, [1, 2]),
        ({"year": True}, []),
        ({"good": True}, [0]),
        ({"good": 1}, [3]),
        ({"good": [True, 1]}, [0, 3]),
        ({"good": False}, [1]),
        ({"good": 0}, []),
        ({"year": "1999"}, []),
        ({"lang": "'; DROP TABLE items; --"}, [3]),
        ({"lang' OR 1=1; --": "en"}, []),
        ({"lang": "EN"}, []),
        ({"lang": ""}, []),
    ],
)
@pytest.mark.parametrize("k", [1, 5])
def test_a_filter_finds_those_alone_and_true_is_not_one(where, rows, k, people):
    found = people.search(unit_vectors(1, seed=3), k=k, where=where)[0]
    scores = unit_vectors(5) @ unit_vectors(1, seed=3)[0]
    wanted = sorted(rows, key=lambda row: -scores[row])[:k]
    assert set(ids(found)) == {f"d{row}" for row in wanted}
    assert people.count(where) == len(rows)


@pytest.mark.parametrize(
    "where",
    [
        {"lang": []},
        {"lang": None},
        {"lang": [None]},
        {"lang": float("nan")},
        {"lang": [1, math.inf]},
        {"lang": 10**400},
        {"lang": {"eq": "en"}},
        {"lang": "a\0b"},
        {"lang": "\ud800"},
        {"": "en"},
        {"\ud800": "en"},
        {1: "en"},
    ],
    ids=lambda where: f"{where!r:.30}",
)
def test_a_filter_that_is_none_is_refused(where, people):
    for ask in (
        lambda: people.search(unit_vectors(1), k=1, where=where),
        lambda: people.count(where),
    ):
        with pytest.raises(QueryError):
            ask()


# What it refuses.


def refused_and_unchanged(items, vectors, error, message, *, engine: NumpyEngine) -> None:
    before, kept = engine.documents, engine.vectors.copy()
    with pytest.raises(error, match=message):
        engine.upsert(items, vectors)
    assert engine.documents == before
    np.testing.assert_array_equal(engine.vectors, kept)


@pytest.mark.parametrize("bad", ["", "a\0b", "half \ud800", None, 7])
@pytest.mark.parametrize("place", ["id", "text"])
def test_an_id_or_text_that_cannot_be_written_is_refused_and_nothing_of_the_batch_kept(place, bad):
    good = documents("d1", "d9")
    broken = Document(**{"id": "x", "text": "y", place: bad})
    refused_and_unchanged(
        [*good, broken],
        unit_vectors(3),
        EngineError,
        f"the {place} of a doc",
        engine=make_engine(5),
    )


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": float("nan")},
        {"a": math.inf},
        {"a": None},
        {"a": [1]},
        {"a": {}},
        {"a": "half \ud800"},
        {"half \ud800": 1},
        {"a": np.float32(1)},
        {1: "a"},
    ],
    ids=repr,
)
def test_metadata_that_cannot_be_written_or_filtered_by_is_refused(metadata):
    broken = Document(id="x", text="y", metadata=metadata)
    refused_and_unchanged(
        [broken], unit_vectors(1), EngineError, "metadata.*'x'|'x'.*metadata", engine=make_engine(5)
    )


def test_an_id_given_twice_is_refused_and_nothing_of_the_batch_kept():
    refused_and_unchanged(
        documents("x", "y", "x"), unit_vectors(3), EngineError, "once: x$", engine=make_engine(5)
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_by_its_document(value):
    vectors = unit_vectors(3)
    vectors[1, 9] = value
    message = "vector of document 'y' holds NaN or infinity"
    refused_and_unchanged(
        documents("x", "y", "z"), vectors, LayoutError, message, engine=make_engine(5)
    )


@pytest.mark.parametrize("shape", [(2, 10), (4, 10), (3, 9), (3, 11), (30,), (3, 10, 1), (0, 10)])
def test_vectors_of_another_shape_are_refused_with_both(shape):
    vectors = np.ones(shape, dtype=np.float32)
    refused_and_unchanged(
        documents("x", "y", "z"), vectors, LayoutError, r"of shape \(3, 10\)", engine=make_engine(5)
    )


def test_adding_nothing_changes_nothing():
    engine = make_engine(5)
    engine.upsert([], unit_vectors(0))
    assert engine.count() == 5


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", None], ids=repr)
def test_a_number_of_hits_that_is_none_is_refused(k):
    with pytest.raises(ConfigError, match="k must be a whole number, 1 or more"):
        make_engine(5).search(unit_vectors(1), k=k)


@pytest.mark.parametrize("shape", [(10,), (1, 9), (1, 11), (1, 1, 10)])
def test_queries_of_another_shape_are_refused_with_both(shape):
    with pytest.raises(LayoutError, match=r"queries have shape .*needs \(Q, 10\)"):
        make_engine(5).search(np.ones(shape, dtype=np.float32), k=1)


def test_an_engine_is_exact_and_says_so():
    assert make_engine(1).exact is True
