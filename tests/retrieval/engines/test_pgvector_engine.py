"""An index in PostgreSQL finds what the exact scan finds, and is written whole or not at all."""

import shutil
import socket
import sys
import tempfile
import threading
import time
import traceback
from itertools import count
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import sql

from subspace.blocks import BlockLayout, unit_blocks
from subspace.data.retrieval_sets import Document
from subspace.errors import ConfigError, EngineError, LayoutError, QueryError
from subspace.retrieval import BlockIndex, UsageLog, Use
from subspace.retrieval.engines import Found, NumpyEngine, Priors, create_engine, open_engine
from subspace.retrieval.engines.pgvector_engine import PgvectorEngine
from subspace.retrieval.weights import Weights

# pgserver asks where run-time files belong when it is imported; where no desktop session says so,
# the answer comes with a warning, which is of no concern to us.
pytestmark = pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR is not set")

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3, "tone": 2})
DIGEST = "0" * 64

STRANGE = [
    "'; DROP TABLE items; --",
    '"; DROP TABLE items; --',
    "100% %s %(query)b %%",
    "$1 {table} \\ \\\\ E'\\n'",
    "naïve 漢字 👩‍🚀",
    "line\nbreak\ttab",
    '{"a": [1, null]}',
    " ",
]


@pytest.fixture(scope="session")
def uri():
    """The address of a real server, which runs as long as the tests."""
    # pgserver opens the folders above its own to its user, which pytest's own folders do not
    # stay; and the path of a socket must be short.
    folder = Path(tempfile.mkdtemp())
    try:
        import pgserver

        server = pgserver.get_server(folder / "pg")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # no disk has to keep what is tried
            connection.execute("SELECT pg_reload_conf()")
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no PostgreSQL could be started: {error!r:.300}")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


numbers = count()


@pytest.fixture
def target(uri) -> str:
    """A table that is not there yet."""
    return f"{uri}#items {next(numbers)}"


@pytest.fixture
def admin(uri):
    """A second way into the database."""
    with psycopg.connect(uri, autocommit=True) as connection:
        yield connection


@pytest.fixture
def create(target):
    """Makes engines, and closes them."""
    engines = []

    def make(where: str = target, *, layout: BlockLayout = LAYOUT, **settings) -> PgvectorEngine:
        engine = create_engine(where, layout=layout, projection_digest=DIGEST, settings=settings)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


def table_of(target: str) -> str:
    return target.rpartition("#")[2]


def run(admin, statement: str, target: str, **parts):
    """Runs SQL on the table of a target, as somebody else would."""
    name = sql.Identifier(table_of(target))
    return admin.execute(sql.SQL(statement).format(name, **parts))


def unit_vectors(count: int, *, layout: BlockLayout = LAYOUT, seed: int = 0) -> np.ndarray:
    z = np.random.default_rng(seed).normal(size=(count, layout.dim)).astype(np.float32)
    return unit_blocks(z, layout=layout)


def make_documents(count: int, *, start: int = 0, **metadata) -> list[Document]:
    return [Document(id=f"d{n}", text=f"text {n}", metadata=metadata) for n in range(start, count)]


def fill(*engines, count: int = 30, seed: int = 0, documents=None) -> None:
    for engine in engines:
        engine.upsert(
            documents or make_documents(count),
            unit_vectors(count, layout=engine.layout, seed=seed),
        )


def in_memory(layout: BlockLayout = LAYOUT) -> NumpyEngine:
    return NumpyEngine(layout=layout, projection_digest=DIGEST)


def ids(found: Found) -> list[str]:
    return [document.id for document in found.documents]


def ranked(found: Found, query: np.ndarray, *, k: int, priors: Priors | None = None) -> list[str]:
    """The best `k` by the score in double precision, ties as found: what an index makes of it."""
    scores = found.vectors.astype(np.float64) @ query
    if priors is not None:
        own = dict(zip(priors.ids, priors.values, strict=False))
        scores = scores + [own.get(name, priors.default) for name in ids(found)]
    return [found.documents[row].id for row in np.argsort(-scores, kind="stable")[:k]]


def make_priors(names: list[str], *, seed: int = 0, scale: float = 1.0) -> Priors:
    values = scale * np.random.default_rng(seed).random(len(names))
    return Priors(ids=names, values=values, default=scale * 0.5)


# What is found.


@pytest.mark.parametrize("k", [1, 3, 10, 29, 30, 31, 400])
@pytest.mark.parametrize("with_priors", [False, True])
@pytest.mark.parametrize("where", [None, {"year": [1, 2]}, {"year": 0, "lang": "en"}, {"year": 9}])
def test_a_search_finds_what_the_exact_scan_finds(create, k, with_priors, where):
    engine, reference = create(), in_memory()
    documents = [
        Document(id=f"d{n}", text="x", metadata={"year": n % 4, "lang": ("en", "de")[n % 2]})
        for n in range(30)
    ]
    fill(engine, reference, documents=documents)
    queries = unit_vectors(6, seed=1) * np.float32(0.7)
    names = [f"d{n}" for n in range(0, 30, 3)] + ["elsewhere", "half \ud83d", "nul\0"]
    priors = make_priors(names) if with_priors else None
    found, expected = (
        e.search(queries, k=k, priors=priors, where=where) for e in (engine, reference)
    )
    assert engine.exact
    for query, mine, theirs in zip(queries, found, expected, strict=True):
        wanted = ranked(theirs, query, k=k, priors=priors)
        assert ranked(mine, query, k=k, priors=priors) == wanted
        assert len(ids(mine)) == len(set(ids(mine))) >= len(wanted)
        np.testing.assert_array_equal(
            mine.vectors, reference.fetch(ids(mine)).vectors
        )  # to the bit


