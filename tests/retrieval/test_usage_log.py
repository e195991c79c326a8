"""The usage log: nothing that was acknowledged is lost, whoever writes, dies or damages it."""

import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_world import make_engine, unit_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.errors import RecordError, UsageLogError
from subspace.retrieval import UsageLog, Use
from subspace.retrieval.usage import use_rows
from subspace.retrieval.usage.history import History


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def log(path) -> Iterator[UsageLog]:
    with UsageLog.open(path, clock="steps") as log:
        yield log


def uses(log: UsageLog) -> list[Use]:
    return [use for _, use in log.since()]


def write_lines(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    return path


# What is kept.


def test_uses_are_read_as_they_were_added_each_with_a_later_position(log):
    log.add([("a", 1.0), ("b", None)], query="q1")
    log.add([Use("c", time=0.25, success=0.5, query="q2"), ("a", 0)])
    assert uses(log) == [
        Use("a", 0, 1.0, "q1"),
        Use("b", 0, None, "q1"),
        Use("c", 0.25, 0.5, "q2"),
        Use("a", 1, 0.0, None),
    ]
    positions = [position for position, _ in log.since()]
    assert positions == sorted(set(positions))
    assert [use.item for _, use in log.since(positions[1])] == ["c", "a"]
    assert list(log.since(positions[-1])) == []
    assert len(log) == 4


def test_what_is_closed_is_there_when_it_is_opened_again(path):
    with UsageLog.open(path) as log:
        log.add([("a", 0.5)])
    with UsageLog.open(str(path)) as log:
        assert [(use.item, use.success) for use in uses(log)] == [("a", 0.5)]
    assert [file.name for file in path.parent.iterdir()] == ["usage.db"]


def test_the_folder_of_a_log_is_made(tmp_path):
    with UsageLog.open(tmp_path / "new" / "below" / "usage.db") as log:
        log.add([("a", 1.0)])
    assert (tmp_path / "new" / "below" / "usage.db").is_file()


@pytest.mark.parametrize(
    "name", ["'; DROP TABLE uses; --", '"', "a\0b", "über/世界 🙂", " ", "%s?"]
)
def test_any_text_may_be_an_id(name, log):
    log.add([(name, 1.0)], query=name)
    log.add_query(name, arm=name)
    assert [(use.item, use.query) for use in uses(log)] == [(name, name)]
    with log.rating(name) as arm:
        assert arm == name


def test_numbers_of_numpy_are_numbers(log):
    log.add([("a", np.float32(0.5)), ("b", np.int64(1)), Use("c", time=np.float64(0))])
    assert [(use.time, use.success) for use in uses(log)] == [(0, 0.5), (0, 1.0), (0, None)]


# Time.


def test_a_step_is_one_call_whatever_it_adds(log):
    assert log.now() == 0
    for step in range(3):
        log.add([("a", None)] * (step + 1))
        assert log.now() == step + 1
    log.add([])
    assert log.now() == 3
    assert [use.time for use in uses(log)] == [0, 1, 1, 2, 2, 2]


def test_wall_clock_time_is_now(path):
    with UsageLog.open(path) as log:
        before = time.time()
        log.add([("a", None)])
        assert before <= uses(log)[0].time <= time.time()
        assert log.clock == "wall"
        log.add([Use("b", time=-1e9), Use("c", time=time.time() + 30)])  # clocks differ a little
        with pytest.raises(UsageLogError, match="the use of 'd' lies in the future: at"):
            log.add([Use("d", time=time.time() + 90)])
        with pytest.raises(UsageLogError, match="future"):
            log.add([Use("d", time=1000 * time.time())])  # milliseconds
        assert len(log) == 3


def test_a_clock_that_is_set_back_makes_no_use_older_than_one_before_it(path, monkeypatch):
    start = time.time()
    with UsageLog.open(path) as log:
        log.add([("a", None)])
        for back in (0.5, 3600, 80_000):
            monkeypatch.setattr(time, "time", lambda back=back: start - back)
            assert log.now() == uses(log)[-1].time
            log.add([("b", None)])
        assert len({use.time for use in uses(log)}) == 1
        # One that was never there is asked by the clock alone, and nothing creeps into the future.
        assert log.now(namespace="alice") == start - 80_000
        with pytest.raises(UsageLogError, match="future"):
            log.add([Use("c", time=start + 90)])
        monkeypatch.setattr(time, "time", lambda: start + 5)
        log.add([("c", None)])
        assert uses(log)[-1].time == start + 5


def test_a_use_of_next_year_does_not_hold_the_time_of_the_log(path, monkeypatch):
    """The counter-check: a clock that was wrong by more than a day is not believed."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 365 * 86_400)
    with UsageLog.open(path) as log:
        log.add([("a", None)])
        monkeypatch.setattr(time, "time", lambda: now)
        assert log.now() == now
        log.add([("b", None)])
        assert uses(log)[-1].time == now


def test_a_step_that_has_not_come_yet_is_in_the_future(log):
    log.add([("a", None)])
    log.add([Use("b", time=1)])
    with pytest.raises(UsageLogError, match="'c' lies in the future: at 3, and now is 2"):
        log.add([Use("c", time=3)])


def test_the_clock_is_chosen_once(path):
    for clock, other in (("steps", "wall"), ("wall", "steps")):
        file = path.with_name(f"{clock}.db")
        UsageLog.open(file, clock=clock).close()
        for again in (None, clock):
            with UsageLog.open(file, clock=again) as log:
                assert log.clock == clock
        with pytest.raises(UsageLogError, match=f"counts {clock}, not {other}"):
            UsageLog.open(file, clock=other)


def test_an_unknown_clock_is_refused_with_the_known_ones_and_makes_no_file(path):
    with pytest.raises(UsageLogError, match="one of wall, steps, not 'sundial'"):
        UsageLog.open(path, clock="sundial")
    assert not path.exists()


def test_the_step_is_found_without_reading_the_whole_log(log, path):
    with closing(sqlite3.connect(path)) as connection:
        plan = str(connection.execute("EXPLAIN QUERY PLAN SELECT max(time) FROM uses").fetchall())
    assert "uses_time" in plan


# Feedback that comes twice.


class Rule:
    """What the log keeps, by a dictionary: of a query's item one use, and one rating."""

    def __init__(self) -> None:
        self.uses: list[Use] = []

    def add(self, use: Use) -> bool:
        key = (use.namespace, use.query, use.item)
        for place, known in enumerate(self.uses):
            if use.query is not None and (known.namespace, known.query, known.item) == key:
                if known.success is not None or use.success is None:
                    return False
                self.uses[place] = replace(known, success=use.success)
                return True
        self.uses.append(use)
        return True


reports = st.tuples(
    st.sampled_from(["a", "b"]),
    st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    st.none() | st.sampled_from(["q1", "q2"]),
    st.sampled_from(["", "alice"]),
)


@settings(max_examples=60, deadline=None)
@given(calls=st.lists(st.lists(reports, max_size=4), max_size=6))
def test_an_item_of_a_query_is_used_once_and_rated_once(calls):
    rule = Rule()
    with UsageLog.open(":memory:", clock="steps") as log:
        for call in calls:
            given = [
                Use(item, log.now(namespace=name), success, query, name)
                for item, success, query, name in call
            ]
            assert log.add(given) == sum(rule.add(use) for use in given)
            assert uses(log) == rule.uses
        assert len(log) == len(rule.uses)


@settings(max_examples=30, deadline=None)
@given(calls=st.lists(st.lists(reports, max_size=4), max_size=6), looks=st.sets(st.integers(0, 5)))
def test_a_use_that_is_rated_later_counts_like_one_that_was_rated_at_once(calls, looks):
    """In recency and importance of items and in the traces, whatever was read before."""
    rule, engine = Rule(), make_engine(unit_vectors(2))
    with UsageLog.open(":memory:", clock="steps") as log:
        history = History(log, engine=engine, namespace="alice")
        for step, call in enumerate(calls):
            given = [
                Use(f"d{'ab'.index(item)}", log.now(namespace=name), success, query, name)
                for item, success, query, name in call
            ]
            log.add(given)
            for use in given:
                rule.add(use)
            if step in looks:
                history.refresh()
        history.refresh()
        with UsageLog.open(":memory:", clock="steps") as once:
            for use in rule.uses:
                once.add([replace(use, query=None)])
            other = History(once, engine=engine, namespace="alice")
            other.refresh()
            np.testing.assert_allclose(history.recency, other.recency, atol=1e-6)
            np.testing.assert_allclose(history.importance, other.importance, atol=1e-6)
            for one, again in zip(
                history.item_values(["d0", "d1"]), other.item_values(["d0", "d1"]), strict=True
            ):
                np.testing.assert_allclose(one, again, atol=1e-12)


def test_uses_without_a_query_count_every_time(log):
    assert [log.add([("a", 1.0), ("a", 1.0)]) for _ in range(3)] == [2, 2, 2]
    assert len(log) == 6


def test_a_rating_that_comes_later_takes_no_step(log):
    """It is of the use that is there, at the time of that use."""
    log.add([("a", None)], query="q")
    log.add([("b", None)])
    assert log.add([("a", 0.5)], query="q") == 1
    assert log.now() == 2
    assert uses(log) == [Use("a", 0, 0.5, "q"), Use("b", 1)]
    assert [(e.use.time, e.rates) for e in log.entries(0, namespace="")] == [
        (0, False),
        (1, False),
        (0, True),
    ]


def test_processes_that_report_the_same_at_once_count_it_once(log, path):
    """Threads with a connection each lock each other out as processes do."""
    start = threading.Barrier(6)

    def report(_: int) -> int:
        with UsageLog.open(path) as own:
            start.wait()
            return sum(
                own.add([("a", rating)], query=f"q{n}") for n in range(20) for rating in (None, 1.0)
            )

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(report, range(6))) in range(20, 41)
    assert len(log) == 20
    assert [use.success for use in uses(log)] == [1.0] * 20
    # The file itself holds no second one, whoever writes it.
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO uses (item, time, query) VALUES ('a', 9, 'q1')")


