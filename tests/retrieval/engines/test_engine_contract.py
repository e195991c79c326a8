"""What every engine does alike: keeps, finds, filters, refuses; and is opened as it was left."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import count

import numpy as np
import pytest
from engine_world import (
    ABOUT,
    IMPOSSIBLE,
    LAYOUT,
    QUERIES,
    STRANGE,
    SlowScan,
    assert_finds,
    assert_found,
    assert_keeps,
    colours,
    fill,
    ids,
    make_engine,
    make_priors,
    make_records,
    unit_vectors,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import ConfigError, EngineError, IndexFolderError, LayoutError, QueryError
from subspace.model.centre import Centre
from subspace.retrieval import BlockIndex, UsageLog, Weights
from subspace.retrieval.engines import Engine, Priors, create_engine, faiss_engine, open_engine

# Of each kind: what it is made with, and what its vectors are rounded to.
KINDS: dict[str, tuple[dict, str]] = {
    "numpy float32": ({}, "float32"),
    "numpy float16": ({"settings": {"dtype": "float16"}}, "float16"),
    "faiss pq": ({"engine": "faiss", "settings": {"method": "pq", "rescore": 60}}, "float32"),
    "faiss hnsw": ({"engine": "faiss", "settings": {"method": "hnsw", "rescore": 60}}, "float32"),
    "pgvector": ({}, "float32"),
    "milvus": ({}, "float32"),
}
SERVERS = ("pgvector", "milvus")
COUNT = 700
numbers = count()


@pytest.fixture(scope="module", autouse=True)
def searched_as_if_they_were_many() -> Iterator[None]:
    """Few documents are searched by codes as well, although a scan of them is faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_engine, "_COST", 0.4)
        patch.setattr(faiss_engine, "_COST_BATCHED", 0.4)
        patch.setattr(faiss_engine, "_FEW", COUNT)
        yield


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def new_target(kind, request, tmp_path_factory) -> Callable[[], str]:
    """Where nothing is yet."""
    if kind == "pgvector":
        uri = request.getfixturevalue("postgres")
        return lambda: f"{uri}#contract {next(numbers)}"
    if kind == "milvus":
        file = request.getfixturevalue("milvus_file")
        return lambda: f"{file}#contract{next(numbers)}"
    folder = tmp_path_factory.mktemp("contract")
    return lambda: str(folder / f"index {next(numbers)}")


def create(kind: str, target: str, **options) -> Engine:
    return create_engine(target, **{**ABOUT, **KINDS[kind][0], **options})


@pytest.fixture
def engine(kind, new_target) -> Iterator[Engine]:
    """Empty."""
    with closing(create(kind, new_target())) as engine:
        yield engine


@pytest.fixture
def scan(kind) -> SlowScan:
    """What the engine must do."""
    return SlowScan(KINDS[kind][1])


@pytest.fixture(scope="module")
def world(kind, new_target) -> Iterator[tuple[Engine, SlowScan]]:
    """700 documents, some of them twice; not to be changed."""
    vectors = unit_vectors(COUNT)
    vectors[300:340] = vectors[:40]
    scan = SlowScan(KINDS[kind][1])
    with closing(create(kind, new_target())) as engine:
        fill(engine, scan, documents=make_records(COUNT, metadata=colours), vectors=vectors)
        if kind.startswith("faiss"):
            engine.build()
        yield engine, scan


@pytest.fixture(scope="module")
def scratch(kind, new_target) -> Iterator[Engine]:
    """For tests that leave it empty."""
    with closing(create(kind, new_target())) as engine:
        yield engine


WHERES = [None, {"colour": "red"}, {"colour": ["red", "blue"], "new": True}, {"size": 99}]


# What it finds.


def test_it_says_whether_a_search_finds_the_best_for_certain(world, engine, kind):
    assert engine.exact
    assert world[0].exact is not kind.startswith("faiss")