def test_priors_decide(create):
    """The counter-check: without them, something else is found."""
    engine, reference = create(), in_memory()
    fill(engine, reference, count=200)
    queries = unit_vectors(10, seed=1)
    priors = make_priors([f"d{n}" for n in range(0, 200, 5)], scale=3)
    plain, with_priors = (engine.search(queries, k=5, priors=p) for p in (None, priors))
    assert all(
        ranked(one, query, k=5) != ranked(other, query, k=5, priors=priors)
        for one, other, query in zip(plain, with_priors, queries, strict=True)
    )


def test_ids_that_came_after_the_values_of_the_priors_are_not_counted(create):
    engine = create()
    fill(engine, count=3)
    priors = Priors(ids=["d0", "d1", "d2"], values=np.array([9.0, 8.0]), default=0.0)
    found = engine.search(unit_vectors(1, seed=1), k=2, priors=priors)[0]
    assert set(ids(found)) == {"d0", "d1"}


def test_copies_are_found_in_the_order_of_adding(create):
    engine, reference = create(), in_memory()
    copies = np.repeat(unit_vectors(2), 50, axis=0)
    for one in (engine, reference):
        one.upsert(make_documents(100), copies)
    for query in unit_vectors(5, seed=3):
        mine, theirs = (one.search(query[None], k=4)[0] for one in (engine, reference))
        assert ranked(mine, query, k=4) == ranked(theirs, query, k=4)
        assert ids(mine) == sorted(ids(mine), key=lambda name: int(name[1:]))


def test_what_ties_with_the_last_comes_too(create):
    """Sums in float32 cannot tell these apart; whoever adds up in double precision can."""
    layout = BlockLayout.from_widths({"a": 2, "b": 2})
    engine = create(layout=layout)
    vectors = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1]], np.float32)
    engine.upsert(make_documents(4), vectors)
    query = np.array([[0.2, 0.1, 0.6, 0.5]], np.float32)
    assert np.float32(0.2) + np.float32(0.5) < np.float32(0.1) + np.float32(0.6)
    assert ids(engine.search(query, k=1)[0]) == ["d0", "d1", "d2"]


def test_an_empty_index_finds_nothing(create):
    engine = create()
    found = engine.search(unit_vectors(2, seed=1), k=3, priors=make_priors(["d0"]))
    assert [f.vectors.shape for f in found] == [(0, LAYOUT.dim)] * 2
    assert engine.count() == engine.delete(["d0"]) == 0
    assert engine.fetch(["d0"]).vectors.shape == (0, LAYOUT.dim)
    assert engine.sample(5).documents == ()
    assert engine.search(np.empty((0, LAYOUT.dim), np.float32), k=3) == []


SCALARS = [
    *(0, 1, 1.0, 0.0, -0.0, 0.5, 0.1, -1, 2**53, 2**53 + 1, float(2**53), 5e-324, 1e300),
    *(2**63 - 1, 1e19, 2.0**63, 1e23, 123456789.5, True, False, "", "1", "true", "é", "e\u0301"),
    *STRANGE,
]
NAMES = ["kind", "it's", "100%s", 'a"b', "a.b", "漢"]


def test_filters_mean_what_they_mean_in_memory(create):
    engine, reference = create(), in_memory()
    random = np.random.default_rng(0)

    def draw(values):
        return values[random.integers(len(values))]

    documents = [
        Document(
            id=f"d{n}",
            text="x",
            metadata={name: draw(SCALARS) for name in NAMES if random.random() < 0.7},
        )
        for n in range(300)
    ]
    fill(engine, reference, count=300, documents=documents)
    filters = [{"kind": value} for value in SCALARS]
    for _ in range(60):
        some = random.permutation(len(NAMES))[: random.integers(1, 3)]
        filters.append(
            {NAMES[n]: [draw(SCALARS) for _ in range(random.integers(1, 12))] for n in some}
        )
    hits = 0
    for where in filters:
        expected = reference.count(where)
        hits += expected > 0
        assert engine.count(where) == expected, where
        query = unit_vectors(1, seed=1)
        mine, theirs = (one.search(query, k=300, where=where)[0] for one in (engine, reference))
        assert ids(mine) == ids(theirs), where
    assert hits > 60