def test_what_is_imported_counts_once_for_a_query_as_well(log, tmp_path):
    log.add([("a", None), ("b", 1.0)], query="q")
    lines = write_lines(
        tmp_path / "x.jsonl",
        {"item": "a", "query": "q", "success": 0.5},
        {"item": "a", "query": "q", "success": 1.0},
        {"item": "b", "query": "q", "success": 0.0},
        {"item": "c", "query": "q"},
        {"item": "c", "query": "q"},
    )
    assert [log.import_jsonl(lines) for _ in range(2)] == [2, 0]
    assert [(use.item, use.success) for use in uses(log)] == [("a", 0.5), ("b", 1.0), ("c", None)]


def test_a_rating_that_came_after_an_export_comes_with_the_next(log, tmp_path):
    lines = tmp_path / "x.jsonl"
    log.add([("a", None)], query="q")
    log.add([("b", None)])
    with UsageLog.open(tmp_path / "other.db", clock="steps") as other:
        log.export_jsonl(lines)
        assert other.import_jsonl(lines) == 2
        log.add([("a", 0.5)], query="q")
        assert log.export_jsonl(lines) == 2  # one use a line
        assert [other.import_jsonl(lines) for _ in range(2)] == [1, 0]
        assert uses(other) == uses(log) == [Use("a", 0, 0.5, "q"), Use("b", 1)]
        other.export_jsonl(lines)
        assert log.import_jsonl(lines) == 0


