"""PostgreSQL: an index is written whole or not at all, by whoever may, next to others' tables."""

import socket
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from engine_world import (
    ABOUT,
    DIGEST,
    LAYOUT,
    STRANGE,
    ids,
    make_engine,
    make_priors,
    make_records,
    unit_vectors,
)
from psycopg import sql

from subspace.blocks import BlockLayout, unit_blocks
from subspace.data.records import Record
from subspace.errors import ConfigError, EngineError
from subspace.retrieval import BlockIndex, Index, UsageLog, Use
from subspace.retrieval.engines import Candidates, Priors, create_engine, open_engine
from subspace.retrieval.engines.pgvector_engine import PgvectorEngine
from subspace.retrieval.weights import Weights


@pytest.fixture
def admin(postgres):
    """A second way into the database."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


@pytest.fixture
def create(table):
    """Makes engines, and closes them."""
    engines = []

    def make(where: str = table, *, layout: BlockLayout = LAYOUT, **settings) -> PgvectorEngine:
        engine = create_engine(where, layout=layout, projection_digest=DIGEST, settings=settings)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


def table_of(table: str) -> str:
    return table.rpartition("#")[2]


def run(admin, statement: str, table: str, **parts):
    """Runs SQL on the table of a table, as somebody else would."""
    name = sql.Identifier(table_of(table))
    return admin.execute(sql.SQL(statement).format(name, **parts))


def fill(engine, *, count: int = 30, seed: int = 0, **documents) -> None:
    vectors = unit_vectors(count, layout=engine.layout, seed=seed)
    engine.upsert(make_records(count, **documents), vectors)


def ranked(
    found: Candidates, query: np.ndarray, *, k: int, priors: Priors | None = None
) -> list[str]:
    """The best `k` by the score in double precision, ties as found: what an index makes of it."""
    scores = found.vectors.astype(np.float64) @ query
    if priors is not None:
        own = dict(zip(priors.ids, priors.values, strict=False))
        scores = scores + [own.get(name, priors.default) for name in ids(found)]
    return [found.documents[row].id for row in np.argsort(-scores, kind="stable")[:k]]


# What is found.


def test_of_more_copies_than_are_asked_for_the_first_are_found(create):
    engine, copies = create(), np.repeat(unit_vectors(2), 50, axis=0)
    engine.upsert(make_records(100), copies)
    for query in unit_vectors(5, seed=3):
        found = engine.search(query[None], k=4)[0]
        best = int(np.argmax(copies @ query))
        assert ids(found)[:4] == [f"d{n}" for n in range(best, best + 4)]


@pytest.mark.parametrize("name", [n for n in STRANGE if n.isprintable()] + ["x" * 63, 'a"b', "A.b"])
def test_a_table_may_have_any_name(create, postgres, admin, name):
    engine = create(f"{postgres}#{name}", layout=BlockLayout.from_widths({"100% %s": 3}))
    fill(engine, count=4)
    assert run(admin, "SELECT count(*) FROM {}", f"#{name}").fetchone() == (4,)
    again = open_engine(f"{postgres}#{name}")
    assert again.count() == 4
    assert again.layout == engine.layout
    again.close()
    create(f"{postgres}#{name}")  # and again, in its place


@pytest.mark.parametrize("name", ["x" * 64, "é" * 32, "a\0b", "a\nb"])
def test_a_name_that_postgresql_would_cut_is_refused(postgres, name):
    with pytest.raises(EngineError, match="at most 63 bytes"):
        PgvectorEngine.open(f"{postgres}#{name}")


# What is written.


def test_what_the_server_refuses_in_the_end_is_not_written_at_all(create, admin, table):
    engine = create()
    run(admin, "ALTER TABLE {} ADD CHECK (id <> 'd1100')", table)
    with pytest.raises(EngineError, match=r"cannot be used: new row .* violates check constraint"):
        fill(engine, count=1200)
    assert engine.count() == 0
    fill(engine, count=1100)
    assert engine.count() == 1100


def test_an_id_that_is_too_long_is_refused_and_nothing_is_written(create):
    engine, long = create(), Record(id="漢" * 1000, text="x")
    with pytest.raises(EngineError, match=r"has 3000 bytes.*up to 2600"):
        engine.upsert([*make_records(1), long], unit_vectors(2))
    assert engine.count() == 0


def test_an_id_as_long_as_can_be_is_found(create):
    engine = create()
    random = np.random.default_rng(0)
    long = Record(id="".join(chr(n) for n in random.integers(33, 127, 2600)), text="x")
    engine.upsert([long], unit_vectors(1))
    assert engine.fetch([long.id]).documents == (long,)


def wait_for(condition, *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


BLOCKED = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'"


def test_a_connection_lost_in_the_middle_of_an_upsert_leaves_nothing_of_it(create, admin, table):
    engine = create()
    fill(engine, count=1200, metadata=lambda n: {"age": "old"})
    raised = []

    def write():
        try:
            fill(engine, count=1200, seed=1, metadata=lambda n: {"age": "new"})
        except EngineError as error:
            raised.append(error)

    with psycopg.connect(table.partition("#")[0]) as holder:
        # A row of the last of three batches is held, so that the upsert has written two of them.
        run(holder, "SELECT 1 FROM {} WHERE id = 'd1100' FOR UPDATE", table)
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
    fill(engine, count=1200, seed=1, metadata=lambda n: {"age": "new"})
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


def test_two_engines_see_each_others_writes(create, table):
    first = create()
    fill(first, count=3)
    second = open_engine(table)
    try:
        assert second.layout == LAYOUT
        assert second.projection_digest == DIGEST
        second.upsert(make_records(3, first=2), unit_vectors(3, seed=2))
        assert first.count() == 5
        query = unit_vectors(1, seed=1)
        mine, theirs = (one.search(query, k=9)[0] for one in (first, second))
        assert mine.documents == theirs.documents
        first.delete(["d0"])
        assert ids(second.fetch(["d0", "d4"])) == ["d4"]
    finally:
        second.close()


def test_writers_of_the_same_documents_wait_for_each_other(create, table):
    """Written in opposite orders, rows would be waited for in a circle."""
    engines = [create(), open_engine(table)]
    errors = []

    def write(engine, step):
        try:
            for _ in range(5):
                documents = make_records(600)[::step]
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
            engine.upsert([Record(id="d0", text=f"{number}")], unit_vectors(1))
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


def test_an_engine_whose_index_was_made_anew_does_not_take_it_for_its_own(create):
    engine = create()
    fill(engine, count=3)
    new = create()
    query = unit_vectors(1, seed=1)
    asked = (
        lambda: fill(engine, count=3),
        lambda: engine.search(query, k=1),
        lambda: engine.fetch(["d0"]),
        lambda: engine.sample(3),
        lambda: engine.delete(["d0"]),
        engine.count,
        engine.state,
    )
    for _ in range(2):  # while the new one is empty, and when it is not
        for ask in asked:
            with pytest.raises(EngineError, match="made anew by somebody else; open it again"):
                ask()
        fill(new, count=3)
        assert new.count() == 3


def test_while_another_client_writes_the_state_cannot_be_told(create, admin, table):
    """What it has written is not seen yet, and its numbers are taken."""
    engine = create()
    fill(engine, count=3)
    before = engine.state()
    assert before is not None and engine.state() == before
    with admin.transaction():
        run(admin, "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", table)
        assert engine.state() is None
    assert engine.state() == before


FOREIGN = [
    "CREATE TABLE {} (id text)",
    "CREATE TABLE {} (id text, seq bigint, text text, metadata jsonb, embedding vector(10))",
    "CREATE VIEW {} AS SELECT 1 AS one",
    "CREATE SEQUENCE {}",
]


@pytest.mark.parametrize("statement", FOREIGN)
def test_what_is_not_ours_is_neither_opened_nor_replaced(create, admin, table, statement):
    run(create(f"{table} other") and admin, statement, table)  # the other brings the extension
    with pytest.raises(EngineError, match="is not an index of subspace"):
        open_engine(table)
    with pytest.raises(EngineError, match=r"not an index of subspace.*choose another name"):
        create()
    assert admin.execute(
        "SELECT count(*) FROM pg_class WHERE relname = %s", (table_of(table),)
    ).fetchone() == (1,)


def test_a_system_table_is_not_ours(create, postgres):
    with pytest.raises(EngineError, match=r"'pg_class'.*not an index of subspace"):
        create(f"{postgres}#pg_class")


def test_a_table_of_ours_with_columns_of_others_is_used_but_not_replaced(create, admin, table):
    engine = create()
    fill(engine, count=3)
    run(admin, "ALTER TABLE {} ADD notes text DEFAULT 'mine'", table)
    fill(engine, count=4)
    with pytest.raises(EngineError, match="not an index of subspace, or not that alone"):
        create()
    assert run(admin, "SELECT count(notes) FROM {}", table).fetchone() == (4,)
    again = open_engine(table)
    assert again.count() == 4
    again.close()


def test_an_index_that_others_build_on_stays_whole_when_it_cannot_be_replaced(create, admin, table):
    engine = create()
    fill(engine, count=3)
    view = sql.Identifier(table_of(table) + " view")
    run(admin, "CREATE VIEW {view} AS SELECT id FROM {}", table, view=view)
    with pytest.raises(EngineError, match="other objects depend on it"):
        create(layout=BlockLayout.from_widths({"other": 4}))
    assert engine.count() == 3
    again = open_engine(table)
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
def test_an_index_whose_comment_is_damaged_is_not_opened(create, admin, table, comment, message):
    create()
    run(admin, "COMMENT ON TABLE {} IS {text}", table, text=sql.Literal(comment))
    with pytest.raises(EngineError, match=message):
        open_engine(table)


def test_a_table_that_is_not_there_is_one_sentence(postgres):
    with pytest.raises(
        EngineError, match=r"there is no index 'nowhere' in PostgreSQL at .*; build"
    ):
        open_engine(f"{postgres}#nowhere")


# Servers that are not there.


@pytest.fixture
def silent():
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_server_that_cannot_be_reached_is_said_in_time_without_the_password(silent, kind):
    port = silent
    if kind == "closed":
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
    target = f"postgresql://someone:s3cret@127.0.0.1:{port}/db?connect_timeout=2#items"

    def refusal(attempt) -> BaseException:
        with pytest.raises(EngineError, match=f"cannot connect.*127.0.0.1:{port}.*server") as error:
            attempt()
        return error.value

    begin = time.monotonic()
    attempts = (
        lambda: PgvectorEngine.open(target),
        lambda: PgvectorEngine.create(target, **ABOUT),
    )
    with ThreadPoolExecutor(2) as threads:
        errors = list(threads.map(refusal, attempts))
    assert time.monotonic() - begin < 10
    for error in errors:
        assert "s3cret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("postgresql://u:s3cret@host/db", "has a table: postgresql://USER"),
        ("postgresql://u:s3cret@host/db#", "has a table: postgresql://USER"),
        ("postgresql://u:s3cret@[host/db#t", "cannot read the address"),
        ("postgresql://u:pass@host/db?s3cret=1#t", "cannot read the address"),
        ("postgresql://u:s3c#s3cret@host/db", "cannot read the address.*%23 for #"),
        ("postgresql://u:1234#s3cret@host/db", "cannot read the address.*%23 for #"),
    ],
)
def test_an_address_that_is_wrong_is_not_repeated(table, message):
    with pytest.raises(EngineError, match=message) as caught:
        PgvectorEngine.open(table)
    assert not any(part in str(caught.value) for part in ("s3c", "1234"))


def test_no_error_tells_the_password(create, postgres, admin):
    """The server asks for none, so that a wrong one does."""
    given = postgres.replace("postgres:@", "postgres:s3cret@")
    assert given != postgres
    engine = create(f"{given}#told")
    run(admin, "DROP TABLE {}", "#told")
    with pytest.raises(EngineError, match="'told' in PostgreSQL at") as caught:
        engine.count()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in repr(engine._address)


def test_a_user_who_may_not_add_the_extension_is_told_whom_to_ask(postgres, admin):
    admin.execute("CREATE DATABASE bare")
    admin.execute("CREATE ROLE guest LOGIN")
    guest = postgres.replace("postgres:@/postgres", "guest:@/bare")
    try:
        with pytest.raises(EngineError, match=r"ask an administrator to run.*CREATE EXTENSION vec"):
            PgvectorEngine.create(f"{guest}#t", **ABOUT)
        with pytest.raises(EngineError, match="there is no index 't'"):
            PgvectorEngine.open(f"{guest}#t")
    finally:
        admin.execute("DROP DATABASE bare")
        admin.execute("DROP ROLE guest")


def test_a_user_who_may_only_read_can_search_and_not_write(create, postgres, admin, table):
    fill(create(), count=3)
    admin.execute("CREATE ROLE reader LOGIN")
    run(admin, "GRANT SELECT ON {} TO reader", table)
    engine = open_engine(table.replace("postgres:@", "reader:@"))
    try:
        assert len(ids(engine.search(unit_vectors(1, seed=1), k=3)[0])) == 3
        for write in (lambda: fill(engine, count=3), lambda: engine.delete(["d0"])):
            with pytest.raises(EngineError, match=r"permission denied.*ask an administrator"):
                write()
        with pytest.raises(EngineError, match="ask an administrator"):
            create(table.replace("postgres:@", "reader:@"))
        assert engine.count() == 3
    finally:
        engine.close()
        run(admin, "REVOKE ALL ON {} FROM reader", table)
        admin.execute("DROP ROLE reader")


def test_a_statement_that_takes_too_long_is_given_up(create, postgres, table):
    fill(create(), count=3)
    hurried = table.replace("?", "?options=-cstatement_timeout%3D300ms&")
    engine = open_engine(hurried)
    try:
        with psycopg.connect(postgres) as holder:
            run(holder, "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", table)
            with pytest.raises(EngineError, match="statement timeout; give it more time"):
                engine.search(unit_vectors(1, seed=1), k=3)
            holder.rollback()
        assert len(ids(engine.search(unit_vectors(1, seed=1), k=3)[0])) == 3
    finally:
        engine.close()


@pytest.mark.parametrize("package", ["psycopg", "pgvector.psycopg"])
def test_without_the_packages_the_message_says_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineError, match=r"pip install 'subspace-embeddings\[pgvector\]'"):
        PgvectorEngine.open("postgresql://127.0.0.1:1/db#t")


# Weights, and HNSW.


def test_weights_recency_and_importance_change_without_a_write(create, table, tmp_path):
    """A connection that may not write can do it all."""
    fill(create())
    reading = table.replace("?", "?options=-cdefault_transaction_read_only%3Don&")
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
def graph(postgres):
    """The same 4,000 documents in a graph and in memory."""
    table = f"{postgres}#graph"
    engine = PgvectorEngine.create(table, layout=CLUSTERED, projection_digest=DIGEST, hnsw=True)
    rare, vectors = lambda n: {"rare": n % 200}, clustered(4000, seed=1)
    engine.upsert(make_records(4000, metadata=rare), vectors)
    reference = make_engine(vectors, layout=CLUSTERED, metadata=rare)
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


def test_a_graph_is_really_used(graph, admin, postgres):
    """On a server that looks rows up one by one by an index, as with millions of them."""
    off = "%20".join(f"-cenable_{way}%3Doff" for way in ("seqscan", "mergejoin", "hashjoin"))
    engine = open_engine(postgres.replace("?", f"?options={off}&") + "#graph")
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
    rng, names = np.random.default_rng(0), [f"d{n}" for n in range(0, 4000, 7)]
    values = dict(zip(names, scale * rng.random(len(names)), strict=True))
    priors = make_priors(values, default=0.5 * scale)
    assert recall(engine, reference, folded("dirichlet", 30), priors=priors) >= 0.95


@pytest.mark.parametrize(
    ("k", "where"), [(10, {"rare": 3}), (10, {"rare": [3, 4, 5]}), (300, None), (5000, None)]
)
def test_where_a_graph_gives_too_few_all_are_read(graph, k, where):
    engine, reference = graph
    queries = folded("dirichlet", 2)
    assert recall(engine, reference, queries, k=k, where=where) >= 0.95
    expected = min(k, reference.count(where))
    assert all(len(f.documents) >= expected for f in engine.search(queries, k=k, where=where))


def test_where_a_filter_leaves_too_few_of_a_graph_all_are_read(graph, postgres):
    """On a server that walks the graph whenever it can."""
    _, reference = graph
    engine = open_engine(postgres.replace("?", "?options=-cenable_seqscan%3Doff&") + "#graph")
    queries = folded("dirichlet", 10)
    assert recall(engine, reference, queries, where={"rare": 3}) == 1
    engine.close()


def test_a_graph_is_written_like_a_table(create, table):
    engine = create(hnsw=True)
    fill(engine)
    fill(engine, seed=1)
    assert engine.delete(["d3"]) == 1
    reference = make_engine(unit_vectors(30, seed=1))
    reference.delete(["d3"])
    assert recall(engine, reference, unit_vectors(5, seed=2), k=9) == 1
    again = open_engine(table)
    assert not again.exact
    again.close()


def test_too_many_dimensions_are_refused_before_anything_is_done(create):
    wide = BlockLayout.from_widths({"a": 1000, "b": 1001})
    with pytest.raises(ConfigError, match="hnsw takes up to 2000 dimensions, the blocks have 2001"):
        create(layout=wide, hnsw=True)
    engine = create(layout=wide)  # without the graph they are no trouble
    fill(engine, count=12)
    reference = make_engine(unit_vectors(12, layout=wide), layout=wide)
    assert recall(engine, reference, unit_vectors(3, layout=wide, seed=1), k=5) == 1
    with pytest.raises(EngineError, match="up to 16000 dimensions, the blocks have 16001"):
        create(layout=BlockLayout.from_widths({"a": 16_001}))
    with pytest.raises(ConfigError, match="hnsw must be true or false, got 'no'"):
        create(hnsw="no")


def test_an_id_that_is_too_long_leaves_the_table_that_it_was_to_be_added_to(table, model):
    Index.create(table, model, [Record(id="a", text="bread")]).close()
    long = [Record(id="b", text="soup"), Record(id="x" * 3000, text="a concert")]
    with pytest.raises(EngineError, match="has 3000 bytes"):
        Index.create(table, model, long)
    with Index.open(table, model) as index:
        assert [hit.id for hit in index.search("soup")] == ["a"]


def test_records_that_cannot_be_added_leave_the_table_that_they_were_to_replace(table, model):
    records = [Record(id="a", text="bread"), Record(id="b", text="a concert")]
    Index.create(table, model, records).close()
    with pytest.raises(EngineError, match="used more than once: b"):
        Index.create(table, model, [*records, records[1]])
    with Index.open(table, model) as index:
        assert len(index) == 2
        assert index.search("soup")