def test_true_is_not_one_and_one_is_one_point_zero(create):
    engine = create()
    values = [1, 1.0, True, "1"]
    documents = [Document(id=f"d{n}", text="x", metadata={"v": v}) for n, v in enumerate(values)]
    fill(engine, count=4, documents=documents)
    assert [engine.count({"v": v}) for v in values] == [2, 2, 1, 1]


def test_documents_come_back_as_they_were(create):
    engine = create()
    documents = [
        Document(id=f"{n} {text}", text=text, metadata={text: text, "v": SCALARS[n], "n": n})
        for n, text in enumerate(STRANGE * 3)
    ]
    vectors = unit_vectors(len(documents))
    engine.upsert(documents, vectors)
    found = engine.fetch([document.id for document in documents])
    assert found.documents == tuple(documents)
    for one, other in zip(found.documents, documents, strict=True):
        assert {k: type(v) for k, v in one.metadata.items()} == {
            k: type(v) for k, v in other.metadata.items()
        }
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, vectors)


@pytest.mark.parametrize("strange", STRANGE)
def test_nothing_in_names_and_values_is_taken_for_sql(create, admin, target, strange):
    engine = create()
    engine.upsert(
        [Document(id=strange, text=strange, metadata={strange: strange}), *make_documents(3)],
        unit_vectors(4),
    )
    priors = Priors(ids=[strange], values=np.array([100.0]), default=0.0)
    query = unit_vectors(1, seed=1)
    assert ranked(engine.search(query, k=1, priors=priors)[0], query[0], k=1, priors=priors) == [
        strange
    ]
    assert engine.count({strange: strange}) == 1
    assert ids(engine.search(query, k=9, where={strange: [strange, 1]})[0]) == [strange]
    assert ids(engine.fetch([strange, "d1"])) == [strange, "d1"]
    assert engine.delete([strange]) == 1
    assert engine.count() == 3
    assert run(admin, "SELECT count(*) FROM {}", target).fetchone() == (3,)


@pytest.mark.parametrize("name", [n for n in STRANGE if n.isprintable()] + ["x" * 63, 'a"b', "A.b"])
def test_a_table_may_have_any_name(create, uri, admin, name):
    engine = create(f"{uri}#{name}", layout=BlockLayout.from_widths({"100% %s": 3}))
    fill(engine, count=4)
    assert run(admin, "SELECT count(*) FROM {}", f"#{name}").fetchone() == (4,)
    again = open_engine(f"{uri}#{name}")
    assert again.count() == 4
    assert again.layout == engine.layout
    again.close()
    create(f"{uri}#{name}")  # and again, in its place


@pytest.mark.parametrize("name", ["x" * 64, "é" * 32, "a\0b", "a\nb"])
def test_a_name_that_postgresql_would_cut_is_refused(uri, name):
    with pytest.raises(EngineError, match="at most 63 bytes"):
        PgvectorEngine.open(f"{uri}#{name}")


# What is written.


def test_a_document_given_again_replaces_the_old_one_in_its_place(create):
    engine, reference = create(), in_memory()
    fill(engine, reference)
    again = [
        Document(id="new", text="new"),
        Document(id="d3", text="changed", metadata={"a": 1}),
        Document(id="d1", text="too"),
    ]
    for one in (engine, reference):
        one.upsert(again, unit_vectors(3, seed=5))
    assert engine.count() == 31
    query = unit_vectors(1, seed=1)
    mine, theirs = (one.search(query, k=31)[0] for one in (engine, reference))
    assert mine.documents == theirs.documents
    np.testing.assert_array_equal(mine.vectors, theirs.vectors)
    assert ids(mine)[3] == "d3"
    assert mine.documents[3].text == "changed"


def test_documents_keep_their_order_over_many_batches(create):
    engine = create()
    fill(engine, count=1201)
    assert ids(engine.search(unit_vectors(1, seed=1), k=2000)[0]) == [f"d{n}" for n in range(1201)]


def test_deleted_documents_are_gone_and_come_back_at_the_end(create):
    engine = create()
    fill(engine, count=5)
    assert engine.delete(["d1", "d3", "d1", "nowhere", "nul\0", "half \ud83d"]) == 2
    assert engine.delete(["d1"]) == engine.delete([]) == 0
    engine.upsert(make_documents(2, start=1), unit_vectors(1))
    found = engine.search(unit_vectors(1, seed=1), k=9)[0]
    assert ids(found) == ["d0", "d2", "d4", "d1"]


def test_documents_are_fetched_in_the_order_asked_for(create):
    engine, reference = create(), in_memory()
    fill(engine, reference)
    wanted = ["d7", "nowhere", "d2", "d29", "d2", "nul\0", "half \ud83d", "d0"]
    mine, theirs = (one.fetch(wanted) for one in (engine, reference))
    assert ids(mine) == ["d7", "d2", "d29", "d2", "d0"]
    assert mine.documents == theirs.documents
    np.testing.assert_array_equal(mine.vectors, theirs.vectors)


def test_a_sample_is_the_same_every_time_and_from_all_over(create):
    engine = create()
    fill(engine, count=300)
    first = engine.sample(100)
    assert ids(first) == ids(engine.sample(100))
    places = [int(name[1:]) for name in ids(first)]
    assert len(set(places)) == 100
    assert places == sorted(places)
    assert np.histogram(places, bins=3)[0].min() > 15
    assert len(engine.sample(301).documents) == 300


