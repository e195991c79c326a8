"""What must not sink: old items that were confirmed, and pinned ones."""

import numpy as np
import pytest
from engine_world import LAYOUT, make_engine, make_records, unit_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.blocks import unit_blocks
from subspace.errors import ConfigError
from subspace.retrieval import BlockIndex, UsageLog, Use, Weights
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.hits import SCOPES
from subspace.retrieval.usage.decay import Decay
from subspace.retrieval.usage.history import HistorySettings

# "old" and "new" are equally relevant to the query, which is their sum, and have nothing else in
# common; "other" is a third that has nothing in common with them.
NAMES = ("old", "new", "other")
CORNERS = unit_blocks(
    np.concatenate([np.eye(3, width, dtype=np.float32) for width in (5, 3, 3)], axis=1),
    layout=(WIDE := type(LAYOUT).from_widths({"topic": 5, "style": 3, "tone": 3})),
)
QUERY = CORNERS[0] + CORNERS[1]
RIV = Weights.make(layout=WIDE, riv=(0.3, 0.3, 0.4), blocks={"topic": 1, "style": 1})


def make_index(log: UsageLog, **options) -> BlockIndex:
    engine = NumpyEngine(layout=WIDE, projection_digest="0" * 64)
    records = make_records(3)
    engine.upsert(
        [type(one)(id=name, text=name) for one, name in zip(records, NAMES, strict=True)], CORNERS
    )
    return BlockIndex(engine, usage=log, **options)


def scores(index: BlockIndex, *, scope: str, weights: Weights = RIV) -> dict[str, float]:
    return {hit.id: hit.score for hit in index.search(QUERY, scope=scope, weights=weights)}


def elapse(log: UsageLog, steps: int = 400) -> None:
    """Other items are used, and nobody says how well they did."""
    for _ in range(steps):
        log.add([("other", None)])


# Item scope.


def test_an_old_confirmed_item_sinks_below_a_new_one_of_equal_relevance_without_the_floor_alone(
    log,
):
    log.add([("old", 1.0)])
    elapse(log)
    kept = scores(make_index(log), scope="item")
    assert kept["old"] > kept["new"]
    sunk = scores(make_index(log, recency_floor=0), scope="item")
    assert sunk["old"] < sunk["new"]