@pytest.mark.parametrize("where", WHERES)
def test_the_best_are_found_and_what_ties_with_the_last(world, where):
    for k in (1, 10):
        assert_finds(*world, QUERIES, k=k, where=where)
    for k in (COUNT - 1, COUNT, 10**6):
        assert_finds(*world, QUERIES[1:3], k=k, where=where)


@pytest.mark.parametrize(
    ("used", "default"), [(3, 0.0), (3, 5.0), (80, -2.0), (80, 5.0), (COUNT, 0.0), (COUNT, -2.0)]
)
def test_priors_are_added_to_the_scores(world, used, default):
    rng = np.random.default_rng(used)
    names = [f"d{n}" for n in rng.permutation(COUNT + 100)[:used]]  # some are not in the index
    values = rng.normal(size=used + 3).tolist()
    priors = make_priors(dict(zip([*names, *IMPOSSIBLE], values, strict=True)), default=default)
    for where in WHERES:
        assert_finds(*world, QUERIES, k=10, where=where, priors=priors)
    assert_finds(*world, QUERIES, k=1, priors=priors)
    assert_finds(*world, QUERIES[:1], k=10**6, priors=priors)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    k=st.integers(1, 40),
    own=st.dictionaries(st.integers(0, 800), st.floats(-3, 3), max_size=20) | st.none(),
    default=st.sampled_from([0.5, -1.0]),
    where=st.sampled_from(WHERES),
)
def test_whatever_is_asked_the_best_are_found(world, seed, k, own, default, where):
    values = None if own is None else {f"d{n}": value for n, value in own.items()}
    priors = None if values is None else make_priors(values, default=default)
    assert_finds(*world, unit_vectors(2, seed=seed), k=k, priors=priors, where=where)


def test_priors_decide(world):
    """The counter-check: without them, others are found."""
    priors = make_priors({"d5": 9.0})
    found = [world[0].search(QUERIES[:1], k=1, priors=given)[0] for given in (priors, None)]
    assert ids(found[0]) == ["d5"] != ids(found[1])


def test_ids_that_came_after_the_values_of_the_priors_are_not_counted(world):
    priors = Priors(ids=["d0", "d1", "d2"], values=np.array([9.0, 8.0]), default=0.0)
    assert ids(world[0].search(QUERIES[:1], k=2, priors=priors)[0]) == ["d0", "d1"]


def test_priors_may_grow_at_their_end_and_items_may_come_and_go(engine):
    """What the engine remembers of them is never what is no longer so."""
    engine.upsert(make_records(10), unit_vectors(10))
    names, others = ["nowhere", "d3"], ["d7"]
    query = np.zeros((1, LAYOUT.dim), dtype=np.float32)

    def best(values: list[float], names: list[str] = names) -> list[str]:
        priors = Priors(names, np.array(values, dtype=float), default=0.5)
        return ids(engine.search(query, k=1, priors=priors)[0])

    assert best([9, 1]) == ["d3"]
    names.append("d5")
    assert best([9, 1, 2]) == ["d5"]
    assert best([9, 1]) == ["d3"]  # fewer values than names: the list grew meanwhile
    engine.delete(["d0", "d5"])
    assert best([9, 1, 2]) == ["d3"]
    engine.upsert([Record(id=name, text="a text") for name in ("nowhere", "d5")], unit_vectors(2))
    assert best([9, 1, 2]) == ["nowhere"]
    assert best([0, 1, 2]) == ["d5"]
    assert best([3], others) == ["d7"]
    assert best([0, 1, 2]) == ["d5"]


def test_small_differences_of_large_priors_are_told_apart(world):
    """The margin of rounding grows with the priors, so that no best item is cut off."""
    values = 1e4 + np.random.default_rng(0).uniform(0, 1e-3, size=COUNT)
    priors = Priors([f"d{n}" for n in range(COUNT)], values, default=0.0)
    assert_finds(*world, 1e-3 * unit_vectors(1, seed=1), k=5, priors=priors)