# What is refused.


WRONG = [
    (Use("", time=0), "the item of a use must be its id, got ''"),
    (Use(None, time=0), "the item of a use must be its id, got None"),
    (Use(7, time=0), "the item of a use must be its id, got 7"),
    (Use("\ud800", time=0), "the item of a use must be its id"),
    (Use("x", time=math.nan), "the time of a use of 'x' must be a finite number, got nan"),
    (Use("x", time=-math.inf), "the time of a use of 'x' must be a finite number"),
    (Use("x", time="0"), "the time of a use of 'x' must be a finite number, got '0'"),
    (Use("x", time=None), "the time of a use of 'x' must be a finite number, got None"),
    (Use("x", time=True), "the time of a use of 'x' must be a finite number, got True"),
    (Use("x", time=10**400), "the time of a use of 'x' must be a finite number"),
    (Use("x", time=-(10**400)), "the time of a use of 'x' must be a finite number"),
    (Use("x", time=0, success=1.01), "the success of 'x' must be between 0 and 1, got 1.01"),
    (Use("x", time=0, success=-0.01), "the success of 'x' must be between 0 and 1, got -0.01"),
    (Use("x", time=0, success=math.nan), "the success of 'x' must be between 0 and 1, got nan"),
    (Use("x", time=0, success="1"), "the success of 'x' must be between 0 and 1, got '1'"),
    (Use("x", time=0, success=10**400), "the success of 'x' must be between 0 and 1"),
    (Use("x", time=0, query=7), "the query of a use must be its id, got 7"),
    (Use("x", time=0, query=""), "the query of a use must be its id, got ''"),
]


@pytest.mark.parametrize(("use", "message"), WRONG, ids=lambda value: f"{value!r:.40}")
def test_a_wrong_use_is_refused_and_nothing_beside_it_is_kept(use, message, log):
    log.add([("before", 1.0)])
    with pytest.raises(UsageLogError, match=message):
        log.add([("good", 1.0), use, ("good too", 1.0)])
    assert [use.item for use in uses(log)] == ["before"]
    log.add([("after", 1.0)])
    assert [use.time for use in uses(log)] == [0, 1]


def test_uses_that_cannot_be_counted_out_leave_nothing(log):
    def failing():
        yield ("a", 1.0)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        log.add(failing())
    assert len(log) == 0


def test_a_closed_log_says_so(path):
    log = UsageLog.open(path)
    log.close()
    for ask in (lambda: log.add([("a", 1.0)]), lambda: list(log.since()), lambda: len(log)):
        with pytest.raises(UsageLogError, match="closed"):
            ask()


# Many processes.


WRITER = """
import sys
from subspace.retrieval.usage.usage_log import UsageLog

path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with UsageLog.open(path, clock="steps") as log:
    for number in range(count):
        log.add([(f"{name}-{number}", 1.0)])
        print(number, flush=True)
"""