GOOD = Document(id="good", text="x")
LONG = "漢" * 1000


@pytest.mark.parametrize(
    ("bad", "value", "error", "message"),
    [
        (GOOD, 0, EngineError, "ids must differ.*good"),
        (Document(id="", text="x"), 0, EngineError, "id of a document"),
        (Document(id="nul\0", text="x"), 0, EngineError, "NUL"),
        (Document(id="b", text="x"), np.nan, LayoutError, "'b' holds NaN or infinity"),
        (Document(id="b", text="x"), np.inf, LayoutError, "'b' holds NaN or infinity"),
        (Document(id="b", text="x", metadata={"v": np.nan}), 0, EngineError, "'v' of document 'b'"),
        (Document(id="b", text="x", metadata={"v": "\0"}), 0, EngineError, "'v' of document 'b'"),
        (Document(id="b", text="x", metadata={"v\0": 1}), 0, EngineError, "of document 'b'"),
        (Document(id="b", text="x", metadata={"v": [1]}), 0, EngineError, "'v' of document 'b'"),
        (Document(id="b", text="x", metadata={"v": None}), 0, EngineError, "got None"),
        (Document(id="b", text="x", metadata={"v": 2**63}), 0, EngineError, "'v' of"),
        (Document(id=LONG, text="x"), 0, EngineError, "has 3000 bytes.*up to 2600"),
    ],
)
def test_what_is_refused_is_named_and_nothing_is_written(create, bad, value, error, message):
    engine = create()
    fill(engine, count=3)
    before = engine.search(unit_vectors(1, seed=1), k=9)[0]
    vectors = unit_vectors(3, seed=4)
    vectors[2, 0] += value
    with pytest.raises(error, match=message):
        engine.upsert([Document(id="d1", text="changed"), GOOD, bad], vectors)
    after = engine.search(unit_vectors(1, seed=1), k=9)[0]
    assert after.documents == before.documents
    np.testing.assert_array_equal(after.vectors, before.vectors)
    engine.upsert([Document(id="d1", text="changed"), GOOD], vectors[:2])  # without it, it is
    assert engine.count() == 4


def test_what_the_server_refuses_in_the_end_is_not_written_at_all(create, admin, target):
    engine = create()
    run(admin, "ALTER TABLE {} ADD CHECK (id <> 'd1100')", target)
    with pytest.raises(EngineError, match=r"cannot be used: new row .* violates check constraint"):
        fill(engine, count=1200)
    assert engine.count() == 0
    fill(engine, count=1100)
    assert engine.count() == 1100


def test_an_id_as_long_as_can_be_is_found(create):
    engine = create()
    random = np.random.default_rng(0)
    long = Document(id="".join(chr(n) for n in random.integers(33, 127, 2600)), text="x")
    engine.upsert([long], unit_vectors(1))
    assert engine.fetch([long.id]).documents == (long,)


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda engine, query: engine.search(query, k=0), ConfigError),
        (lambda engine, query: engine.search(query[:, :-1], k=1), LayoutError),
        (lambda engine, query: engine.search(query * np.float32(np.nan), k=1), LayoutError),
        (lambda engine, query: engine.search(query, k=1, where={"v": []}), QueryError),
        (lambda engine, query: engine.count({"v": np.inf}), QueryError),
        (lambda engine, query: engine.upsert(make_documents(2), query), LayoutError),
    ],
)
def test_questions_that_make_no_sense_are_refused(create, ask, error):
    with pytest.raises(error):
        ask(create(), unit_vectors(1))