def test_copies_are_found_all_of_them_in_the_order_of_adding(engine, scan):
    vectors = np.repeat(unit_vectors(2), [30, 20], axis=0)
    fill(engine, scan, documents=make_records(50), vectors=vectors)
    for k in (1, 4, 30, 31):
        assert_finds(engine, scan, vectors[:1], k=k)
    assert len(engine.search(vectors[:1], k=1)[0].documents) == 30


def test_what_sums_in_float32_cannot_tell_apart_comes_too(kind, new_target):
    """Whoever adds up in double precision can."""
    layout = BlockLayout.from_widths({"a": 2, "b": 2})
    vectors = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1]], np.float32)
    query = np.array([[0.2, 0.1, 0.6, 0.5]], np.float32)
    assert np.float32(0.2) + np.float32(0.5) < np.float32(0.1) + np.float32(0.6)
    with closing(create(kind, new_target(), layout=layout)) as engine:
        engine.upsert(make_records(4), vectors)
        assert ids(engine.search(query, k=1)[0]) == ["d0", "d1", "d2"]


def test_a_batch_finds_what_its_queries_find_one_by_one(world):
    """More queries than are scored at once."""
    engine, _ = world
    queries = unit_vectors(70, seed=1)
    alone = [engine.search(query[None], k=3)[0] for query in queries]
    assert [ids(found) for found in engine.search(queries, k=3)] == [ids(found) for found in alone]
    assert engine.search(queries[:0], k=3) == []


def test_an_empty_engine_finds_nothing(engine):
    priors = make_priors({"d0": 1.0}, default=0.5)
    for options in ({}, {"priors": priors}, {"where": {"lang": "en"}}):
        for found in engine.search(QUERIES, k=3, **options):
            assert found.documents == () and found.vectors.shape == (0, LAYOUT.dim)
    assert engine.fetch(["d0"]).vectors.shape == (0, LAYOUT.dim)
    assert engine.sample(3).documents == ()
    assert engine.count() == engine.count({"a": 1}) == engine.delete(["d0"]) == 0
    engine.upsert([], unit_vectors(0))
    assert engine.count() == 0


# Filters.

SCALARS = [
    *(0, 1, 1.0, 0.0, -0.0, 0.5, 0.1, -1, 2**53, 2**53 + 1, float(2**53), 5e-324, 1e300),
    *(2**63 - 1, 1e19, 2.0**63, 1e23, 123456789.5, True, False, "", "1", "true", "é", "e\u0301"),
    *STRANGE,
]
NAMES = ["kind", "it's", "100%s", 'a"b', "a.b", "漢"]


def test_filters_mean_what_they_say(engine, scan):
    """True is not 1, and 1 is 1.0; nothing in names and values is taken for anything else."""
    rng = np.random.default_rng(0)

    def draw() -> dict:
        some = [name for name in NAMES if rng.random() < 0.7]
        return {name: SCALARS[rng.integers(len(SCALARS))] for name in some}

    records = make_records(200, metadata=lambda n: draw())
    records += make_records(
        len(SCALARS), first=200, metadata=lambda n: {"kind": SCALARS[n - 200], "only": n}
    )
    fill(engine, scan, documents=records, vectors=unit_vectors(len(records)))
    filters = [{"kind": value} for value in SCALARS]
    for _ in range(40):
        several = {name: [value, *draw().values()] for name, value in draw().items()}
        filters.append(dict(list(several.items())[:2]))
    hits = 0
    for where in filters:
        expected = scan.matching(where)
        hits += bool(expected)
        assert engine.count(where) == len(expected), where
        assert ids(engine.search(QUERIES[:1], k=1000, where=where)[0]) == expected, where
    assert hits > 60


def test_true_is_not_one_and_one_is_one_point_zero(engine):
    values = [1, 1.0, True, "1", "True"]
    engine.upsert(make_records(5, metadata=lambda n: {"v": values[n]}), unit_vectors(5))
    assert [engine.count({"v": v}) for v in values] == [2, 2, 1, 1, 1]
    assert [engine.count({"v": v}) for v in ([True, 1], (False, "1"), 0, "true")] == [3, 1, 0, 0]
    assert [engine.count(where) for where in ({}, None, {"w": 1})] == [5, 5, 0]


