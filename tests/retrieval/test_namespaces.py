"""Namespaces: several agents on one index and one log, each with a history of its own."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from engine_world import make_engine, unit_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.errors import ConfigError, UsageLogError
from subspace.retrieval import BlockIndex, SearchOptions, UsageLog, Use
from subspace.retrieval.hits import SCOPES
from subspace.retrieval.usage.histories import Histories
from subspace.retrieval.usage.history import HistorySettings
from subspace.retrieval.usage.uses import check_namespace

IDS = [f"d{n}" for n in range(12)]
QUERY = unit_vectors(1, seed=9)[0]
OPTIONS = {"weights": "preset=balanced", "k": 99}


@pytest.fixture(scope="module")
def engine():
    return make_engine(unit_vectors(len(IDS)))


def found(index: BlockIndex, *, namespace: str = "") -> list[tuple]:
    """What a search finds in both scopes."""
    return [
        index.search(QUERY, scope=scope, namespace=namespace, **OPTIONS).hits for scope in SCOPES
    ]


# Each is alone.

events = st.tuples(
    st.sampled_from(["", "alice", "bob"]),
    st.sampled_from(["use", "use", "pin", "unpin", "look"]),
    st.lists(
        st.tuples(st.sampled_from(IDS), st.none() | st.sampled_from([0.0, 0.3, 1.0])),
        min_size=1,
        max_size=3,
    ),
    st.none() | st.sampled_from(["q1", "q2"]),
)


def happen(log: UsageLog, event: tuple, *, namespace: str) -> None:
    _, what, uses, query = event
    items = [item for item, _ in uses]
    if what == "use":
        log.add(uses, query=query, namespace=namespace)
    elif what == "pin":
        log.pin(items, namespace=namespace)
    elif what == "unpin":
        log.unpin(items, namespace=namespace)


@settings(max_examples=25, deadline=None)
@given(happened=st.lists(events, max_size=14), floor=st.sampled_from([0.0, 0.2]))
def test_a_namespace_is_searched_as_if_the_log_held_nothing_else(happened, floor, engine):
    with UsageLog.open(":memory:", clock="steps") as shared:
        index = BlockIndex(engine, usage=shared, importance_floor=floor)
        for event in happened:
            happen(shared, event, namespace=event[0])
            if event[1] == "look":  # some of it is read before the rest comes
                found(index, namespace=event[0])
        for name in ("", "alice", "bob"):
            with UsageLog.open(":memory:", clock="steps") as own:
                alone = BlockIndex(engine, usage=own, importance_floor=floor)
                for event in happened:
                    if event[0] == name:
                        happen(own, event, namespace="")
                for one, other in zip(found(index, namespace=name), found(alone), strict=True):
                    # Float sums differ in the last bits where uses were read in other batches.
                    scores = {hit.id: hit.score for hit in other}
                    assert {hit.id: hit.score for hit in one} == pytest.approx(scores, abs=1e-6)
                assert shared.now(namespace=name) == own.now()


def test_what_one_used_changes_nothing_for_another_and_much_for_itself(engine, log):
    """The counter-check, with hits that are equal to the last bit."""
    index = BlockIndex(engine, usage=log)
    before = found(index, namespace="bob")
    for _ in range(3):
        log.add([("d7", 1.0), ("d3", 0.0)], namespace="alice")
    log.pin(["d5"], namespace="alice")
    assert found(index, namespace="bob") == found(index) == before
    for after, blank in zip(found(index, namespace="alice"), before, strict=True):
        assert [hit.id for hit in after] != [hit.id for hit in blank]
    assert index.search(QUERY, namespace="alice").namespace == "alice"


def test_one_query_id_in_two_namespaces_is_two_queries(log):
    assert log.add([("d1", 1.0)], query="q", namespace="alice") == 1
    assert log.add([("d1", 1.0)], query="q", namespace="bob") == 1
    assert log.add([("d1", 1.0)], query="q", namespace="bob") == 0


def test_how_much_history_varies_is_asked_for_one_namespace(engine, log):
    log.add([("d1", 1.0)], namespace="alice")
    index = BlockIndex(engine, usage=log)
    assert index.history_spread(namespace="alice")["importance"].items > 0
    assert index.history_spread()["importance"].items == 0


def test_relevance_alone_needs_no_history_of_a_namespace(engine):
    index = BlockIndex(engine)
    assert len(index.search(QUERY, namespace="alice")) == 10
    with pytest.raises(ConfigError, match="no usage log"):
        index.search(QUERY, namespace="alice", weights="preset=balanced")


# Bounded in memory.


def test_no_more_histories_are_kept_than_may_be_and_one_that_comes_back_is_read_again(engine, log):
    histories = Histories(log, engine=engine, settings=HistorySettings(), most=3)
    for n in range(10):
        log.add([(IDS[n], 1.0)], namespace=f"agent {n}")
        histories.of(f"agent {n}").refresh()
        assert len(histories) == min(n + 1, 3)
    kept = histories.of("agent 8")
    assert kept is histories.of("agent 8") and kept.recency.any()
    assert histories.of("agent 7").recency.any()  # in memory, as it was
    back = histories.of("agent 0")
    assert not back.recency.any()  # read anew when it is refreshed
    back.refresh()
    np.testing.assert_allclose(back.recency, engine.fetch(["d0"]).vectors[0], atol=1e-6)
    assert len(histories) == 3
    assert histories.of("agent 8") is kept  # agent 9 was asked for longest ago


# Names.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (7, "a namespace is a text, .* got 7"),
        (None, "a namespace is a text, .* got None"),
        (["alice"], "a namespace is a text"),
        ("a" * 201, "at most 200 characters, .* has 201"),
        ("a\nb", r"no control characters, 'a\\nb' has '\\n'"),
        ("\0", "no control characters"),
        ("\x7f", "no control characters"),
        ("\x85", "no control characters"),
        ("half \ud83d", "no control characters"),
    ],
)
def test_a_wrong_namespace_is_refused_wherever_it_is_given_and_nothing_is_kept(name, message, log):
    for ask in (
        lambda: log.add([("d1", 1.0)], namespace=name),
        lambda: log.add([("d0", 1.0), Use("d1", time=0, namespace=name)]),
        lambda: log.add_query("q", arm=None, namespace=name),
        lambda: log.pin(["d1"], namespace=name),
        lambda: log.unpin(["d1"], namespace=name),
        lambda: log.pins(namespace=name),
        lambda: SearchOptions(namespace=name),
        lambda: check_namespace(name, required=True),
    ):
        with pytest.raises(UsageLogError, match=message):
            ask()
    assert len(log) == 0


def test_the_empty_name_is_refused_only_where_a_name_is_required():
    assert check_namespace("") == ""
    with pytest.raises(UsageLogError, match="the namespace is empty: give a name"):
        check_namespace("", required=True)


@pytest.mark.parametrize(
    "name", ["alice", "'; DROP TABLE uses; --", "世界 🙂", " ", "a" * 200, "%"]
)
def test_any_other_text_is_a_namespace(name, log):
    log.add([("d1", 1.0)], namespace=name)
    log.pin(["d2"], namespace=name)
    assert [use.namespace for _, use in log.since(namespace=name)] == [name]
    assert log.pins(namespace=name) == ("d2",)
    assert list(log.since(namespace="")) == [] and log.pins() == ()


# All at once.

WRITER = """
import sys
from subspace.retrieval.usage.usage_log import UsageLog