def wait_for(condition, *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


BLOCKED = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'"


def test_a_connection_lost_in_the_middle_of_an_upsert_leaves_nothing_of_it(create, admin, target):
    engine = create()
    fill(engine, count=1200, documents=make_documents(1200, age="old"))
    raised = []

    def write():
        try:
            fill(engine, count=1200, seed=1, documents=make_documents(1200, age="new"))
        except EngineError as error:
            raised.append(error)

    with psycopg.connect(target.partition("#")[0]) as holder:
        # A row of the last of three batches is held, so that the upsert has written two of them.
        run(holder, "SELECT 1 FROM {} WHERE id = 'd1100' FOR UPDATE", target)
        writer = threading.Thread(target=write)
        writer.start()
        wait_for(lambda: admin.execute(BLOCKED).fetchall())
        # Counter-check: the first batches are done, only not to be seen.
        assert engine._connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
        (pid,) = admin.execute(BLOCKED).fetchone()
        admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        writer.join(timeout=60)
        holder.rollback()
    assert not writer.is_alive()
    (error,) = raised
    assert "the connection was lost" in str(error)
    assert "terminating connection" in str(error)
    assert engine.count() == engine.count({"age": "old"}) == 1200  # it connected again
    fill(engine, count=1200, seed=1, documents=make_documents(1200, age="new"))
    assert engine.count({"age": "new"}) == 1200


@pytest.mark.parametrize("hnsw", [False, True])
def test_a_connection_lost_between_two_calls_is_said_once(create, admin, hnsw):
    engine = create(hnsw=hnsw)
    fill(engine)
    admin.execute("SELECT pg_terminate_backend(%s)", (engine._connection.info.backend_pid,))
    query = unit_vectors(1, seed=1)
    with pytest.raises(EngineError, match=r"connection was lost.*connects again"):
        engine.search(query, k=3)
    assert len(ids(engine.search(query, k=3)[0])) >= 3


def test_two_engines_see_each_others_writes(create, target):
    first = create()
    fill(first, count=3)
    second = open_engine(target)
    try:
        assert second.layout == LAYOUT
        assert second.projection_digest == DIGEST
        second.upsert(make_documents(5, start=2), unit_vectors(3, seed=2))
        assert first.count() == 5
        query = unit_vectors(1, seed=1)
        mine, theirs = (one.search(query, k=9)[0] for one in (first, second))
        assert mine.documents == theirs.documents
        first.delete(["d0"])
        assert ids(second.fetch(["d0", "d4"])) == ["d4"]
    finally:
        second.close()


def test_writers_of_the_same_documents_wait_for_each_other(create, target):
    """Written in opposite orders, rows would be waited for in a circle."""
    engines = [create(), open_engine(target)]
    errors = []

    def write(engine, step):
        try:
            for _ in range(5):
                documents = make_documents(600)[::step]
                engine.upsert(documents, unit_vectors(600))
        except EngineError as error:
            errors.append(error)

    writers = [
        threading.Thread(target=write, args=(engine, step))
        for engine, step in zip(engines, (1, -1), strict=True)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert not errors
    assert engines[0].count() == 600
    engines[1].close()


def test_threads_may_share_an_engine(create):
    engine = create()
    fill(engine, count=100)
    queries = unit_vectors(20, seed=1)
    expected = [ids(found) for found in engine.search(queries, k=3)]
    wrong = []

    def search_and_write(number):
        for query, names in zip(queries, expected, strict=True):
            engine.upsert([Document(id="d0", text=f"{number}")], unit_vectors(1))
            if ids(engine.search(query[None], k=3)[0]) != names:
                wrong.append(number)

    threads = [threading.Thread(target=search_and_write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong


def test_a_closed_engine_says_so(create):
    engine = create()
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="was closed; open it again"):
        engine.count()


# What is there already.


def test_an_index_is_replaced_by_an_empty_one_of_another_layout(create, target):
    fill(create(), count=3)
    other = BlockLayout.from_widths({"all of it": 7})
    create(layout=other, hnsw=True)
    engine = open_engine(target)
    assert engine.layout == other
    assert not engine.exact
    assert engine.count() == 0
    engine.close()


def test_an_engine_whose_index_was_made_anew_does_not_take_it_for_its_own(create):
    engine = create()
    fill(engine, count=3)
    new = create()
    query = unit_vectors(1, seed=1)
    with pytest.raises(EngineError, match="made anew by somebody else; open it again"):
        fill(engine, count=3)
    assert new.count() == 0
    fill(new, count=3)
    for ask in (lambda: engine.search(query, k=1), lambda: engine.fetch(["d0"])):
        with pytest.raises(EngineError, match="made anew"):
            ask()


FOREIGN = [
    "CREATE TABLE {} (id text)",
    "CREATE TABLE {} (id text, seq bigint, text text, metadata jsonb, embedding vector(10))",
    "CREATE VIEW {} AS SELECT 1 AS one",
    "CREATE SEQUENCE {}",
]


@pytest.mark.parametrize("statement", FOREIGN)
def test_what_is_not_ours_is_neither_opened_nor_replaced(create, admin, target, statement):
    run(create(f"{target} other") and admin, statement, target)  # the other brings the extension
    with pytest.raises(EngineError, match="is not an index of subspace"):
        open_engine(target)
    with pytest.raises(EngineError, match=r"not an index of subspace.*choose another name"):
        create()
    assert admin.execute(
        "SELECT count(*) FROM pg_class WHERE relname = %s", (table_of(target),)
    ).fetchone() == (1,)


def test_a_system_table_is_not_ours(create, uri):
    with pytest.raises(EngineError, match=r"'pg_class'.*not an index of subspace"):
        create(f"{uri}#pg_class")


def test_a_table_of_ours_with_columns_of_others_is_used_but_not_replaced(create, admin, target):
    engine = create()
    fill(engine, count=3)
    run(admin, "ALTER TABLE {} ADD notes text DEFAULT 'mine'", target)
    fill(engine, count=4)
    with pytest.raises(EngineError, match="not an index of subspace, or not that alone"):
        create()
    assert run(admin, "SELECT count(notes) FROM {}", target).fetchone() == (4,)
    again = open_engine(target)
    assert again.count() == 4
    again.close()


def test_an_index_that_others_build_on_stays_whole_when_it_cannot_be_replaced(
    create, admin, target
):
    engine = create()
    fill(engine, count=3)
    view = sql.Identifier(table_of(target) + " view")
    run(admin, "CREATE VIEW {view} AS SELECT id FROM {}", target, view=view)
    with pytest.raises(EngineError, match="other objects depend on it"):
        create(layout=BlockLayout.from_widths({"other": 4}))
    assert engine.count() == 3
    again = open_engine(target)
    assert again.layout == LAYOUT
    again.close()


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        (None, "is not an index of subspace, or its comment"),
        ("", "is not an index of subspace, or its comment"),
        ("our dear items", "is not an index of subspace, or its comment"),
        ('{"subspace": {"format_version"', "is not an index of subspace, or its comment"),
        ('{"subspace": {"format_version": 99}}', "has format version 99.*reads 1; build it again"),
        ('{"subspace": {"format_version": 1}}', "damaged comment.*build it again"),
        (
            '{"subspace": {"format_version": 1, "projection": "0", "hnsw": false, "blocks": [1]}}',
            "damaged comment",
        ),
        (
            '{"subspace": {"format_version": 1, "projection": "0", "hnsw": false, "blocks": {}}}',
            "damaged comment",
        ),
        (
            '{"subspace": {"format_version": 1, "projection": "0", "hnsw": false,'
            ' "blocks": {"a": 9}}}',
            r"comment says 9 dimensions, the table has vector\(10\)",
        ),
    ],
)
def test_an_index_whose_comment_is_damaged_is_not_opened(create, admin, target, comment, message):
    create()
    run(admin, "COMMENT ON TABLE {} IS {text}", target, text=sql.Literal(comment))
    with pytest.raises(EngineError, match=message):
        open_engine(target)


def test_a_table_that_is_not_there_is_one_sentence(uri):
    with pytest.raises(
        EngineError, match=r"there is no index 'nowhere' in PostgreSQL at .*; build"
    ):
        open_engine(f"{uri}#nowhere")


# Servers that are not there.


@pytest.fixture
def silent():
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("kind", ["closed", "silent"])
@pytest.mark.parametrize("how", ["open", "create"])
def test_a_server_that_cannot_be_reached_is_said_in_time_without_the_password(silent, kind, how):
    port = silent
    if kind == "closed":
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
    target = f"postgresql://someone:s3cret@127.0.0.1:{port}/db?connect_timeout=2#items"
    begin = time.monotonic()
    with pytest.raises(EngineError, match=f"cannot connect.*127.0.0.1:{port}.*server") as caught:
        if how == "open":
            PgvectorEngine.open(target)
        else:
            PgvectorEngine.create(target, layout=LAYOUT, projection_digest=DIGEST)
    assert time.monotonic() - begin < 10
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("postgresql://u:s3cret@host/db", "has a table: postgresql://USER"),
        ("postgresql://u:s3cret@host/db#", "has a table: postgresql://USER"),
        ("postgresql://u:s3cret@[host/db#t", "cannot read the address"),
        ("postgresql://u:pass@host/db?s3cret=1#t", "cannot read the address"),
        ("postgresql://u:s3c#s3cret@host/db", "cannot read the address.*%23 for #"),
        ("postgresql://u:1234#s3cret@host/db", "cannot read the address.*%23 for #"),
    ],
)
def test_an_address_that_is_wrong_is_not_repeated(target, message):
    with pytest.raises(EngineError, match=message) as caught:
        PgvectorEngine.open(target)
    assert not any(part in str(caught.value) for part in ("s3c", "1234"))