@contextmanager
def writers(path: Path, names: str, *, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that wait until all of them are ready, then write at once."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_of_many_processes_that_write_at_once_none_loses_a_use_and_steps_go_on_by_one(log, path):
    with writers(path, "abcd", count=60) as processes:
        for process in processes:
            _, problems = process.communicate(timeout=60)
            assert process.returncode == 0, problems
    assert len(log) == 240
    assert [use.time for use in uses(log)] == list(range(240))
    for name in "abcd":
        own = [use.item for use in uses(log) if use.item.startswith(name)]
        assert own == [f"{name}-{number}" for number in range(60)]


def test_many_may_make_one_new_log_at_once(path):
    """Threads with a connection each lock each other out as processes do, and start at once."""
    for trial in range(8):
        new, start = path.with_name(f"{trial}.db"), threading.Barrier(6)

        def write(name: str, new: Path = new, start: threading.Barrier = start) -> None:
            start.wait()
            with UsageLog.open(new, clock="steps") as log:
                log.add([(name, 1.0)])

        with ThreadPoolExecutor(6) as threads:
            for done in [threads.submit(write, name) for name in "abcdef"]:
                done.result()
        with UsageLog.open(new) as log:
            assert sorted(use.item for use in uses(log)) == list("abcdef")
            assert [use.time for use in uses(log)] == list(range(6))


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_writer_loses_nothing_that_was_acknowledged(seed, path):
    with writers(path, "a", count=10_000) as (process,):
        time.sleep(random.Random(seed).uniform(0.05, 0.3))
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
    acknowledged = len(out.splitlines())
    with UsageLog.open(path) as log:
        found = [use.item for use in uses(log)]
        assert acknowledged <= len(found) <= acknowledged + 1  # killed before it could say so
        assert found == [f"a-{number}" for number in range(len(found))]
        log.add([("after", 1.0)])
        assert log.now() == len(found) + 1


def test_threads_may_share_one_log(log, monkeypatch):
    """Each sees its own uses at once, whole steps alone, and a rating counts once."""
    monkeypatch.setattr(use_rows, "_BATCH", 7)
    log.add_query("q", arm="balanced")

    def work(name: str) -> int:
        rated = 0
        for number in range(30):
            log.add([(f"{name}{number}", 1.0), (f"{name}{number}", 0.0)])
            own = [use.item for use in uses(log) if use.item == f"{name}{number}"]
            assert len(own) == 2
            with suppress(UsageLogError):
                rate(log, "q")
                rated += 1
        return rated

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, "abcd")) == 1
    assert [use.time for use in uses(log)] == [step for step in range(120) for _ in range(2)]


def test_a_reader_sees_what_others_add(log, path):
    position = 0
    with UsageLog.open(path) as other:
        for number in range(5):
            other.add([(f"item {number}", None)])
            found = list(log.since(position))
            assert [use.item for _, use in found] == [f"item {number}"]
            position = found[-1][0]
            assert log.now() == number + 1


def test_reading_stops_nobody_from_writing_and_sees_one_moment(log, path):
    log.add([("a", None), ("b", None)])
    reading = log.since()
    assert next(reading)[1].item == "a"
    with UsageLog.open(path) as other:
        other.add([("c", None)])
    assert [use.item for _, use in reading] == ["b"]
    assert [use.item for use in uses(log)] == ["a", "b", "c"]


