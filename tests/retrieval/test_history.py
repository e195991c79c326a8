"""History: kept up to date use by use, and the same as if the log were read from nothing."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from engine_world import ABOUT, LAYOUT, make_engine, make_records, unit_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.blocks import unit_blocks
from subspace.data.records import Record
from subspace.errors import ConfigError, EngineError, UsageLogError
from subspace.retrieval import BlockIndex, UsageLog, Use, Weights
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.usage.decay import Decay
from subspace.retrieval.usage.history import History, HistorySettings, item_priors, require

IDS = [f"d{n}" for n in range(20)]
DAY_S = 86_400.0


@pytest.fixture
def engine() -> NumpyEngine:
    return make_engine(unit_vectors(len(IDS)))


def read(log: UsageLog, engine: NumpyEngine, **options) -> History:
    """What a new process would make of the log."""
    history = History(log, engine=engine, settings=HistorySettings(**options))
    history.refresh()
    return history


def assert_same(first: History, second: History) -> None:
    np.testing.assert_allclose(first.recency, second.recency, atol=1e-6)
    np.testing.assert_allclose(first.importance, second.importance, atol=1e-6)
    for one, other in zip(first.item_values(IDS), second.item_values(IDS), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


# Kept up to date.


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.lists(
            st.tuples(st.sampled_from(IDS), st.none() | st.sampled_from([0.0, 0.3, 1.0])),
            max_size=3,
        ),
        max_size=12,
    ),
    looks=st.sets(st.integers(0, 12)),
)
def test_reading_on_equals_reading_from_nothing(steps, looks):
    engine = make_engine(unit_vectors(len(IDS)))
    with UsageLog.open(":memory:", clock="steps") as log:
        history = History(log, engine=engine)
        for number, uses in enumerate(steps):
            log.add(uses)
            if number in looks:
                history.refresh()
                assert_same(history, read(log, engine))
        history.refresh()
        history.refresh()  # nothing is counted twice
        assert_same(history, read(log, engine))


def test_a_log_longer_than_is_read_at_once_is_read_whole(log, engine, tmp_path):
    rng = random.Random(0)
    lines = [
        {"item": rng.choice(IDS), "time": step, "success": rng.random()} for step in range(9000)
    ]
    (tmp_path / "uses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    log.import_jsonl(tmp_path / "uses.jsonl")
    history = read(log, engine)
    _, importance = history.item_values(IDS)
    for name, value in zip(IDS, importance, strict=True):
        own = [line["success"] for line in lines if line["item"] == name]
        assert value == pytest.approx((sum(own) + 1) / (len(own) + 2))
    assert history.recency.any()


def test_what_another_logged_counts(log, engine):
    history = read(log, engine)
    assert history.item_values(["d3"])[1] == 0.5
    with UsageLog.open(log.path) as other:  # as another process does
        other.add([("d3", 1.0)])
    history.refresh()
    assert history.item_values(["d3"])[1] == pytest.approx(2 / 3)
    assert_same(history, read(log, engine))


def test_nothing_is_read_before_it_is_asked_for(log, engine):
    log.add([("d3", 1.0)])
    history = History(log, engine=engine)
    assert not history.recency.any()
    history.refresh()
    assert history.recency.any()


class FailingEngine(NumpyEngine):
    """Cannot be reached now and then, as a server."""

    fails = False

    def fetch(self, ids):
        if self.fails:
            raise EngineError("cannot be reached")
        return super().fetch(ids)


def test_what_could_not_be_read_to_the_end_is_counted_once_when_it_can(log):
    engine = FailingEngine(**ABOUT)
    engine.upsert(make_records(len(IDS)), unit_vectors(len(IDS)))
    log.add([("d1", 1.0), ("d2", 0.0)])
    history, engine.fails = read(log, engine), True
    log.add([("d1", 1.0), ("d3", None)])
    for _ in range(3):
        with pytest.raises(EngineError):
            history.refresh()
    engine.fails = False
    history.refresh()
    assert_same(history, read(log, engine))
    assert history.item_values(["d1"])[1] == pytest.approx(3 / 4)


# Items that come and go.


def test_uses_of_items_that_are_not_in_the_index_leave_no_trace_and_count_when_they_come(
    log, engine
):
    log.add([("new", 1.0)])
    history = read(log, engine)
    assert not history.recency.any() and not history.importance.any()
    log.add([("d1", 1.0)])
    history.refresh()
    np.testing.assert_allclose(history.recency, engine.fetch(["d1"]).vectors[0], atol=1e-6)
    engine.upsert([Record(id="new", text="a text")], unit_vectors(1, seed=5))
    recency, importance = history.item_values(["new", "d2"])
    assert recency == pytest.approx([1 - 2 / 50, 0.5])
    assert importance == pytest.approx([2 / 3, 0.5])


def test_deleting_items_changes_no_other_item_and_searches_go_on(log, engine):
    log.add([("d1", 1.0), ("d2", 0.0), ("d3", 0.5)])
    index = BlockIndex(engine, usage=log)
    query = unit_vectors(1, seed=9)[0]
    options = {"weights": "preset=balanced", "k": 99}
    for scope in ("item", "block"):
        before = {hit.id: hit for hit in index.search(query, scope=scope, **options)}
        gone = "d1" if scope == "item" else "d5"
        engine.delete([gone])
        after = {hit.id: hit for hit in index.search(query, scope=scope, **options)}
        assert set(before) - set(after) == {gone}
        assert all(after[name] == before[name] for name in after)
    log.add([("d1", 1.0), ("d4", 1.0)])
    found = [hit.id for hit in index.search(query, scope="item", **options)]
    assert set(found) == set(IDS) - {"d1", "d5"}


def test_replacing_an_items_vector_counts_for_its_later_uses(log, engine):
    history = read(log, engine)
    log.add([("d1", None)])
    history.refresh()
    old, new = engine.fetch(["d1"]).vectors[0], unit_vectors(1, seed=7)[0]
    engine.upsert([Record(id="d1", text="a text")], new[None])
    log.add([("d1", None)])
    history.refresh()
    expected = unit_blocks(2 ** (-1 / 50) * old + new, layout=LAYOUT)
    np.testing.assert_allclose(history.recency, expected, atol=1e-6)


# Clocks.


def test_steps_are_the_age_where_the_log_counts_steps(log, engine):
    for name in IDS[:10]:
        log.add([(name, None)])
    recency, _ = read(log, engine).item_values(IDS[:12])
    assert recency == pytest.approx([1 - age / 50 for age in range(10, 0, -1)] + [0.5, 0.5])
    halves, _ = read(log, engine, recency=Decay("exponential", 5)).item_values(IDS[:10])
    assert halves == pytest.approx([2 ** (-age / 5) for age in range(10, 0, -1)])


def test_days_are_the_age_where_the_log_has_wall_clock_time(engine, tmp_path):
    ages = {"d0": 0, "d1": 10, "d2": 25, "d3": 49, "d4": 51, "d5": 400}
    with UsageLog.open(tmp_path / "wall.db") as log:
        now = time.time()
        log.add([Use(name, time=now - age * DAY_S) for name, age in ages.items()])
        history = read(log, engine)
        recency, _ = history.item_values([*ages, "d9"])
        assert recency == pytest.approx([1, 0.8, 0.5, 0.02, 0, 0, 0.5], abs=1e-4)
        expected = sum(
            2.0 ** (-age / 50) * engine.fetch([name]).vectors[0] for name, age in ages.items()
        )
        np.testing.assert_allclose(history.recency, unit_blocks(expected, layout=LAYOUT), atol=1e-5)


def test_recency_falls_while_nothing_is_logged(engine, tmp_path, monkeypatch):
    with UsageLog.open(tmp_path / "wall.db") as log:
        log.add([("d1", None)])
        history = read(log, engine)
        assert history.item_values(["d1"])[0] == pytest.approx(1, abs=1e-4)
        later = time.time() + 25 * DAY_S
        monkeypatch.setattr(time, "time", lambda: later)
        history.refresh()
        assert history.item_values(["d1"])[0] == pytest.approx(0.5, abs=1e-4)


# Days of the uses from now; those of d3 and d4 were written by a clock that was a year ahead.
DAYS = {"d0": -30, "d1": -1, "d2": 0.5, "d3": 365, "d4": 366}


def at_days(log: UsageLog, clock, *, now: float) -> None:
    for name, day in DAYS.items():
        clock.setattr(time, "time", lambda day=day: now + day * DAY_S)
        log.add([(name, 1.0)])
    clock.setattr(time, "time", lambda: now)


def test_a_use_of_a_clock_that_was_wrong_is_not_recent_and_its_success_counts(
    engine, tmp_path, monkeypatch
):
    now = time.time()
    with UsageLog.open(tmp_path / "wall.db") as log:
        at_days(log, monkeypatch, now=now)
        history = read(log, engine, recency_floor=0, importance_floor=0.25)
        recency, importance = history.item_values([*DAYS, "d9"])
        # Half a day ahead is a clock that was set back: that is what time it is.
        assert recency == pytest.approx([1 - 30.5 / 50, 1 - 1.5 / 50, 1, 0.5, 0.5, 0.5], abs=1e-6)
        assert importance == pytest.approx([2 / 3] * 5 + [1 / 2])
        shares = [2 ** (-(0.5 - day) / 50) if day < 1 else 0.0 for day in DAYS.values()]
        vectors = engine.fetch(list(DAYS)).vectors
        np.testing.assert_allclose(
            history.recency, unit_blocks(np.array(shares) @ vectors, layout=LAYOUT), atol=1e-6
        )
        kept = 0.25 + 0.75 * np.array(shares)
        np.testing.assert_allclose(
            history.importance, unit_blocks(kept @ vectors, layout=LAYOUT), atol=1e-6
        )


def test_reading_on_equals_reading_from_nothing_whatever_the_clock_does(
    engine, tmp_path, monkeypatch
):
    """A clock that is set to 1970, ahead, and right again; and times that come."""
    now = time.time()
    with UsageLog.open(tmp_path / "wall.db") as log:
        at_days(log, monkeypatch, now=now)
        history, seen = read(log, engine), []
        for day in (0, -1, -20_000, 0, 364.5, 365.5, 0, 400, 1):
            monkeypatch.setattr(time, "time", lambda day=day: now + day * DAY_S)
            history.refresh()
            assert_same(history, read(log, engine))
            recency, _ = history.item_values(IDS)
            assert ((recency >= 0) & (recency <= 1)).all()
            seen.append(tuple(recency.round(6)))
        assert seen[0] == seen[3] == seen[6]  # nothing of the log was changed
        assert len(set(seen)) > 5


def test_recency_is_not_below_zero_or_beyond_one_where_the_clock_goes_back(
    engine, tmp_path, monkeypatch
):
    now = time.time()
    with UsageLog.open(tmp_path / "wall.db") as log:
        log.add([("d1", 1.0)])
        history = read(log, engine)
        monkeypatch.setattr(time, "time", lambda: now - 3600)
        log.add([("d2", 1.0)])
        history.refresh()
        assert history.item_values(["d1", "d2"])[0] == pytest.approx([1, 1], abs=1e-6)


def test_the_half_life_is_that_of_the_traces(log, engine):
    log.add([("d1", None)])
    log.add([("d2", None)])
    vectors = engine.fetch(["d1", "d2"]).vectors
    for half_life in (0.5, 1.0, 1000.0):
        expected = unit_blocks(2 ** (-1 / half_life) * vectors[0] + vectors[1], layout=LAYOUT)
        found = read(log, engine, half_life=half_life).recency
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("half_life", [0, 0.0, -1, float("nan")])
def test_a_half_life_that_cannot_be_is_refused_and_not_taken_for_the_default(
    half_life, log, engine
):
    with pytest.raises(ConfigError, match="half-life must be above 0"):
        HistorySettings(half_life=half_life)
    with pytest.raises(ConfigError, match="half-life must be above 0"):
        BlockIndex(engine, usage=log, half_life=half_life)


# What engines are given.


def test_priors_are_the_weighted_values_of_the_items(log, engine):
    for name in IDS[:5]:
        log.add([(name, 1.0), ("not here", 0.0)])
    history = read(log, engine)
    weights = Weights(LAYOUT, (0.1, 0.2, 0.1), (0.2, 0.1, 0.4), relevance=(1, 1, 1))
    priors = item_priors(history.items, weights=weights)
    found = dict(zip(priors.ids, priors.values, strict=True))
    recency, importance = history.item_values(IDS)
    for name, r, i in zip(IDS, recency, importance, strict=True):
        assert found.get(name, priors.default) == pytest.approx(0.4 * r + 0.7 * i)
    log.add([("d17", 1.0)])
    history.refresh()
    more = item_priors(history.items, weights=weights)
    assert more.ids is priors.ids  # so that an engine may remember where the first of them are
    assert len(priors.values) == 6 and len(more.values) == 7


def test_where_history_counts_there_must_be_one(log, engine):
    history = History(log, engine=engine)
    assert require(history) is history
    with pytest.raises(ConfigError, match=r"no usage log .*give one"):
        require(None)


def test_a_log_that_cannot_be_read_stops_a_search_that_needs_it_and_no_other(tmp_path, engine):
    path = Path(tmp_path / "usage.db")
    with UsageLog.open(path, clock="steps") as log:
        log.add([("d1", 1.0)])
        index = BlockIndex(engine, usage=log)
        query = unit_vectors(1)[0]
        index.search(query, weights="preset=balanced")
    for scope in ("item", "block"):
        with pytest.raises(UsageLogError, match=r"usage\.db cannot be used"):
            index.search(query, weights="preset=balanced", scope=scope)
        assert len(index.search(query, scope=scope)) == 10