def test_no_error_tells_the_password(create, uri, admin):
    """The server asks for none, so that a wrong one does."""
    given = uri.replace("postgres:@", "postgres:s3cret@")
    assert given != uri
    engine = create(f"{given}#told")
    run(admin, "DROP TABLE {}", "#told")
    with pytest.raises(EngineError, match="'told' in PostgreSQL at") as caught:
        engine.count()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in repr(engine._address)


def test_a_user_who_may_not_add_the_extension_is_told_whom_to_ask(uri, admin):
    admin.execute("CREATE DATABASE bare")
    admin.execute("CREATE ROLE guest LOGIN")
    guest = uri.replace("postgres:@/postgres", "guest:@/bare")
    try:
        with pytest.raises(EngineError, match=r"ask an administrator to run.*CREATE EXTENSION vec"):
            PgvectorEngine.create(f"{guest}#t", layout=LAYOUT, projection_digest=DIGEST)
        with pytest.raises(EngineError, match="there is no index 't'"):
            PgvectorEngine.open(f"{guest}#t")
    finally:
        admin.execute("DROP DATABASE bare")
        admin.execute("DROP ROLE guest")


def test_a_user_who_may_only_read_can_search_and_not_write(create, uri, admin, target):
    fill(create(), count=3)
    admin.execute("CREATE ROLE reader LOGIN")
    run(admin, "GRANT SELECT ON {} TO reader", target)
    engine = open_engine(target.replace("postgres:@", "reader:@"))
    try:
        assert len(ids(engine.search(unit_vectors(1, seed=1), k=3)[0])) == 3
        for write in (lambda: fill(engine, count=3), lambda: engine.delete(["d0"])):
            with pytest.raises(EngineError, match=r"permission denied.*ask an administrator"):
                write()
        with pytest.raises(EngineError, match="ask an administrator"):
            create(target.replace("postgres:@", "reader:@"))
        assert engine.count() == 3
    finally:
        engine.close()
        run(admin, "REVOKE ALL ON {} FROM reader", target)
        admin.execute("DROP ROLE reader")