# Damage.


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """The system refuses to write a file beyond `size` bytes, as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("size", "count"),
    [(20, 1), (30_000, 1), (60_000, 1), (60_000, 50_000)],
    ids=["at once", "soon", "later", "with more than fits in memory"],
)
def test_a_full_disk_is_reported_loses_nothing_and_ends(size, count, log, path):
    log.add([("before", 1.0)])
    added = 1
    with full_disk(size):
        for _ in range(2):
            with pytest.raises(UsageLogError, match=r"usage\.db cannot be used: .*(disk|full)"):
                for _ in range(100):
                    log.add([("x" * 50, 1.0)] * count)
                    added += count
            assert len(log) == added
    log.add([("after", 1.0)])
    with UsageLog.open(path) as again:
        assert len(again) == len(log) == added + 1
        assert uses(again)[-1].item == "after"


def test_a_log_that_cannot_be_begun_on_a_full_disk_can_be_afterwards(path):
    with full_disk(20), pytest.raises(UsageLogError, match="cannot be used"):
        UsageLog.open(path)
    with UsageLog.open(path, clock="steps") as log:
        log.add([("a", 1.0)])
        assert log.clock == "steps"


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """The file of a closed log with 600 uses."""
    path = tmp_path_factory.mktemp("log") / "usage.db"
    with UsageLog.open(path, clock="steps") as log:
        for step in range(6):
            log.add([(f"item {step} {n} " * 8, n / 100) for n in range(100)])
    return path.read_bytes()


def read_all(path: Path, content: bytes) -> list[Use] | None:
    """All uses, or None if the file is refused; any other error is a defect."""
    path.write_bytes(content)
    try:
        with UsageLog.open(path) as log:
            found = uses(log)
            assert len(log) == len(found)
            return found
    except UsageLogError as error:
        assert str(path) in str(error)
        return None
    finally:
        for file in path.parent.iterdir():
            file.unlink()


def test_a_truncated_log_is_refused_wherever_it_is_cut(content, path):
    """SQLite reads what is missing of a page as zeros, which no item, time or success is."""
    whole = read_all(path, content)
    assert len(whole) == 600
    found = [read_all(path, content[:length]) for length in range(100, len(content), 3001)]
    assert all(one is None or one == whole for one in found)
    assert found.count(None) > 0.9 * len(found)


def test_an_empty_file_is_an_empty_log(path):
    assert read_all(path, b"") == []


def test_random_bytes_in_a_log_are_refused_or_harmless(content, path):
    """SQLite has no sums: what lies in free space or inside of a text cannot be noticed."""
    rng = random.Random(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        start = rng.randrange(len(content) - 300)
        damaged[start : start + 300] = rng.randbytes(300)
        refused += read_all(path, bytes(damaged)) is None
    assert refused > 20


@pytest.mark.parametrize(
    "other",
    [b"my thesis\n" * 500, b"\0" * 5000, b'{"id": "a"}\n', b"SQLite format 3\0" + b"\xff" * 5000],
    ids=["text", "zeros", "json", "head of a database"],
)
def test_another_file_is_refused_and_left_as_it_was(other, path):
    path.write_bytes(other)
    with pytest.raises(UsageLogError, match=r"usage\.db cannot be used"):
        UsageLog.open(path)
    assert path.read_bytes() == other


def test_another_programs_database_is_refused_and_left_as_it_was(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE about (key TEXT, note TEXT)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(UsageLogError, match=r"usage\.db is a database, but no usage log"):
        UsageLog.open(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["usage.db"]


def test_a_folder_is_no_log(tmp_path):
    with pytest.raises(UsageLogError, match="cannot be used"):
        UsageLog.open(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageLogError, match="cannot be used"):
        UsageLog.open(tmp_path / "file" / "usage.db")


@pytest.mark.parametrize("version", ["0", "4", "", None])
def test_another_format_version_is_refused_with_both_versions(version, log, path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM about WHERE key = 'format_version'")
        if version is not None:
            connection.execute("INSERT INTO about VALUES ('format_version', ?)", (version,))
        connection.commit()
    with pytest.raises(UsageLogError, match=rf"format version {version}, .* reads 3"):
        UsageLog.open(path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_log_that_may_not_be_written_is_refused(path):
    UsageLog.open(path).close()
    path.parent.chmod(0o555)
    path.chmod(0o444)
    try:
        with pytest.raises(UsageLogError, match=r"usage\.db cannot be used"):
            UsageLog.open(path)
        with pytest.raises(UsageLogError, match=r"new\.db cannot be used"):
            UsageLog.open(path.with_name("new.db"))
    finally:
        path.parent.chmod(0o755)


# JSON lines.


any_uses = st.lists(
    st.builds(
        Use,
        item=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
        time=st.floats(-1e15, 1e15),
        success=st.none() | st.floats(0, 1),
        query=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
        namespace=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5),
    ),
    max_size=8,
    unique_by=lambda use: (use.namespace, use.query, use.item) if use.query else object(),
)


@settings(max_examples=15, deadline=None)
@given(kept=any_uses)
def test_what_is_exported_can_be_imported_as_it_was(kept, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jsonl")
    first, second = folder / "first.jsonl", folder / "second.jsonl"
    write_lines(first, *[use.__dict__ for use in kept])
    with UsageLog.open(":memory:", clock="steps") as log:
        assert log.import_jsonl(first) == len(kept)
        assert uses(log) == kept
        assert log.export_jsonl(second) == len(kept)
    with UsageLog.open(":memory:", clock="steps") as log:
        assert log.import_jsonl(second) == len(kept)
        assert uses(log) == kept


def test_what_is_imported_again_is_there_once(path):
    """Whether its lines say who they are or not, from its own log or from another."""
    lines = path.with_name("x.jsonl")
    with UsageLog.open(path) as log, UsageLog.open(path.with_name("other.db")) as other:
        log.add([("a", 1.0), ("a", 1.0), ("b", None)])
        for _ in range(3):  # export and import on three days
            assert log.export_jsonl(lines) == 3
            assert log.import_jsonl(lines) == 0
        assert other.import_jsonl(lines) == 3
        assert other.import_jsonl(lines) == 0
        other.add([("c", 0.5)])
        other.export_jsonl(lines)
        assert log.import_jsonl(lines) == 1
        log.export_jsonl(lines)
        assert other.import_jsonl(lines) == 0
        assert sorted(use.item for use in uses(log)) == ["a", "a", "b", "c"]
        # As lines were before a use had an identity: two alike are two uses.
        write_lines(lines, *[use.__dict__ for use in uses(log)])
        assert log.import_jsonl(lines) == other.import_jsonl(lines) == 0
        with UsageLog.open(path.with_name("third.db")) as third:
            assert [third.import_jsonl(lines) for _ in range(2)] == [4, 0]
            third.export_jsonl(lines)
            with UsageLog.open(path.with_name("fourth.db")) as fourth:
                assert [fourth.import_jsonl(lines) for _ in range(2)] == [4, 0]


def test_uses_alike_that_were_not_logged_together_are_two(log, tmp_path):
    """The counter-check: logs that counted the same steps, each with its own uses."""
    with UsageLog.open(tmp_path / "other.db", clock="steps") as other:
        for one in (log, other):
            one.add([("a", 1.0)])
        other.export_jsonl(tmp_path / "x.jsonl")
    assert log.import_jsonl(tmp_path / "x.jsonl") == 1
    assert len(log) == 2


def test_a_copy_of_a_log_that_went_on_by_itself_loses_nothing(log, tmp_path):
    log.add([("a", 1.0)])
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        log._file.connection.backup(copy)
    log.add([("here", 1.0)])
    with UsageLog.open(tmp_path / "copy.db") as copy:
        copy.add([("there", 1.0)])
        copy.export_jsonl(tmp_path / "x.jsonl")
    assert [log.import_jsonl(tmp_path / "x.jsonl") for _ in range(2)] == [1, 0]
    assert [use.item for use in uses(log)] == ["a", "here", "there"]


def test_a_log_of_format_1_is_renewed_with_all_that_it_holds(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in OF_FORMAT_1.split(";"):
            connection.execute(statement)
    for _ in range(2):
        with UsageLog.open(path) as log:
            assert uses(log) == [Use("a", 1.0, 0.5), Use("b", 2.0, None, "q")]
            log.export_jsonl(path.with_name("x.jsonl"))
            assert log.import_jsonl(path.with_name("x.jsonl")) == 0
            assert log.clock == "steps"


OF_FORMAT_1 = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE uses (
    id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT NOT NULL, time REAL NOT NULL,
    success REAL CHECK (success BETWEEN 0 AND 1), query TEXT
) STRICT;
CREATE TABLE queries (
    id TEXT PRIMARY KEY, time REAL NOT NULL, arm TEXT, rated INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX uses_time ON uses (time);
INSERT INTO about VALUES ('format_version', '1'), ('clock', 'steps');
INSERT INTO uses (item, time, success, query) VALUES ('a', 1, 0.5, NULL), ('b', 2, NULL, 'q')
"""