@pytest.mark.parametrize(
    "where",
    [
        {"lang": []},
        {"lang": None},
        {"lang": [None]},
        {"lang": float("nan")},
        {"lang": [1, math.inf]},
        {"lang": 2**14_001},
        {"lang": {}},
        {"lang": {">=": None}},
        {"lang": {">=": True}},
        {"lang": {">=": 1, "<": "b"}},
        {"lang": {">=": math.nan}},
        {"lang": {"eq": "en"}},
        {"lang": "a\0b"},
        {"lang": "\ud800"},
        {"": "en"},
        {"\ud800": "en"},
        {1: "en"},
    ],
    ids=lambda where: f"{where!r:.30}",
)
def test_a_filter_that_is_none_is_refused(where, scratch):
    for ask in (scratch.count, lambda where: scratch.search(QUERIES, k=1, where=where)):
        with pytest.raises(QueryError):
            ask(where)


# Its state.


def test_the_state_is_another_after_every_change(engine):
    changes = [
        lambda: engine.upsert(make_records(3), unit_vectors(3)),
        lambda: engine.upsert(make_records(1), unit_vectors(1, seed=1)),  # in its place
        lambda: engine.delete(["d2"]),
        lambda: engine.upsert(make_records(1, first=2), unit_vectors(1)),
    ]
    states = [engine.state()]
    for change in changes:
        change()
        states.append(engine.state())
        engine.search(QUERIES, k=1)
        engine.fetch(["d0"])
        assert engine.state() == states[-1]
    assert len(set(states)) == len(states)


@pytest.mark.parametrize("kind", SERVERS, indirect=True, scope="module")
def test_changes_of_others_are_noticed(kind, new_target):
    """In an index on a server; one in a folder is as it was when it was opened."""
    target = new_target()
    with closing(create(kind, target)) as one, closing(open_engine(target)) as other:
        one.upsert(make_records(3), unit_vectors(3))
        index = BlockIndex(other)
        before = index.score_spread, index.sample, other.state()
        one.delete(["d2"])
        assert other.state() != before[-1]
        assert index.sample.vectors.shape == (2, LAYOUT.dim)
        if kind == "pgvector":  # Milvus says nothing of what is replaced
            state = other.state()
            one.upsert(make_records(2), np.repeat(unit_vectors(1, seed=1), 2, axis=0))
            assert other.state() != state


def test_threads_may_share_one_engine(engine, scan):
    """Half search while the others add, replace and remove; each finds whole documents."""
    vectors = unit_vectors(80)
    fill(engine, scan, documents=make_records(40), vectors=vectors[:40])
    priors = make_priors({f"d{n}": n / 80 for n in range(80)})
    kept = {f"d{n}": vector for n, vector in enumerate(vectors)}

    def search(seed: int) -> None:
        for added in (None, priors):
            for found in engine.search(unit_vectors(3, seed=seed), k=9, priors=added):
                for document, vector in zip(found.documents, found.vectors, strict=True):
                    wanted = kept[document.id].astype(scan.dtype).astype(np.float32)
                    np.testing.assert_array_equal(vector, wanted)

    def change(number: int) -> None:
        place = slice(40 + 10 * number, 50 + 10 * number)
        for _ in range(2):
            engine.upsert(make_records(10, first=place.start), vectors[place])
            engine.upsert(make_records(10), vectors[:10])
            assert engine.delete([f"d{n}" for n in range(place.start, place.stop)]) == 10
        engine.upsert(make_records(10, first=place.start), vectors[place])

    with ThreadPoolExecutor(6) as threads:
        works = [threads.submit(change, number) for number in range(4)]
        works += [threads.submit(search, seed) for seed in range(12)]
        for work in works:
            work.result()
    assert {document.id for document in engine.fetch(list(kept)).documents} == set(kept)