def test_a_statement_that_takes_too_long_is_given_up(create, uri, target):
    fill(create(), count=3)
    hurried = target.replace("?", "?options=-cstatement_timeout%3D300ms&")
    engine = open_engine(hurried)
    try:
        with psycopg.connect(uri) as holder:
            run(holder, "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", target)
            with pytest.raises(EngineError, match="statement timeout; give it more time"):
                engine.search(unit_vectors(1, seed=1), k=3)
            holder.rollback()
        assert len(ids(engine.search(unit_vectors(1, seed=1), k=3)[0])) == 3
    finally:
        engine.close()


@pytest.mark.parametrize("package", ["psycopg", "pgvector.psycopg"])
def test_without_the_packages_the_message_says_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineError, match=r"pip install 'subspace\[pgvector\]'"):
        PgvectorEngine.open("postgresql://127.0.0.1:1/db#t")


# Weights, and HNSW.


def test_weights_recency_and_importance_change_without_a_write(create, target, tmp_path):
    """A connection that may not write can do it all."""
    fill(create())
    reading = target.replace("?", "?options=-cdefault_transaction_read_only%3Don&")
    engine = open_engine(reading)
    with UsageLog.open(tmp_path / "log.db", clock="steps") as log:
        index = BlockIndex(engine, usage=log)
        seen = set()
        for step, preset in enumerate(["balanced", "pure_relevance", "balanced"]):
            log.add([Use(item=f"d{step}", time=step, success=1.0)])
            for weights in (f"topic=1;preset={preset}", f"style=1,tone=0.5;preset={preset}"):
                for scope in ("item", "block"):
                    hits = index.search(unit_vectors(1)[0], weights=weights, scope=scope, k=5)
                    seen.add(tuple(hit.id for hit in hits))
    assert len(seen) > 4
    with pytest.raises(EngineError, match="read-only"):
        fill(engine)
    engine.close()


@pytest.mark.parametrize("scope", ["item", "block"])
def test_an_index_gives_the_same_results_on_either_engine(create, tmp_path, scope):
    engine, reference = create(), in_memory()
    documents = [Document(id=f"d{n}", text=f"{n}", metadata={"year": n % 5}) for n in range(400)]
    fill(engine, reference, count=400, documents=documents)
    random = np.random.default_rng(2)
    with UsageLog.open(tmp_path / "log.db", clock="steps") as log:
        indexes = [BlockIndex(one, usage=log) for one in (engine, reference)]
        for step in range(25):
            log.add(
                [(f"d{n}", float(random.random())) for n in random.integers(0, 410, 8)]
            )  # some of them unknown
            table = Weights(
                LAYOUT, *(tuple(np.round(random.random(3), 2).tolist()) for _ in range(3))
            )
            mine, theirs = (
                index.search_batch(
                    unit_vectors(3, seed=step),
                    weights=table,
                    scope=scope,
                    k=7,
                    where={"year": [1, 2, 4]} if step % 2 else None,
                    candidates=40 if step % 3 == 0 else None,
                    exclude=[["d1"], [], ["d2", "d3"]],
                )
                for index in indexes
            )
            assert [results.hits for results in mine] == [results.hits for results in theirs]


CLUSTERED = BlockLayout.from_widths({"a": 16, "b": 16, "c": 16, "d": 16})


def clustered(count: int, *, seed: int) -> np.ndarray:
    """Each block around one of 30 centres of its own."""
    centres = np.random.default_rng(0).normal(size=(4, 30, 16))
    random = np.random.default_rng(seed)
    blocks = [
        centres[b, random.integers(0, 30, count)] + 0.4 * random.normal(size=(count, 16))
        for b in range(4)
    ]
    return unit_blocks(np.concatenate(blocks, axis=1).astype(np.float32), layout=CLUSTERED)


@pytest.fixture(scope="module")
def graph(uri):
    """The same 4,000 documents in a graph and in memory."""
    target = f"{uri}#graph"
    engine = PgvectorEngine.create(target, layout=CLUSTERED, projection_digest=DIGEST, hnsw=True)
    reference = in_memory(CLUSTERED)
    documents = [Document(id=f"d{n}", text="x", metadata={"rare": n % 200}) for n in range(4000)]
    for one in (engine, reference):
        one.upsert(documents, clustered(4000, seed=1))
    yield engine, reference
    engine.close()


def recall(engine, reference, queries, *, k=10, priors=None, where=None) -> float:
    shares = []
    found, expected = (
        one.search(queries, k=k, priors=priors, where=where) for one in (engine, reference)
    )
    for query, mine, theirs in zip(queries, found, expected, strict=True):
        wanted = ranked(theirs, query, k=k, priors=priors)
        got = ranked(mine, query, k=k, priors=priors)
        shares.append(len(set(got) & set(wanted)) / max(1, len(wanted)))
    return float(np.mean(shares))