settings_of_uses = st.lists(
    st.tuples(st.sampled_from(["old", "other"]), st.none() | st.floats(0, 1)), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(
    uses=settings_of_uses,
    age=st.integers(1, 10_000),
    mix=st.tuples(*[st.just(0.0) | st.floats(1e-6, 1)] * 2),
)
def test_no_mix_of_recency_and_importance_lets_a_confirmed_item_sink_below_one_without_uses(
    uses, age, mix
):
    weights = Weights.make(layout=WIDE, riv=(*mix, 1.0), blocks={"topic": 1})
    with UsageLog.open(":memory:", clock="steps") as log:
        log.add([Use(item, time=-age, success=success) for item, success in uses])
        log.add([("other", None)])
        index = make_index(log)
        found = scores(index, scope="item", weights=weights)
        importance = index.history_of("").item_values(["old"])[1][0]
        if importance > 0.5:
            assert found["old"] >= found["new"] - 1e-9


@pytest.mark.parametrize("successes", [[None], [0.0], [1.0, 0.0], [0.5], [1.0, 0.0, 0.4]])
def test_an_item_that_was_not_confirmed_falls_as_before(successes, log):
    """The counter-check: with equal success and failure, or none, recency is the decay alone."""
    log.add([("old", success) for success in successes])
    elapse(log, 30)
    recency, _ = make_index(log).history_of("").item_values(["old"])
    assert recency == pytest.approx([1 - 31 / 50])


def test_a_floor_lowers_nothing_and_is_reached_only_by_age(log):
    log.add([("old", 1.0)])
    for step in range(1, 60):
        recency, _ = make_index(log, recency_floor=0.3).history_of("").item_values(["old"])
        assert recency == pytest.approx([max(1 - step / 50, 0.3)])
        log.add([("other", None)])


# Block scope.


def test_an_old_success_stands_above_a_new_one_if_ratings_keep_a_share_of_their_weight(log):
    """Twenty successes long ago beside one now: without a floor they count nothing."""
    for _ in range(20):
        log.add([("old", 1.0)])
    elapse(log)
    log.add([("new", 1.0)])
    weights = Weights.make(layout=WIDE, riv=(0, 0.5, 0.5), blocks={"topic": 1})
    sunk = scores(make_index(log, importance_floor=0), scope="block", weights=weights)
    assert sunk["old"] < sunk["new"] - 0.4
    kept = scores(make_index(log), scope="block", weights=weights)
    assert kept["old"] > kept["new"]


@pytest.mark.parametrize("floor", [0.0, 0.05, 0.5, 1.0])
def test_the_importance_trace_is_the_sum_of_its_definition(floor):
    rng = np.random.default_rng(0)
    engine = make_engine(vectors := unit_vectors(8))
    uses = [
        Use(f"d{rng.integers(8)}", time=int(time), success=float(rng.uniform()))
        for time in rng.integers(0, 300, size=40)
    ]
    with UsageLog.open(":memory:", clock="steps") as log:
        log.add([Use("d0", time=-1)])
        index = BlockIndex(engine, usage=log, importance_floor=floor, half_life=20)
        for use in sorted(uses, key=lambda use: use.time):
            while log.now() < use.time:
                log.add([("d0", None)])
            log.add([use])
            if use.time % 3 == 0:
                index.history_of("")
        now = log.now()
        m = sum(
            (floor + (1 - floor) * 2 ** (-(now - use.time) / 20))
            * (2 * use.success - 1)
            * vectors[int(use.item[1:])]
            for use in uses
        )
        found = index.history_of("").importance
    np.testing.assert_allclose(found, unit_blocks(m, layout=LAYOUT), atol=1e-5)


def test_without_a_floor_the_trace_is_what_it_was_to_the_last_bit(log):
    """Time cancels: uses that nobody rated change nothing of it."""
    log.add([("old", 1.0), ("new", 0.2)])
    before = make_index(log, importance_floor=0).history_of("").importance
    with_floor = make_index(log, importance_floor=0.1).history_of("").importance
    elapse(log, 100)
    np.testing.assert_array_equal(
        make_index(log, importance_floor=0).history_of("").importance, before
    )
    np.testing.assert_allclose(
        make_index(log, importance_floor=0.1).history_of("").importance, with_floor, atol=1e-6
    )


@pytest.mark.parametrize("name", ["recency_floor", "importance_floor"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "half", None, True])
def test_a_floor_that_cannot_be_is_refused(name, value, log):
    said = name.replace("_", " ")
    with pytest.raises(ConfigError, match=f"the {said} must be between 0 and 1"):
        HistorySettings(**{name: value})
    with pytest.raises(ConfigError, match=f"the {said} must be between 0 and 1"):
        make_index(log, **{name: value})


# Pins.


@pytest.mark.parametrize("scope", SCOPES)
def test_a_pinned_item_stands_above_one_of_equal_relevance_however_old_it_is(scope, log):
    log.add([("old", 0.0), ("old", 0.0)])
    elapse(log, 100)
    index = make_index(log)
    before = scores(index, scope=scope)
    assert before["old"] < before["new"]
    assert log.pin(["old"]) == 1
    after = scores(index, scope=scope)
    assert after["old"] > after["new"]
    elapse(log, 100)
    assert scores(index, scope=scope)["old"] == pytest.approx(after["old"], abs=0.01)
    # The counter-check: unpinned, it is what its uses make it.
    assert log.unpin(["old"]) == 1
    assert scores(index, scope=scope) == scores(make_index(log), scope=scope)
    assert scores(index, scope=scope)["old"] < scores(index, scope=scope)["new"]


def test_a_pinned_item_is_as_recent_as_can_be_and_as_important_as_after_a_success(log):
    log.add([("old", 0.0)])
    elapse(log, 60)
    log.pin(["old", "new"])  # used badly, and never
    history = make_index(log).history_of("")
    recency, importance = history.item_values(["old", "new", "other"])
    assert recency[:2].tolist() == [1, 1] and recency[2] == pytest.approx(0.98)
    assert importance == pytest.approx([2 / 3, 2 / 3, 1 / 2])
    log.add([("new", 1.0), ("new", 1.0)])  # what it earned is not lowered
    history.refresh()
    assert history.item_values(["new"])[1] == pytest.approx([3 / 4])
    log.unpin(["new", "old"])
    history.refresh()
    recency, importance = history.item_values(["old", "new"])
    assert recency == pytest.approx([0, 0.98])
    assert importance == pytest.approx([1 / 3, 3 / 4])


def test_a_pinned_item_that_was_never_used_is_after_that_as_if_it_had_not_been_pinned(log):
    history = make_index(log).history_of("")
    log.pin(["new"])
    history.refresh()
    assert history.item_values(["new"])[0] == [1]
    log.unpin(["new"])
    history.refresh()
    assert [value[0] for value in history.item_values(["new"])] == [0.5, 0.5]


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_in_the_traces_a_pin_is_one_use_of_age_0_and_lifts_ratings_to_one_success(floor, log):
    engine = make_engine(vectors := unit_vectors(4))
    index = BlockIndex(engine, usage=log, half_life=10, importance_floor=floor)
    log.add([("d0", 0.0), ("d1", 1.0), ("d1", 1.0), ("d2", 0.0)])
    for _ in range(5):
        log.add([("d3", None)])
    log.pin(["d0", "d1"])
    history = index.history_of("")
    now = log.now()
    ages = {time: 2 ** (-(now - time) / 10) for time in range(6)}
    r = ages[0] * (vectors[0] + 2 * vectors[1] + vectors[2]) + vectors[0] + vectors[1]
    r = r + sum(ages[time] for time in range(1, 6)) * vectors[3]
    kept = floor + (1 - floor) * ages[0]
    m = vectors[0] + max(2 * kept, 1) * vectors[1] - kept * vectors[2]
    np.testing.assert_allclose(history.recency, unit_blocks(r, layout=LAYOUT), atol=1e-6)
    np.testing.assert_allclose(history.importance, unit_blocks(m, layout=LAYOUT), atol=1e-6)


def test_pins_are_kept_in_order_once_and_by_namespace_and_others_see_them(log):
    assert log.pin(["b", "a"]) == 2
    log.add([("c", None)])
    assert log.pin(["a", "c"], namespace="alice") == 2
    assert log.pin(["c", "a", "c"]) == 1
    with UsageLog.open(log.path) as other:
        assert other.pins() == ("a", "b", "c")
        assert other.pins(namespace="alice") == ("a", "c")
        assert other.unpin(["a", "nowhere"], namespace="alice") == 1
    assert log.pins(namespace="alice") == ("c",)
    assert log.pins() == ("a", "b", "c")
    assert log.now() == 1  # pins take no step


def test_a_pinned_item_has_the_vector_that_the_index_has_now(log):
    """Unlike that of a use, which keeps the one it had."""
    engine = make_engine(unit_vectors(3))
    index = BlockIndex(engine, usage=log)
    log.pin(["d1", "later"])
    np.testing.assert_allclose(
        index.history_of("").recency, engine.fetch(["d1"]).vectors[0], atol=1e-6
    )
    engine.upsert(make_records(1, first=1), unit_vectors(1, seed=5))
    np.testing.assert_allclose(index.history_of("").recency, unit_vectors(1, seed=5)[0], atol=1e-6)
    engine.delete(["d1"])
    assert not index.history_of("").recency.any()
    engine.upsert([type(make_records(1)[0])(id="later", text="x")], unit_vectors(1, seed=6))
    np.testing.assert_allclose(index.history_of("").recency, unit_vectors(1, seed=6)[0], atol=1e-6)


def test_a_pin_is_a_prior_of_an_item_that_relevance_would_not_find(log):
    """So that an engine finds it among all others."""
    engine = make_engine(vectors := unit_vectors(400))
    index = BlockIndex(engine, usage=log, recency=Decay("linear", 5))
    query = vectors[0]
    options = {"weights": "riv=0.5,0.5,0.1;topic=1", "scope": "item", "k": 3}
    last = index.search(query, weights="topic=1", k=400)[-1].id
    assert last not in [hit.id for hit in index.search(query, **options)]
    log.pin([last])
    assert index.search(query, **options)[0].id == last
