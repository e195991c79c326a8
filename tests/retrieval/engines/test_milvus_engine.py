"""Milvus: what it writes in batches, what it cannot give, and what is no index of ours."""

import gc
import json
import socket
import sys
import threading
import time

import numpy as np
import pytest
from engine_world import (
    ABOUT,
    LAYOUT,
    QUERIES,
    SlowScan,
    assert_finds,
    assert_found,
    assert_keeps,
    colours,
    fill,
    ids,
    make_priors,
    make_records,
    unit_vectors,
)

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import ConfigError, EngineError
from subspace.retrieval import Index
from subspace.retrieval.engines import (
    create_engine,
    milvus_connection,
    milvus_engine,
    milvus_rows,
    threshold,
)
from subspace.retrieval.engines.milvus_engine import MilvusEngine
from subspace.retrieval.keywords import KeywordIndex


@pytest.fixture
def engine(collection):
    engine = MilvusEngine.create(collection, **ABOUT)
    yield engine
    engine.close()


@pytest.fixture
def scan() -> SlowScan:
    return SlowScan()


@pytest.fixture(scope="module")
def world(milvus_file):
    """400 documents, some of them twice; not to be changed."""
    vectors = unit_vectors(400)
    vectors[300:340] = vectors[:40]
    engine, scan = MilvusEngine.create(f"{milvus_file}#world", **ABOUT), SlowScan()
    fill(engine, scan, documents=make_records(400, metadata=colours), vectors=vectors)
    yield engine, scan
    engine.close()


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


def test_documents_are_fetched_in_several_calls(world, monkeypatch):
    monkeypatch.setattr(milvus_engine, "_IDS", 2)
    asked = ["d7", "nobody", "d2", "d399", "d7", "d0"]
    assert_found(world[0].fetch(asked), ["d7", "d2", "d399", "d7", "d0"], world[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"id": "i" * 65_536}, "the id of document 'iii.*65,536 bytes"),
        ({"text": "é" * 32_768}, "the text of document 'bad'.*65,536 bytes.*65,535 at most"),
        ({"metadata": {"x": "y" * 65_536}}, "the metadata of document 'bad'"),
        ({"metadata": {f"x{n}": 1 for n in range(2_000)}}, "the metadata of document 'bad'"),
    ],
)
def test_a_document_that_is_too_long_is_named_and_nothing_is_written(engine, wrong, message):
    documents = [Record(id="good", text="text"), Record(**{"id": "bad", "text": "text", **wrong})]
    with pytest.raises(EngineError, match=message):
        engine.upsert(documents, unit_vectors(2))
    assert engine.count() == 0


def test_the_longest_texts_are_kept(engine):
    given = Record(id="i" * 65_535, text="é" * 32_767, metadata={"x": "y" * 65_000})
    engine.upsert([given], unit_vectors(1))
    assert engine.fetch([given.id]).documents == (given,)


def test_many_documents_are_written_in_several_messages(engine, scan, monkeypatch):
    monkeypatch.setattr(milvus_rows, "MESSAGE_BYTES", 2_000)
    fill(engine, scan, documents=make_records(700), vectors=unit_vectors(700))
    assert_finds(engine, scan, QUERIES, k=20)
    assert_finds(engine, scan, QUERIES, k=1000)


def test_a_batch_that_fails_says_how_to_complete_it(engine, scan, monkeypatch):
    from pymilvus import MilvusException

    documents, vectors = make_records(100), unit_vectors(100)
    monkeypatch.setattr(milvus_rows, "MESSAGE_BYTES", 2_000)
    client, sent = engine._connection._client, []
    upsert = client.upsert

    def fail_at_the_third(**options):
        sent.append(len(options["data"]))
        if len(sent) == 3:
            raise MilvusException(message="disk full")
        return upsert(**options)

    with monkeypatch.context() as patch:
        patch.setattr(client, "upsert", fail_at_the_third)
        with pytest.raises(EngineError, match="disk full") as error:
            engine.upsert(documents, vectors)
    assert f"{sum(sent[:2])} of 100 documents have been written" in str(error.value)
    assert engine.count() == sum(sent[:2])
    fill(engine, scan, documents=documents, vectors=vectors)
    assert_finds(engine, scan, QUERIES, k=100)


def test_keywords_are_refused_as_the_texts_are_on_the_server(world):
    with pytest.raises(ConfigError, match="counted in the texts of a folder"):
        KeywordIndex(world[0])


def test_an_hnsw_index_finds_nearly_all_and_says_that_it_is_not_exact(collection, world):
    engine = MilvusEngine.create(collection, **ABOUT, index="HNSW")
    try:
        everything = world[0].sample(1000)
        engine.upsert(everything.documents, everything.vectors)
        assert not engine.exact and world[0].exact
        ours, theirs = (one.search(QUERIES, k=10) for one in (engine, world[0]))
        for found, expected in zip(ours, theirs, strict=True):
            assert len(set(ids(found)) & set(ids(expected))) >= 9
        priors = make_priors({"d7": 90.0})
        assert all("d7" in ids(found) for found in engine.search(QUERIES, k=3, priors=priors))
    finally:
        engine.close()
    with pytest.raises(ConfigError, match="FLAT, HNSW"):
        MilvusEngine.create(collection, **ABOUT, index="IVF")