def folded(kind: str, count: int) -> np.ndarray:
    random = np.random.default_rng(3)
    tables = np.eye(4) if kind == "one-hot" else random.dirichlet(np.ones(4), size=count)
    queries = clustered(count, seed=4)
    return np.stack(
        [
            Weights(CLUSTERED, (0,) * 4, (0,) * 4, tuple(tables[n % len(tables)])).fold(query)
            for n, query in enumerate(queries)
        ]
    )


@pytest.mark.parametrize("kind", ["one-hot", "dirichlet"])
def test_a_graph_finds_nearly_all_whatever_the_weights(graph, kind):
    engine, reference = graph
    assert not engine.exact
    assert recall(engine, reference, folded(kind, 40)) >= 0.95


def test_a_graph_is_really_used(graph, admin, uri):
    """On a server that looks rows up one by one by an index, as with millions of them."""
    off = "%20".join(f"-cenable_{way}%3Doff" for way in ("seqscan", "mergejoin", "hashjoin"))
    engine = open_engine(uri.replace("?", f"?options={off}&") + "#graph")
    queries = folded("dirichlet", 5)

    def scans(k: int) -> tuple[int, int]:
        """Of the graph, and rows read in another way, per query."""
        before = read_counts()
        engine.search(queries, k=k)
        pid = engine._connection.info.backend_pid
        engine._connection.close()  # a server process adds what it counted at its end
        running = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
        wait_for(lambda: admin.execute(running, (pid,)).fetchone() is None)
        return tuple(
            (after - count) // 5 for after, count in zip(read_counts(), before, strict=True)
        )

    def read_counts() -> tuple[int, int]:
        return admin.execute(
            "SELECT g.idx_scan, i.idx_tup_read + t.seq_tup_read "
            "FROM pg_stat_user_tables AS t JOIN pg_stat_user_indexes AS g USING (relid) "
            "JOIN pg_stat_user_indexes AS i USING (relid) "
            "WHERE g.indexrelname = 'graph_embedding_idx' AND i.indexrelname = 'graph_pkey'"
        ).fetchone()

    scanned, read = scans(k=250)
    assert scanned == 1
    assert read < 2000
    # Counter-check: for more than the graph can give, all 4,000 are read.
    scanned, read = scans(k=251)
    assert scanned == 0
    assert read >= 4000
    engine.close()


@pytest.mark.parametrize("scale", [0.05, 0.5, 5.0])
def test_in_a_graph_popular_items_are_found_wherever_they_are(graph, scale):
    engine, reference = graph
    priors = make_priors([f"d{n}" for n in range(0, 4000, 7)], scale=scale)
    assert recall(engine, reference, folded("dirichlet", 30), priors=priors) >= 0.95


@pytest.mark.parametrize(
    ("k", "where"), [(10, {"rare": 3}), (10, {"rare": [3, 4, 5]}), (300, None), (5000, None)]
)
def test_where_a_graph_gives_too_few_all_are_read(graph, k, where):
    engine, reference = graph
    queries = folded("dirichlet", 4)
    assert recall(engine, reference, queries, k=k, where=where) >= 0.95
    expected = min(k, reference.count(where))
    assert all(len(f.documents) >= expected for f in engine.search(queries, k=k, where=where))


def test_where_a_filter_leaves_too_few_of_a_graph_all_are_read(graph, uri):
    """On a server that walks the graph whenever it can."""
    _, reference = graph
    engine = open_engine(uri.replace("?", "?options=-cenable_seqscan%3Doff&") + "#graph")
    queries = folded("dirichlet", 10)
    assert recall(engine, reference, queries, where={"rare": 3}) == 1
    engine.close()


def test_a_graph_is_written_like_a_table(create, target):
    engine = create(hnsw=True)
    fill(engine)
    fill(engine, seed=1)
    assert engine.delete(["d3"]) == 1
    reference = in_memory()
    fill(reference, seed=1)
    reference.delete(["d3"])
    assert recall(engine, reference, unit_vectors(5, seed=2), k=9) == 1
    again = open_engine(target)
    assert not again.exact
    again.close()


def test_too_many_dimensions_are_refused_before_anything_is_done(create):
    wide = BlockLayout.from_widths({"a": 1000, "b": 1001})
    with pytest.raises(ConfigError, match="hnsw takes up to 2000 dimensions, the blocks have 2001"):
        create(layout=wide, hnsw=True)
    engine = create(layout=wide)  # without the graph they are no trouble
    reference = in_memory(wide)
    fill(engine, reference, count=12)
    assert recall(engine, reference, unit_vectors(3, layout=wide, seed=1), k=5) == 1
    with pytest.raises(EngineError, match="up to 16000 dimensions, the blocks have 16001"):
        create(layout=BlockLayout.from_widths({"a": 16_001}))
    with pytest.raises(ConfigError, match="hnsw must be true or false, got 'no'"):
        create(hnsw="no")