ANY = [
    *("Jean\u00a0Dupont", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u06cc\u200c\u062e"),
    *("a\u3000b", "co\u00adop", "two\nlines", None, [], {}, ["a", "b"]),
    [1, "1", True, None, 0.5, 10**30],
    *([["a"], {"b": "a"}], {"y": {"z": [1]}}, 2**63, -(2**70), 10**400, 5, 2020, 2020.5, True),
    *("2020", "2021-03-01", [2019, 2022], ["x", 7]),
]


@pytest.fixture(scope="module")
def anything(kind, new_target) -> Iterator[tuple[Engine, SlowScan]]:
    """A document for each of these values; not to be changed."""
    scan = SlowScan(KINDS[kind][1])
    with closing(create(kind, new_target())) as engine:
        records = make_records(len(ANY), metadata=lambda n: {"v": ANY[n], "n": n})
        records.append(Record(id="x", text="y"))
        fill(engine, scan, documents=records, vectors=unit_vectors(len(records)))
        yield engine, scan


def test_any_json_value_is_kept(anything):
    assert_keeps(*anything)
    assert dict(anything[0].metadata()) == {
        name: document.metadata for name, (document, _) in anything[1].kept.items()
    }


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("a", [["a", "b"]]),
        (["b", 10**30], [["a", "b"], ANY[10]]),
        ("Jean\u00a0Dupont", ["Jean\u00a0Dupont"]),
        ("Jean Dupont", []),
        (2**63, [2**63]),
        (10**400, [10**400]),
        (True, [ANY[10], True]),
        (7, [["x", 7]]),
        ({">=": 2020}, [ANY[10], 2**63, 10**400, 2020, 2020.5, [2019, 2022]]),
        ({">": 2020, "<": 2021}, [2020.5]),
        ({">": 2019, "<": 2022}, [2020, 2020.5]),
        ({"<": 0.5}, [-(2**70)]),
        ({"<=": 0.5}, [ANY[10], -(2**70)]),
        ({">=": "2020", "<": "2022"}, ["2020", "2021-03-01"]),
        ({">=": "b", "<=": "b"}, [["a", "b"]]),
        ({">": "x"}, [ANY[1], ANY[2]]),
    ],
    ids=lambda value: f"{value!r:.40}",
)
def test_members_and_ranges_are_found(anything, wanted, found):
    engine, where = anything[0], {"v": wanted}
    kept = [
        document.metadata.get("v")
        for document in engine.search(QUERIES[:1], k=99, where=where)[0].documents
    ]
    assert kept == found
    assert engine.count(where) == len(found)
    both = {**where, "n": {">=": 10}}
    assert engine.count(both) == sum(ANY.index(value) >= 10 for value in found)
    priors = make_priors({"d3": 5.0, "d20": 9.0, "x": 100.0})
    several = engine.search(QUERIES, k=99, where=where, priors=priors)
    assert [len(one.documents) for one in several] == [len(found)] * len(QUERIES)


# What it keeps.


def test_documents_come_back_as_they_were_in_the_order_of_adding(world):
    assert_keeps(*world)


def test_metadata_and_strange_texts_come_back_as_they_were(engine, scan):
    records = [
        Record(id=f"{n} {text}", text=text, metadata={text: text, "v": SCALARS[n], "n": n})
        for n, text in enumerate(STRANGE * 2)
    ]
    fill(engine, scan, documents=records, vectors=unit_vectors(len(records)))
    assert_keeps(engine, scan)


def test_nothing_in_ids_and_names_is_taken_for_anything_else(engine, scan):
    pairs = list(zip(STRANGE, reversed(STRANGE), strict=True))
    records = [Record(id=one, text=one, metadata={one: other, "x": one}) for one, other in pairs]
    fill(
        engine, scan, documents=[*records, *make_records(1)], vectors=unit_vectors(len(STRANGE) + 1)
    )
    for one, other in pairs:
        assert_found(engine.fetch([one]), [one], scan)
        priors = make_priors({one: 100.0})
        assert_finds(engine, scan, QUERIES[:1], k=1, priors=priors)
        for where in ({one: other}, {"x": [one, 1]}, {other: one}):
            assert_finds(engine, scan, QUERIES[:1], k=100, where=where, priors=priors)
    for number, name in enumerate(STRANGE, start=1):
        assert engine.delete([name]) == 1
        assert engine.count() == len(records) + 1 - number
    assert ids(engine.search(QUERIES[:1], k=100)[0]) == ["d0"]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
