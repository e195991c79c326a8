"""Milvus finds what the exact scan finds: with priors, filters, ties and any text."""

import gc
import itertools
import json
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.blocks import BlockLayout, unit_blocks
from subspace.data.retrieval_sets import Document
from subspace.errors import ConfigError, EngineError, LayoutError, QueryError
from subspace.retrieval import BlockIndex, UsageLog
from subspace.retrieval.engines import (
    Engine,
    Found,
    NumpyEngine,
    Priors,
    create_engine,
    milvus_connection,
    milvus_engine,
    milvus_rows,
    open_engine,
    threshold,
)
from subspace.retrieval.engines.milvus_engine import MilvusEngine

pytest.importorskip("pymilvus", reason="needs the extra 'milvus'")
pytest.importorskip("milvus_lite", reason="needs the extra 'milvus'")

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3, "tone": 2})
ABOUT = {"layout": LAYOUT, "projection_digest": "0" * 64}
# Metacharacters of filters and patterns, quotes, escapes, and more than ASCII.
STRANGE = [
    'a"b',
    "a'b",
    "a\\",
    '\\"',
    '"] or id != ["',
    "a\nb\tc\rd",
    "%",
    "_",
    "{id}",
    "$meta",
    "[0]",
    "日本語 🚀 \u2028 é",
    "\x01\x7f",
    " a ",
    "a,b",
]


def unit_vectors(count: int, *, seed: int = 0) -> np.ndarray:
    z = np.random.default_rng(seed).normal(size=(count, LAYOUT.dim)).astype(np.float32)
    return unit_blocks(z, layout=LAYOUT)


def make_documents(count: int, *, metadata=lambda n: {}) -> list[Document]:
    return [Document(id=f"d{n}", text=f"text {n}", metadata=metadata(n)) for n in range(count)]


def ids(found: Found) -> list[str]:
    return [document.id for document in found.documents]