path, count = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with UsageLog.open(path) as log:
    for number in range(count):
        name = ("alice", "bob", "carol")[number % 3]
        log.add([(f"d{number % 12}", 1.0)], namespace=name)
        log.add([("d1", None)], query=f"q{number % 5}", namespace=name)
        log.pin([f"d{number % 2}"], namespace=name)
"""


def test_threads_share_an_index_in_several_namespaces_while_another_process_writes(
    engine, tmp_path
):
    """No error, and every use is counted once: those of a query once for whoever reports them."""
    path, names = tmp_path / "usage.db", ("alice", "bob", "carol")
    with UsageLog.open(path) as log:
        index = BlockIndex(engine, usage=log)
        other = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), "60"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        def work(number: int) -> int:
            counted = 0
            for step in range(25):
                name = names[(number + step) % 3]
                scope = SCOPES[step % 2]
                hits = index.search(QUERY, scope=scope, namespace=name, **OPTIONS)
                assert len(hits) == len(IDS)
                assert np.isfinite([hit.score for hit in hits]).all()
                counted += log.add([(IDS[step % 12], 1.0), ("d3", 0.0)], namespace=name)
                counted += log.add([("d1", 1.0)], query=f"q{step % 5}", namespace=name)
                log.pin([IDS[step % 12]], namespace=name)
                log.unpin([IDS[(step + 1) % 12]], namespace=name)
            return counted

        try:
            assert other.stdout.readline() == "ready\n"
            other.stdin.write("go\n")
            other.stdin.flush()
            with ThreadPoolExecutor(6) as threads:
                counted = sum(threads.map(work, range(6)))
            _, problems = other.communicate(timeout=60)
            assert other.returncode == 0, problems
        finally:
            other.kill()
            other.communicate()
        # Without a query: all of them. Of five queries in three namespaces: one use of d1 each.
        assert len(log) == 60 + 6 * 25 * 2 + 15
        # Whoever was first with these, the rating came from a thread and was counted there.
        assert counted == 6 * 25 * 2 + 15
        rated = [use for _, use in log.since() if use.query is not None]
        assert [use.success for use in rated] == [1.0] * 15
        for name in names:
            shared, anew = index.history_of(name), BlockIndex(engine, usage=log).history_of(name)
            for one, again in zip(shared.item_values(IDS), anew.item_values(IDS), strict=True):
                np.testing.assert_allclose(one, again, atol=1e-4)
            np.testing.assert_allclose(shared.recency, anew.recency, atol=1e-5)
            np.testing.assert_allclose(shared.importance, anew.importance, atol=1e-5)