VALUES = (
    TEXT
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(TEXT, st.dictionaries(TEXT, VALUES, max_size=3), min_size=1, max_size=4))
def test_any_text_is_kept(scratch, kind, given):
    scan = SlowScan(KINDS[kind][1])
    records = [Record(id=name, text=name, metadata=metadata) for name, metadata in given.items()]
    fill(scratch, scan, documents=records, vectors=unit_vectors(len(records)))
    try:
        assert_keeps(scratch, scan)
        for record in records:
            for key, value in record.metadata.items():
                assert_finds(scratch, scan, QUERIES[:1], k=9, where={key: value})
    finally:
        assert scratch.delete(list(given)) == len(given)


def test_a_document_given_again_replaces_the_old_one_in_its_place(engine, scan):
    fill(engine, scan, documents=make_records(5), vectors=unit_vectors(5))
    again = [
        Record(id="new", text="new"),
        Record(id="d3", text="changed", metadata={"lang": "en"}),
        Record(id="d1", text="too"),
    ]
    fill(engine, scan, documents=again, vectors=unit_vectors(3, seed=5))
    assert_keeps(engine, scan)
    found = engine.search(QUERIES[:1], k=9)[0]
    assert ids(found) == ["d0", "d1", "d2", "d3", "d4", "new"]
    assert found.documents[3].text == "changed"
    assert engine.count({"lang": "en"}) == 1


def test_what_was_removed_is_gone_and_comes_back_at_the_end(engine, scan):
    fill(engine, scan, documents=make_records(300), vectors=unit_vectors(300))
    for one in (engine, scan):
        assert one.delete(["d3", "nowhere", "d3", "d250", *IMPOSSIBLE]) == 2
        assert one.delete(["d3"]) == one.delete([]) == 0
    assert_keeps(engine, scan)
    fill(engine, scan, documents=make_records(1, first=3), vectors=unit_vectors(1, seed=7))
    assert_keeps(engine, scan)
    assert ids(engine.search(QUERIES[:1], k=1000)[0])[-1] == "d3"


def test_documents_are_fetched_in_the_order_asked_for(world):
    engine, scan = world
    asked = ["d7", "nowhere", "d2", "d699", "d2", *IMPOSSIBLE, "d0"]
    assert_found(engine.fetch(asked), ["d7", "d2", "d699", "d2", "d0"], scan)
    nothing = engine.fetch([])
    assert nothing.documents == () and nothing.vectors.shape == (0, LAYOUT.dim)


def test_what_is_given_or_found_can_be_changed_without_changing_the_engine(engine, scan):
    vectors = unit_vectors(3)
    fill(engine, scan, documents=make_records(3), vectors=vectors)
    vectors[:] = 0
    for found in (engine.fetch(["d1"]), engine.sample(9), *engine.search(QUERIES, k=3)):
        found.vectors[:] = 0
    fill(scan, documents=make_records(3), vectors=unit_vectors(3))
    assert_keeps(engine, scan)


steps = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(0, 12), max_size=6, unique=True)), max_size=8
)


@settings(max_examples=15, deadline=None)
@given(steps=steps)
def test_any_order_of_adding_and_removing_ends_with_what_a_dictionary_would(scratch, kind, steps):
    scan = SlowScan(KINDS[kind][1])
    try:
        for number, (adds, rows) in enumerate(steps):
            names = [f"d{row}" for row in rows]
            if adds:
                records = [Record(id=name, text=f"step {number}") for name in names]
                vectors = unit_vectors(len(names), seed=number)
                fill(scratch, scan, documents=records, vectors=vectors)
            else:
                assert scratch.delete(names) == scan.delete(names)
        assert_keeps(scratch, scan)
    finally:
        scratch.delete([f"d{row}" for row in range(13)])