def test_more_hits_than_milvus_gives_are_refused(world, monkeypatch):
    monkeypatch.setattr(milvus_engine, "_MOST_HITS", 300)
    with pytest.raises(EngineError, match="Milvus gives 300 hits at most"):
        world[0].search(QUERIES[:1], k=301)
    assert_finds(*world, QUERIES, k=301, where={"colour": "red"})
    assert_finds(*world, QUERIES, k=300)


def test_priors_are_exact_where_milvus_gives_few_hits(world, monkeypatch):
    monkeypatch.setattr(milvus_engine, "_MOST_HITS", 40)
    monkeypatch.setattr(threshold, "_ROUND", 10)
    rng = np.random.default_rng(0)
    for default in (0.0, 2.0):
        priors = make_priors({f"d{n}": float(rng.random()) for n in range(300)}, default=default)
        assert_finds(*world, QUERIES, k=5, priors=priors)


def test_a_new_file_is_made_and_what_was_not_flushed_is_kept(tmp_path, scan):
    target = f"{tmp_path / 'new' / 'index.db'}#docs"
    engine = create_engine(target, **ABOUT)
    fill(engine, scan, documents=make_records(300), vectors=unit_vectors(300))
    fill(engine, scan, documents=make_records(1), vectors=unit_vectors(1, seed=2))  # not flushed
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.count()
    again = MilvusEngine.open(target)
    assert_keeps(again, scan)
    again.close()


@pytest.mark.parametrize("made", ["nothing", "another's JSON", "a later format"])
def test_a_collection_of_something_else_is_not_touched(milvus_file, collection, made):
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(str(milvus_file), dedicated=True)
    name = collection.partition("#")[2]
    texts = {
        "another's JSON": '{"a": 1}',
        "a later format": json.dumps(
            {"subspace": 2, "blocks": LAYOUT.to_widths(), "projection": "", "index": "FLAT"}
        ),
    }
    properties = {"subspace": texts[made]} if made in texts else {}
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(name, schema=schema, properties=properties)
    message = "format version 2" if made == "a later format" else "is no index of subspace"
    for attempt in (
        lambda: MilvusEngine.create(collection, **ABOUT),
        lambda: MilvusEngine.open(collection),
    ):
        with pytest.raises(EngineError, match=message):
            attempt()
    assert client.has_collection(name)
    client.close()


def test_a_collection_or_file_that_is_not_there_is_named(milvus_file, tmp_path):
    with pytest.raises(EngineError, match=r"no collection 'nothing' in .*index\.db; build it"):
        MilvusEngine.open(f"{milvus_file}#nothing")
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
    with pytest.raises(
        EngineError, match=rf"{package}.*pip install 'subspace-embeddings\[milvus\]'"
    ):
        MilvusEngine.create(f"{tmp_path / 'index.db'}#docs", **ABOUT)


def test_closing_ends_milvus_lite_with_the_last_engine_on_its_file(tmp_path):
    before = set(threading.enumerate())
    target = f"{tmp_path / 'index.db'}#docs"
    first = MilvusEngine.create(target, **ABOUT)
    second = MilvusEngine.open(target)
    first.upsert(make_records(1), unit_vectors(1))
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


def test_a_text_that_is_too_long_leaves_the_collection_that_it_was_to_replace(collection, model):
    Index.create(collection, model, [Record(id="a", text="bread")]).close()
    long = [Record(id="b", text="soup"), Record(id="c", text="soup " * 14_000)]
    with pytest.raises(EngineError, match="the text of document 'c' takes 70,000 bytes"):
        Index.create(collection, model, long)
    with Index.open(collection, model) as index:
        assert [hit.id for hit in index.search("soup")] == ["a"]


def test_too_many_dimensions_leave_the_collection_that_they_were_to_replace(engine, collection):
    fill(engine, documents=make_records(1), vectors=unit_vectors(1))
    with pytest.raises(EngineError, match="up to 32768 dimensions, the blocks have 32769"):
        layout = BlockLayout.from_widths({"a": 32_769})
        MilvusEngine.create(collection, layout=layout, projection_digest="0" * 64)
    assert engine.count() == 1


def test_a_collection_made_anew_for_other_vectors_is_not_written(engine, collection):
    new = MilvusEngine.create(collection, layout=LAYOUT, projection_digest="1" * 64)
    for write in (
        lambda: engine.upsert(make_records(1), unit_vectors(1)),
        lambda: engine.delete(["d0"]),
    ):
        with pytest.raises(EngineError, match="made anew by somebody else; open it again"):
            write()
    assert new.count() == 0
    new.close()