OF_FORMAT_2 = (
    OF_FORMAT_1.replace(
        "success BETWEEN 0 AND 1), query TEXT",
        """success BETWEEN 0 AND 1),
    query TEXT, origin TEXT""",
    ).replace("'1'", "'2'")
    + """, ('b', 3, 1, 'q'), ('b', 4, NULL, 'q');
CREATE UNIQUE INDEX uses_origin ON uses (origin) WHERE origin IS NOT NULL;
UPDATE uses SET origin = 'elsewhere:5' WHERE item = 'a';
INSERT INTO queries VALUES ('q', 2, 'balanced', 0);
INSERT INTO about VALUES ('log', 'own')
"""
)


def test_a_log_of_format_2_is_renewed_and_what_it_counted_still_counts(path):
    """It counted an item of a query each time; what is reported from now on counts once."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in OF_FORMAT_2.split(";"):
            connection.execute(statement)
    kept = [Use("a", 1, 0.5), Use("b", 2, None, "q"), Use("b", 3, 1.0, "q"), Use("b", 4, None, "q")]
    lines = path.with_name("x.jsonl")
    for _ in range(2):
        with UsageLog.open(path) as log:
            assert uses(log) == kept
            assert [use for _, use in log.since(namespace="")] == kept
            assert log.add([("b", 1.0)], query="q") == 0
            log.export_jsonl(lines)
            assert log.import_jsonl(lines) == 0
            assert [json.loads(line)["id"] for line in lines.read_text().splitlines()] == [
                "elsewhere:5",
                "own:2",
                "own:3",
                "own:4",
            ]
    with UsageLog.open(path) as log:
        assert log.add([("b", 1.0)], query="q", namespace="alice") == 1
        assert rate(log, "q") == "balanced"
        assert log.pins() == ()


def test_lines_carry_their_namespace_and_others_get_the_one_that_is_given(log, tmp_path):
    lines = tmp_path / "x.jsonl"
    log.add([("a", 1.0)], namespace="alice")
    log.add([("b", 1.0)])
    assert log.export_jsonl(lines, namespace="alice") == 1
    with UsageLog.open(tmp_path / "other.db", clock="steps") as other:
        assert other.import_jsonl(lines, namespace="bob") == 1
        assert uses(other) == [Use("a", 0, 1.0, namespace="alice")]
        write_lines(lines, {"item": "c", "time": 3}, {"item": "c", "time": 3, "namespace": ""})
        assert [other.import_jsonl(lines, namespace="bob") for _ in range(2)] == [2, 0]
        assert [use.namespace for use in uses(other)] == ["alice", "bob", ""]
        write_lines(lines, {"item": "c", "namespace": "a\nb"}, {"item": "c", "namespace": 7})
        with pytest.raises(RecordError, match=r"x\.jsonl:1: .*control char[^$]*x\.jsonl:2: .*text"):
            other.import_jsonl(lines)


def test_lines_may_leave_out_all_but_the_item(log, tmp_path):
    log.add([("before", None)])
    log.import_jsonl(write_lines(tmp_path / "uses.jsonl", {"item": "a"}, "", {"item": "b"}))
    assert uses(log)[1:] == [Use("a", time=1), Use("b", time=1)]


def test_imported_steps_may_lie_anywhere_and_the_counter_goes_on_behind_them(log, tmp_path):
    lines = write_lines(tmp_path / "u.jsonl", {"item": "a", "time": 41}, {"item": "b", "time": 3})
    log.import_jsonl(lines)
    assert log.now() == 42
    with pytest.raises(RecordError, match=r"u\.jsonl:1: .*in the future"):
        log.import_jsonl(write_lines(lines, {"item": "a", "time": 1e300}))  # none could follow
    assert log.now() == 42


def test_imported_wall_clock_time_is_not_in_the_future(path):
    with UsageLog.open(path) as log:
        lines = write_lines(path.with_suffix(".jsonl"), {"item": "a", "time": time.time() + 3600})
        with pytest.raises(RecordError, match=r"usage\.jsonl:1: .*'a' lies in the future"):
            log.import_jsonl(lines)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-29T10:00:00.5+05:30", 1795926600.5),
        ("2026-11-29 04:30:00+00:00", 1795926600),
        ("20261129T043000Z", 1795926600),
    ],
)
def test_a_time_may_be_a_text_with_a_zone_and_is_written_as_seconds(text, seconds, path):
    with UsageLog.open(path) as log:
        lines = write_lines(path.with_suffix(".jsonl"), {"item": "a", "time": text})
        assert [log.import_jsonl(lines) for _ in range(2)] == [1, 0]
        assert uses(log) == [Use("a", seconds)]
        log.export_jsonl(lines)
        assert json.loads(lines.read_text())["time"] == seconds


@pytest.mark.parametrize(
    ("text", "clock", "message"),
    [
        ("2026-11-29T10:00:00", "wall", "has no time zone: end it with Z"),
        ("2026-11-29", "wall", "has no time zone"),
        ("yesterday", "wall", "or a text such as 2026-11-29T10:00:00"),
        ("", "wall", "or a text such as"),
        ("9999-12-31T23:59:59-23:59", "wall", "lies in the future"),
        ("2026-11-29T10:00:00Z", "steps", "counts steps: its time is a number"),
    ],
)
def test_a_time_that_is_not_one_moment_is_refused(text, clock, message, path):
    with UsageLog.open(path, clock=clock) as log:
        lines = write_lines(path.with_suffix(".jsonl"), {"item": "a", "time": text})
        with pytest.raises(RecordError, match=rf"usage\.jsonl:1: .*{message}"):
            log.import_jsonl(lines)
        assert len(log) == 0


def test_every_wrong_line_is_named_and_none_is_imported(log, tmp_path):
    lines = write_lines(
        tmp_path / "uses.jsonl",
        {"item": "good", "time": 1, "success": 1},
        "{",
        [1],
        {"item": ""},
        {"time": 1},
        {"item": "a", "time": None},
        {"item": "a", "time": "today"},
        '{"item": "a", "time": NaN}',
        {"item": "a", "success": 2},
        {"item": "a", "success": "yes"},
        '{"item": "a", "success": NaN}',
        {"item": "a", "query": 1},
        {"item": ["a"]},
        '{"item": "\\ud800"}',
        '{"item": "a", "time": 1' + "0" * 400 + "}",
        {"item": "good too"},
    )
    with pytest.raises(RecordError) as caught:
        log.import_jsonl(lines)
    named = [problem.split(": ")[0] for problem in caught.value.problems]
    assert named == [f"{lines}:{number}" for number in range(2, 16)]
    assert len(log) == 0
    log.import_jsonl(write_lines(lines, {"item": "good"}))  # and the log can be written to
    assert len(log) == 1


@pytest.mark.parametrize("name", ["nowhere.jsonl", "."])
def test_a_file_that_is_not_there_is_named(name, log, tmp_path):
    with pytest.raises(RecordError, match="cannot be read"):
        log.import_jsonl(tmp_path / name)
    assert len(log) == 0


def test_an_export_that_fails_leaves_what_was_there(log, tmp_path):
    log.add([("a", 1.0)] * 50)
    (tmp_path / "uses.jsonl").write_text("mine")
    with full_disk(20), pytest.raises(UsageLogError, match=r"cannot write .*uses\.jsonl"):
        log.export_jsonl(tmp_path / "uses.jsonl")
    assert (tmp_path / "uses.jsonl").read_text() == "mine"
    for target in (tmp_path / "uses.jsonl" / "below", tmp_path / "no" / "uses.jsonl", tmp_path):
        with pytest.raises(UsageLogError, match="cannot write"):
            log.export_jsonl(target)
    assert not [file for file in tmp_path.iterdir() if "partial" in file.name]


# Queries and their rating.


def rate(log: UsageLog, query: str) -> str | None:
    with log.rating(query) as arm:
        return arm


def test_a_query_is_rated_once_whoever_asks(log, path):
    log.add_query("q1", arm="balanced")
    log.add_query("q2", arm=None)
    with UsageLog.open(path) as other:
        assert rate(other, "q1") == "balanced"
        assert rate(other, "q2") is None
    for query in ("q1", "q2"):
        with pytest.raises(UsageLogError, match=f"query '{query}' was rated before"):
            rate(log, query)
    with pytest.raises(UsageLogError, match=r"no query 'q3' in the usage log .*usage\.db"):
        rate(log, "q3")


def test_a_query_is_rated_in_its_own_namespace(log):
    log.add_query("q", arm="balanced", namespace="alice")
    for other in ("", "bob"):
        assert not log.awaits_rating("q", namespace=other)
        with pytest.raises(UsageLogError, match="no query 'q'"), log.rating("q", namespace=other):
            pass
    assert log.awaits_rating("q", namespace="alice")
    with log.rating("q", namespace="alice") as arm:
        assert arm == "balanced"
    assert not log.awaits_rating("q", namespace="alice")


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_a_rating_that_fails_leaves_the_query_unrated(error, log):
    log.add_query("q", arm="balanced")
    with pytest.raises(type(error)), log.rating("q"):
        raise error
    assert rate(log, "q") == "balanced"


def test_an_error_of_whoever_rates_is_not_blamed_on_the_log(log):
    log.add_query("q", arm="balanced")
    for error in (OSError("another file"), sqlite3.OperationalError("another database")):
        with pytest.raises(type(error), match="another"), log.rating("q"):
            raise error


def test_a_query_id_can_be_used_once(log):
    log.add_query("q", arm="balanced")
    with pytest.raises(UsageLogError, match="cannot be used"):
        log.add_query("q", arm="exploration")
    assert rate(log, "q") == "balanced"


def test_queries_take_no_step(log):
    """Counter-check to uses, which do."""
    log.add_query("q", arm=None)
    assert log.now() == 0
    assert len(log) == 0


@pytest.mark.parametrize("instead", ["nothing", "another"])
def test_a_log_whose_file_was_taken_away_takes_no_use_that_would_be_lost(instead, tmp_path):
    with UsageLog.open(tmp_path / "usage.db") as log:
        log.add([("a", 1.0)])
        for path in tmp_path.glob("usage.db*"):
            path.unlink()
        if instead == "another":
            UsageLog.open(tmp_path / "usage.db").close()
        for use in (lambda: log.add([("b", 1.0)]), lambda: list(log.since()), log.now):
            with pytest.raises(UsageLogError, match="moved, removed or replaced"):
                use()
    with UsageLog.open(tmp_path / "usage.db") as log:
        assert len(log) == 0


def test_a_log_that_is_moved_while_it_is_written_is_left_unlocked_and_without_half_a_change(
    tmp_path,
):
    moved = tmp_path / "moved"
    with UsageLog.open(tmp_path / "here" / "usage.db") as log:
        log.add_query("q", arm="balanced")
        with pytest.raises(UsageLogError, match="moved, removed or replaced"), log.rating("q"):
            (tmp_path / "here").rename(moved)
        with closing(sqlite3.connect(moved / "usage.db", timeout=0.1)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody holds the lock
            assert other.execute("SELECT rated FROM queries").fetchall() == [(0,)]


def test_what_is_forgotten_is_gone_for_all_who_have_the_log_open(tmp_path):
    path = tmp_path / "usage.db"
    with UsageLog.open(path) as log, UsageLog.open(path) as other:
        log.add([("a", 1.0), ("b", None)], query="q")
        log.add([("b", 0.0)], query="q")  # rated later
        log.add([("a", 1.0)], query="q", namespace="alice")
        log.add([("a", 1.0)], query="other")
        log.add([("a", 1.0)])
        before = other.rated()
        assert other.forgotten == 0
        assert log.forget(["q", "unknown"]) == 2
        assert log.forget(["q"]) == 0
        assert [use.query for _, use in other.since(namespace="")] == ["other", None]
        assert [use.query for _, use in other.since(namespace="alice")] == ["q"]
        assert other.forgotten == 2
        assert (before[0], other.rated()[0]) == (3, 1)


def test_what_is_forgotten_is_in_no_file_while_the_log_stays_open(tmp_path):
    with UsageLog.open(tmp_path / "usage.db") as log, UsageLog.open(tmp_path / "usage.db"):
        for n in range(300):
            log.add([(f"diary-{n}", 1.0)], query=f"search-{n}")

        def readable() -> bool:
            return any(b"diary-1" in path.read_bytes() for path in tmp_path.iterdir())

        assert readable()
        assert log.forget([f"search-{n}" for n in range(300)]) == 300
        assert not readable()