def test_a_sample_is_the_same_every_time_and_from_all_over(world):
    engine, scan = world
    sample = engine.sample(100)
    assert ids(engine.sample(100)) == ids(sample)
    rows = [int(name[1:]) for name in ids(sample)]
    assert len(set(rows)) == 100
    assert rows == sorted(rows)
    assert np.histogram(rows, bins=3, range=(0, COUNT))[0].min() > 15
    assert_found(sample, ids(sample), scan)
    assert ids(engine.sample(COUNT)) == ids(engine.sample(10**6)) == list(scan.kept)
    assert engine.sample(0).documents == ()


# What it refuses.


NESTED: list = []
for _ in range(40):
    NESTED = [NESTED]

BAD_TEXTS = ["", "a\0b", "half \ud800", None, 7]
BAD_METADATA = [
    {"a": float("nan")},
    {"a": math.inf},
    {"a": [1, math.nan]},
    {"a": {"b": "nul \0"}},
    {"a": {1: "b"}},
    {"a": (1, 2)},
    {"a": 2**14_001},
    {"a": NESTED},
    {"a": "half \ud800"},
    {"a": "nul \0"},
    {"half \ud800": 1},
    {"nul \0": 1},
    {"a": np.float32(1)},
    {1: "a"},
]
BAD_DOCUMENTS = [
    *((Record(id=bad, text="y"), "the id of a doc") for bad in BAD_TEXTS),
    *((Record(id="x", text=bad), "the text of a doc") for bad in BAD_TEXTS),
    *((Record(id="x", text="y", metadata=bad), "metadata.*'x'") for bad in BAD_METADATA),
    (Record(id="good", text="y"), "used more than once: good$"),
    ("no document", "no document"),
]


@pytest.fixture(scope="module")
def three(kind, new_target) -> Iterator[tuple[Engine, SlowScan]]:
    """Three documents, which nothing of what is refused may change."""
    scan = SlowScan(KINDS[kind][1])
    with closing(create(kind, new_target())) as engine:
        fill(engine, scan, documents=make_records(3), vectors=unit_vectors(3))
        yield engine, scan


GOOD = [Record(id="d1", text="changed"), Record(id="good", text="a text")]


@pytest.mark.parametrize(("bad", "message"), BAD_DOCUMENTS, ids=lambda value: f"{value!r:.70}")
def test_a_document_that_cannot_be_kept_is_named_and_nothing_is_written(three, bad, message):
    with pytest.raises(EngineError, match=message):
        three[0].upsert([*GOOD, bad], unit_vectors(3, seed=4))
    assert_keeps(*three)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_by_its_document(three, value):
    vectors = unit_vectors(2)
    vectors[1, 9] = value
    with pytest.raises(LayoutError, match="vector of document 'good' holds NaN or infinity"):
        three[0].upsert(GOOD, vectors)
    assert_keeps(*three)


@pytest.mark.parametrize("shape", [(1, 10), (3, 10), (2, 9), (2, 11), (20,), (2, 10, 1), (0, 10)])
def test_vectors_of_another_shape_are_refused_with_both(three, shape):
    with pytest.raises(LayoutError, match=r"of shape \(2, 10\)"):
        three[0].upsert(GOOD, np.ones(shape, dtype=np.float32))
    assert_keeps(*three)


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", None], ids=repr)
def test_a_number_of_hits_that_is_none_is_refused(three, k):
    with pytest.raises(ConfigError, match="k must be a whole number, 1 or more"):
        three[0].search(QUERIES, k=k)


def test_queries_of_another_shape_or_not_finite_are_refused(three):
    for shape in ((10,), (1, 9), (1, 11), (1, 1, 10)):
        with pytest.raises(LayoutError, match=r"queries have shape .*needs \(Q, 10\)"):
            three[0].search(np.ones(shape, dtype=np.float32), k=1)
    for value in (np.nan, np.inf):
        with pytest.raises(LayoutError, match="the query holds NaN or infinity"):
            three[0].search(np.full((1, 10), value, dtype=np.float32), k=1)