def make_priors(values: dict[str, float], *, default: float = 0.0) -> Priors:
    return Priors(ids=list(values), values=np.array(list(values.values())), default=default)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One file for all tests, with a milvus-lite that runs as long as they do."""
    path = tmp_path_factory.mktemp("milvus") / "index.db"
    engine = MilvusEngine.create(f"{path}#first", **ABOUT)
    yield path
    engine.close()


NUMBER = itertools.count()


@pytest.fixture
def target(database) -> str:
    return f"{database}#c{next(NUMBER)}"


@pytest.fixture
def engine(target):
    engine = MilvusEngine.create(target, **ABOUT)
    yield engine
    engine.close()


@pytest.fixture
def scan() -> NumpyEngine:
    return NumpyEngine(**ABOUT)


def fill(*engines: Engine, documents: list[Document], vectors: np.ndarray) -> None:
    for engine in engines:
        engine.upsert(documents, vectors)


def assert_same(engine: Engine, scan: Engine, queries: np.ndarray, **options) -> None:
    """The same documents in the same order, with the same vectors."""
    ours, theirs = (one.search(queries, **options) for one in (engine, scan))
    assert [ids(found) for found in ours] == [ids(found) for found in theirs]
    for found, expected in zip(ours, theirs, strict=True):
        assert found.documents == expected.documents
        assert found.vectors.dtype == np.float32
        np.testing.assert_array_equal(found.vectors, expected.vectors)


def colours(n: int) -> dict:
    return {"colour": ("red", "green", "blue")[n % 3], "size": n % 5, "new": n % 2 == 0}


@pytest.fixture(scope="module")
def world(database):
    """400 documents, some of them twice, on both engines."""
    vectors = unit_vectors(400)
    vectors[300:340] = vectors[:40]
    engine = MilvusEngine.create(f"{database}#world", **ABOUT)
    scan = NumpyEngine(**ABOUT)
    documents = make_documents(400, metadata=colours)
    fill(engine, scan, documents=documents, vectors=vectors)
    yield engine, scan
    engine.close()


# Weights folded into queries: equal, one block alone, large and small.
QUERIES = unit_vectors(5, seed=1) * np.repeat(
    np.array([[1, 1, 1], [0, 1, 0], [50, 0.1, 0], [1, 1, 1], [0.01, 0.02, 0.01]], np.float32),
    LAYOUT.widths,
    axis=1,
)
WHERES = [None, {"colour": "red"}, {"colour": ["red", "blue"], "new": True}, {"size": 99}]


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("k", [1, 10, 399, 400, 1000])
def test_it_finds_what_the_exact_scan_finds(world, k, where):
    assert_same(*world, QUERIES, k=k, where=where)


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("k", [1, 10, 1000])
@pytest.mark.parametrize("default", [0.0, -2.0, 5.0])
@pytest.mark.parametrize("used", [3, 80, 400])
def test_priors_are_added_as_by_the_exact_scan(world, used, default, k, where):
    rng = np.random.default_rng(used)
    names = [f"d{n}" for n in rng.permutation(500)[:used]]  # some are not in the index
    priors = make_priors(
        dict(zip([*names, "a\0b", '"', "half \ud83d"], rng.normal(size=used + 3), strict=True)),
        default=default,
    )
    assert_same(*world, QUERIES, k=k, where=where, priors=priors)


def test_priors_matter(world):
    """The counter-check of the above: without them, others are found."""
    priors = make_priors({"d5": 9.0})
    with_priors, without = (
        world[0].search(QUERIES[:1], k=1, priors=given) for given in (priors, None)
    )
    assert ids(with_priors[0]) == ["d5"] != ids(without[0])


def test_documents_that_tie_are_found_all_of_them_in_the_order_of_adding(engine, scan):
    vectors = np.repeat(unit_vectors(2), [30, 20], axis=0)
    fill(engine, scan, documents=make_documents(50), vectors=vectors)
    assert_same(engine, scan, vectors[:1], k=1)
    assert_same(engine, scan, vectors[:1], k=31)
    assert len(engine.search(vectors[:1], k=1)[0].documents) == 30


def test_a_batch_of_queries_is_one_call(world, monkeypatch):
    engine, _ = world
    calls = []
    search = engine._connection._client.search
    monkeypatch.setattr(
        engine._connection._client, "search", lambda **kw: calls.append(kw) or search(**kw)
    )
    queries = unit_vectors(64, seed=3)
    together = engine.search(queries, k=5)
    assert len(calls) == 1
    alone = [engine.search(query[None], k=5)[0] for query in queries]
    assert [ids(found) for found in together] == [ids(found) for found in alone]


def test_an_empty_collection_finds_nothing(engine):
    (found,) = engine.search(QUERIES[:1], k=3, priors=make_priors({"a": 1.0}))
    assert found.documents == () and found.vectors.shape == (0, LAYOUT.dim)
    assert [ids(found) for found in engine.search(QUERIES, k=3)] == [[]] * len(QUERIES)
    assert engine.search(QUERIES[:0], k=3) == []
    assert engine.fetch(["a"]).vectors.shape == (0, LAYOUT.dim)
    assert engine.sample(3).documents == ()
    assert engine.count() == engine.count({"a": 1}) == engine.delete(["a"]) == 0
    engine.upsert([], np.empty((0, LAYOUT.dim), np.float32))


def test_a_document_given_again_replaces_the_old_one_and_keeps_its_place(engine, scan):
    vectors = unit_vectors(6)
    fill(engine, scan, documents=make_documents(4), vectors=vectors[:4])
    again = [
        Document(id="new", text="new"),
        Document(id="d1", text="other", metadata={"b": 1}),
        Document(id="d0", text="text 0"),
    ]
    fill(engine, scan, documents=again, vectors=vectors[[4, 5, 5]])
    assert_same(engine, scan, QUERIES, k=10)
    assert ids(engine.search(QUERIES[:1], k=10)[0]) == ["d0", "d1", "d2", "d3", "new"]
    assert engine.count() == 5
    assert engine.count({"b": 1}) == 1


def test_what_was_deleted_is_not_found(engine, scan):
    fill(engine, scan, documents=make_documents(300), vectors=unit_vectors(300))
    for one in (engine, scan):
        assert one.delete(["d3", "d3", "nobody", "", "d250", "\0", "\ud83d"]) == 2
    assert_same(engine, scan, QUERIES, k=1000)
    assert engine.count() == 298
    fill(engine, scan, documents=make_documents(4)[3:], vectors=unit_vectors(1, seed=7))
    assert_same(engine, scan, QUERIES, k=1000)
    assert ids(engine.search(QUERIES[:1], k=1000)[0])[-1] == "d3"


def test_documents_are_fetched_in_the_order_asked_for(world, monkeypatch):
    engine, scan = world
    asked = ["d7", "nobody", "d2", "d399", "d7", "\ud83d", "d0"]
    for size in (256, 2):
        monkeypatch.setattr(milvus_engine, "_IDS", size)
        ours, theirs = engine.fetch(asked), scan.fetch(asked)
        assert ids(ours) == ["d7", "d2", "d399", "d7", "d0"]
        assert ours.documents == theirs.documents
        np.testing.assert_array_equal(ours.vectors, theirs.vectors)


def test_a_sample_is_from_all_over_the_index(world):
    engine, _ = world
    found = engine.sample(100)
    numbers = [int(name[1:]) for name in ids(found)]
    assert len(numbers) == 100
    assert numbers == sorted(numbers)
    assert all(10 < sum(n // 100 == part for n in numbers) < 45 for part in range(4))
    np.testing.assert_array_equal(found.vectors, engine.fetch(ids(found)).vectors)
    assert ids(engine.sample(400)) == ids(engine.sample(10**6)) == [f"d{n}" for n in range(400)]
    assert engine.sample(0).documents == ()


VALUES = [True, False, 1, 0, 1.0, 0.5, -0.0, 2**53 + 1, 2.0**53, "1", "True", "", "red", 1e300]


@pytest.fixture(scope="module")
def typed(database):
    """One document for each kind of value, and one without any."""
    engine = MilvusEngine.create(f"{database}#typed", **ABOUT)
    scan = NumpyEngine(**ABOUT)
    documents = [
        Document(id=f"d{n}", text="text", metadata={"x": value, "y": n % 2})
        for n, value in enumerate(VALUES)
    ]
    documents.append(Document(id="none", text="text"))
    documents.append(Document(id="other", text="text", metadata={"y": True, "z": "red"}))
    fill(engine, scan, documents=documents, vectors=unit_vectors(len(documents)))
    yield engine, scan
    engine.close()


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_told_apart_as_by_the_exact_scan(typed, value):
    """True is not 1, and 1 is 1.0."""
    for where in ({"x": value}, {"x": [value, "red"]}, {"x": value, "y": [0, 0.5]}):
        assert_same(*typed, QUERIES[:2], k=100, where=where)
        assert typed[0].count(where) == typed[1].count(where)
    assert typed[0].count({"x": value}) >= 1


def test_metadata_comes_back_as_it_was_given(typed):
    ours, theirs = (one.fetch([f"d{n}" for n in range(len(VALUES))]) for one in typed)
    assert ours.documents == theirs.documents
    kinds = [type(document.metadata["x"]) for document in ours.documents]
    assert kinds == [type(value) for value in VALUES]


@pytest.mark.parametrize("where", [{"x": float("nan")}, {"": 1}, {"x": []}, {"x": [None]}])
def test_a_filter_that_cannot_be_is_refused(engine, where):
    for ask in (engine.count, lambda w: engine.search(QUERIES[:1], k=1, where=w)):
        with pytest.raises(QueryError):
            ask(where)


def test_metacharacters_are_kept_and_inject_nothing(engine, scan):
    names = [*STRANGE, "plain"]
    documents = [
        Document(id=name, text=name, metadata={name: other, "x": name})
        for name, other in zip(names, reversed(names), strict=True)
    ]
    fill(engine, scan, documents=documents, vectors=unit_vectors(len(names)))
    assert engine.fetch(names).documents == tuple(documents)
    priors = make_priors(dict.fromkeys(names, 1.0))
    for name, other in zip(names, reversed(names), strict=True):
        assert ids(engine.fetch([name])) == [name]
        for where in ({name: other}, {"x": name}, {"x": [name, "plain"]}, {other: name}):
            assert engine.count(where) == scan.count(where)
            assert_same(engine, scan, QUERIES[:1], k=100, where=where)
            assert_same(engine, scan, QUERIES[:1], k=100, where=where, priors=priors)
    for name in names[:-1]:
        assert engine.delete([name]) == 1
    assert ids(engine.search(QUERIES[:1], k=100)[0]) == ["plain"]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
SCALARS = (
    TEXT
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.dictionaries(TEXT, st.dictionaries(TEXT, SCALARS, max_size=3), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_any_text_is_kept(typed, given):
    engine, _ = typed
    documents = [Document(id=f"!{name}", text=name, metadata=m) for name, m in given.items()]
    engine.upsert(documents, unit_vectors(len(documents)))
    names = [document.id for document in documents]
    try:
        assert engine.fetch(names).documents == tuple(documents)
        for document in documents:
            for key, value in document.metadata.items():
                (found,) = engine.search(QUERIES[:1], k=100, where={key: value})
                assert document.id in ids(found)
    finally:
        assert engine.delete(names) == len(names)


def document(**options) -> Document:
    return Document(**{"id": "bad", "text": "text", **options})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (document(id="good"), "ids must differ.*good"),
        (document(id=""), "id of a document must be"),
        (document(text="a\0"), "text of a document must be"),
        (document(id="i" * 65_536), "the id of document 'iii.*65,536 bytes"),
        (document(text="é" * 32_768), "the text of document 'bad'.*65,536 bytes.*65,535 at most"),
        (document(metadata={"x": "y" * 65_536}), "the metadata of document 'bad'"),
        (document(metadata={f"x{n}": 1 for n in range(2_000)}), "the metadata of document 'bad'"),
        (document(metadata={"x": None}), "metadata 'x' of document 'bad'.*None"),
        (document(metadata={"x": float("nan")}), "metadata 'x' of document 'bad'"),
        (document(metadata={"x": 2**63}), "metadata 'x' of document 'bad'"),
        (document(metadata={3: "y"}), "metadata 3 of document 'bad'"),
        (document(metadata={"x": "half \ud83d"}), "metadata 'x' of document 'bad'"),
    ],
)
def test_a_document_that_cannot_be_kept_is_named_and_nothing_is_written(engine, wrong, message):
    with pytest.raises(EngineError, match=message):
        engine.upsert([document(id="good"), wrong], unit_vectors(2))
    assert engine.count() == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused_and_nothing_is_written(engine, broken):
    vectors = unit_vectors(2)
    vectors[1, 3] = broken
    with pytest.raises(LayoutError, match="'d1' holds NaN or infinity"):
        engine.upsert(make_documents(2), vectors)
    with pytest.raises(LayoutError, match=r"shape \(2, 10\)"):
        engine.upsert(make_documents(2), vectors[:, 1:])
    assert engine.count() == 0
    with pytest.raises(LayoutError):
        engine.search(vectors[1:], k=1)


def test_the_longest_texts_are_kept(engine):
    given = Document(id="i" * 65_535, text="é" * 32_767, metadata={"x": "y" * 65_000})
    engine.upsert([given], unit_vectors(1))
    assert engine.fetch([given.id]).documents == (given,)


def test_many_documents_are_written_in_several_messages(engine, scan, monkeypatch):
    monkeypatch.setattr(milvus_rows, "MESSAGE_BYTES", 2_000)
    fill(engine, scan, documents=make_documents(700), vectors=unit_vectors(700))
    assert_same(engine, scan, QUERIES, k=20)
    assert_same(engine, scan, QUERIES, k=1000)


def test_a_batch_that_fails_says_how_to_complete_it(engine, scan, monkeypatch):
    documents, vectors = make_documents(100), unit_vectors(100)
    monkeypatch.setattr(milvus_rows, "MESSAGE_BYTES", 2_000)
    client, sent = engine._connection._client, []
    upsert = client.upsert

    def fail_at_the_third(**options):
        sent.append(len(options["data"]))
        if len(sent) == 3:
            raise milvus_connection.import_module("pymilvus").MilvusException(message="disk full")
        return upsert(**options)

    with monkeypatch.context() as patch:
        patch.setattr(client, "upsert", fail_at_the_third)
        with pytest.raises(EngineError, match="disk full") as error:
            engine.upsert(documents, vectors)
    assert f"{sum(sent[:2])} of 100 documents have been written" in str(error.value)
    assert engine.count() == sum(sent[:2])
    fill(engine, scan, documents=documents, vectors=vectors)
    assert_same(engine, scan, QUERIES, k=100)


def test_an_hnsw_index_finds_nearly_all_and_says_that_it_is_not_exact(target, world):
    engine = MilvusEngine.create(target, **ABOUT, index="HNSW")
    try:
        everything = world[1].sample(1000)
        engine.upsert(everything.documents, everything.vectors)
        assert not engine.exact and world[0].exact
        ours, theirs = (one.search(QUERIES, k=10) for one in (engine, world[1]))
        for found, expected in zip(ours, theirs, strict=True):
            assert len(set(ids(found)) & set(ids(expected))) >= 9
        priors = make_priors({"d7": 90.0})
        assert all("d7" in ids(found) for found in engine.search(QUERIES, k=3, priors=priors))
    finally:
        engine.close()
    with pytest.raises(ConfigError, match="FLAT, HNSW"):
        MilvusEngine.create(target, **ABOUT, index="IVF")


def test_more_hits_than_milvus_gives_are_refused(world, monkeypatch):
    monkeypatch.setattr(milvus_engine, "_MOST_HITS", 300)
    with pytest.raises(EngineError, match="Milvus gives 300 hits at most"):
        world[0].search(QUERIES[:1], k=301)
    assert_same(*world, QUERIES, k=301, where={"colour": "red"})
    assert_same(*world, QUERIES, k=300)


def test_priors_are_exact_where_milvus_gives_few_hits(world, monkeypatch):
    monkeypatch.setattr(milvus_engine, "_MOST_HITS", 40)
    monkeypatch.setattr(threshold, "_ROUND", 10)
    rng = np.random.default_rng(0)
    for default in (0.0, 2.0):
        priors = make_priors({f"d{n}": float(rng.random()) for n in range(300)}, default=default)
        assert_same(*world, QUERIES, k=5, priors=priors)


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path, scan):
    target = f"{tmp_path / 'new' / 'index.db'}#docs"
    documents, vectors = make_documents(300, metadata=colours), unit_vectors(300)
    engine = create_engine(target, layout=LAYOUT, projection_digest="f" * 64)
    fill(engine, scan, documents=documents, vectors=vectors)
    engine.upsert(documents[:1], vectors[:1])  # not flushed
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.count()
    again = open_engine(target)
    try:
        assert again.layout == LAYOUT
        assert again.projection_digest == "f" * 64
        assert again.exact
        assert_same(again, scan, QUERIES, k=1000)
        assert_same(again, scan, QUERIES, k=7, where={"colour": "red"})
    finally:
        again.close()


def test_creating_it_again_makes_it_empty(target):
    engine = MilvusEngine.create(target, **ABOUT)
    engine.upsert(make_documents(3), unit_vectors(3))
    engine.close()
    other = BlockLayout.from_widths({"all of it": 7})
    again = MilvusEngine.create(target, layout=other, projection_digest="1", index="HNSW")
    assert again.count() == 0
    assert again.layout == other
    again.close()


@pytest.mark.parametrize("made", ["nothing", "another's JSON", "a later format"])
def test_a_collection_of_something_else_is_not_touched(database, target, made):
    from pymilvus import MilvusClient

    client = MilvusClient(str(database), dedicated=True)
    name = target.partition("#")[2]
    texts = {
        "another's JSON": '{"a": 1}',
        "a later format": json.dumps(
            {"subspace": 2, "blocks": LAYOUT.to_widths(), "projection": "", "index": "FLAT"}
        ),
    }
    properties = {"subspace": texts[made]} if made in texts else {}
    schema = client.create_schema()
    schema.add_field(
        "id", milvus_connection.import_module("pymilvus").DataType.INT64, is_primary=True
    )
    schema.add_field("v", milvus_connection.import_module("pymilvus").DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(name, schema=schema, properties=properties)
    message = "format version 2" if made == "a later format" else "is no index of subspace"
    for attempt in (
        lambda: MilvusEngine.create(target, **ABOUT),
        lambda: MilvusEngine.open(target),
    ):
        with pytest.raises(EngineError, match=message):
            attempt()
    assert client.has_collection(name)
    client.close()


def test_a_collection_or_file_that_is_not_there_is_named(database, tmp_path):
    with pytest.raises(EngineError, match=r"no collection 'nothing' in .*index\.db; build it"):
        MilvusEngine.open(f"{database}#nothing")
    for path in (tmp_path / "none.db", tmp_path / "no folder" / "none.db"):
        with pytest.raises(EngineError, match=r"there is no index .*none\.db"):
            MilvusEngine.open(f"{path}#docs")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_hold_a_database_is_named(tmp_path, capfd):
    file = tmp_path / "file.db"
    file.write_text("something else")
    for path in (file, file / "index.db"):
        with pytest.raises(EngineError, match=r"file\.db"):
            MilvusEngine.create(f"{path}#docs", **ABOUT)
    assert file.read_text() == "something else"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "target",
    [
        "index.db",
        "index.db#",
        "index.db#a-b",
        "index.db#../a",
        "index.db#1a",
        "index#docs",
        "http://#docs",
        "http://host:port#docs",
        "http://host:99999#docs",
        "http://host:19530",
    ],
)
def test_a_target_of_another_form_is_refused(target):
    for attempt in (
        lambda: MilvusEngine.create(target, **ABOUT),
        lambda: MilvusEngine.open(target),
    ):
        with pytest.raises(ConfigError, match="#COLLECTION"):
            attempt()


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="MILVUS_TOKEN") as error:
        MilvusEngine.open("http://root:secret@localhost:19530#docs")
    assert "secret" not in str(error.value)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_server_that_is_not_there_is_named(monkeypatch, capfd):
    monkeypatch.setenv("MILVUS_TOKEN", "secret")
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(
        EngineError, match=f"cannot reach Milvus at {address}.*MILVUS_TOKEN"
    ) as error:
        MilvusEngine.open(f"{address}#docs")
    assert "secret" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_a_server_that_does_not_answer_is_given_up_in_bounded_time(monkeypatch):
    monkeypatch.setattr(milvus_connection, "_CONNECT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(EngineError, match="cannot reach Milvus"):
            MilvusEngine.create(f"http://127.0.0.1:{silent.getsockname()[1]}#docs", **ABOUT)
    assert time.monotonic() - start < 5


def test_a_server_that_has_gone_is_named(tmp_path, capfd):
    engine = MilvusEngine.create(f"{tmp_path / 'index.db'}#docs", **ABOUT)
    milvus_connection._import_server().release_server(str(tmp_path / "index.db"))
    start = time.monotonic()
    for attempt in (engine.count, lambda: engine.search(QUERIES, k=1), lambda: engine.fetch(["a"])):
        with pytest.raises(EngineError, match=r"'docs' in .*index\.db cannot be used"):
            attempt()
    assert time.monotonic() - start < 10
    engine.close()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("package", ["pymilvus", "milvus_lite"])
def test_without_the_extra_the_message_says_what_to_install(monkeypatch, tmp_path, package):
    for name in (package, f"{package}.server_manager"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=rf"{package}.*pip install 'subspace\[milvus\]'"):
        MilvusEngine.create(f"{tmp_path / 'index.db'}#docs", **ABOUT)


def test_importing_the_engine_does_not_import_milvus():
    code = (
        "import sys, subspace.retrieval.engines.milvus_engine\n"
        "print({'pymilvus', 'milvus_lite', 'grpc'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_closing_ends_milvus_lite_with_the_last_engine_on_its_file(tmp_path):
    before = set(threading.enumerate())
    target = f"{tmp_path / 'index.db'}#docs"
    first = MilvusEngine.create(target, **ABOUT)
    second = MilvusEngine.open(target)
    first.upsert(make_documents(1), unit_vectors(1))
    first.close()
    first.close()
    assert second.count() == 1
    assert set(threading.enumerate()) > before
    second.close()
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) > before and time.monotonic() < deadline:
        gc.collect()  # an executor's threads end with it
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before
    import fcntl

    with (tmp_path / "index.db" / "LOCK").open() as lock:  # as another process would
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(EngineError, match="in use by another process"):
            MilvusEngine.open(target)


@pytest.mark.parametrize("scope", ["block", "item"])
def test_an_index_on_it_gives_the_same_hits_and_parts(world, tmp_path, scope):
    weights = {
        "relevance": {"topic": 1, "style": 0.5, "tone": 0.2},
        "recency": {"topic": 0.5, "tone": 0.3},
        "importance": {"topic": 0.3, "style": 0.6},
    }
    with UsageLog.open(tmp_path / "usage.db", clock="steps") as log:
        rng = np.random.default_rng(0)
        for n in rng.integers(0, 450, size=200):
            log.add([(f"d{n}", float(rng.random()) if n % 3 else None)])
        ours, theirs = (BlockIndex(engine, usage=log) for engine in world)
        for where in (None, {"colour": "green"}):
            results = [
                index.search_batch(QUERIES, weights=weights, scope=scope, k=12, where=where)
                for index in (ours, theirs)
            ]
            for one, other in zip(*results, strict=True):
                assert [hit.id for hit in one.hits] == [hit.id for hit in other.hits]
                for mine, its in zip(one.hits, other.hits, strict=True):
                    assert mine.score == pytest.approx(its.score, abs=1e-5)
                    for block, parts in its.parts.items():
                        assert mine.parts[block] == pytest.approx(parts, abs=1e-5)
                        assert mine.metadata == its.metadata