# What is left, and what is there already.


def test_what_was_left_is_there_when_it_is_opened_again(kind, new_target, scan):
    target = new_target()
    spreads = dict.fromkeys(LAYOUT, 0.1)
    centre = Centre(embedding=np.float32([0.1, -2e-30, 3e7]), score_spreads=spreads)
    with closing(create(kind, target, projection_digest="f" * 64, centre=centre)) as engine:
        records = make_records(300, metadata=colours)
        fill(engine, scan, documents=records, vectors=unit_vectors(300))
        fill(engine, scan, documents=records[:1], vectors=unit_vectors(1, seed=8))
        engine.save()
    engine.close()  # once more does no harm
    with closing(open_engine(target)) as again:
        assert (again.layout, again.projection_digest) == (LAYOUT, "f" * 64)
        np.testing.assert_array_equal(again.centre.embedding, centre.embedding)
        assert again.centre.score_spreads == spreads
        assert again.exact
        assert_keeps(again, scan)
        assert_finds(again, scan, QUERIES, k=7, where={"colour": "red"})


def test_an_index_is_replaced_by_an_empty_one_of_another_layout(kind, new_target):
    """At once on a server; in a folder it is there until the new one is saved."""
    target, other = new_target(), BlockLayout.from_widths({"all of it": 7})
    with closing(create(kind, target)) as engine:
        engine.upsert(make_records(3), unit_vectors(3))
        engine.save()
    with closing(create(kind, target, layout=other)) as new:
        assert new.count() == 0
        if kind not in SERVERS:
            with closing(open_engine(target)) as old:
                assert (old.layout, old.count()) == (LAYOUT, 3)
        new.save()
    with closing(open_engine(target)) as again:
        assert (again.layout, again.count()) == (other, 0)


def test_what_is_not_there_cannot_be_opened(new_target):
    with pytest.raises((EngineError, IndexFolderError), match=r"there is no .*build "):
        open_engine(new_target())


# Searched with weights.


@pytest.mark.parametrize("scope", ["block", "item"])
def test_an_index_gives_the_same_hits_on_every_engine(world, kind, tmp_path, scope):
    """As on the exact scan: weights, recency and importance change, and nothing is written."""
    engine, scan = world
    vectors = np.array([vector for _, vector in scan.kept.values()])
    reference = make_engine(vectors, dtype=KINDS[kind][1], metadata=colours)
    rng = np.random.default_rng(2)
    with ExitStack() as stack:
        log = stack.enter_context(UsageLog.open(tmp_path / "log.db", clock="steps"))
        indexes = [BlockIndex(one, usage=log) for one in (engine, reference)]
        seen = set()
        for step in range(12):
            uses = rng.integers(0, COUNT + 50, 8)  # some of them of items that are not there
            log.add([(f"d{n}", float(rng.random()) if n % 3 else None) for n in uses])
            weights = Weights(LAYOUT, *(tuple(rng.random(3).round(2).tolist()) for _ in range(3)))
            options = {
                "weights": weights,
                "scope": scope,
                "k": 7,
                "where": {"size": [1, 2, 4]} if step % 2 else None,
                "candidates": 40 if step % 3 == 0 else None,
                "exclude": ["d1", "d2"] if step % 4 == 0 else [],
            }
            mine, theirs = (
                [found.hits for found in index.search_batch(unit_vectors(3, seed=step), **options)]
                for index in indexes
            )
            assert mine == theirs
            seen.add(tuple(hit.id for hit in mine[0]))
        assert len(seen) > 8


def test_where_nobody_else_changes_anything_there_is_nothing_to_take_up(engine):
    """In a folder what others saved would be; a server shows it at once."""
    assert engine.refresh() is False
    engine.upsert(make_records(3), unit_vectors(3))
    assert engine.refresh() is False
    engine.save()
    assert engine.refresh() is False
    assert engine.count() == 3
