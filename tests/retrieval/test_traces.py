"""Traces: what a slow rescan of the log would give, kept use by use; credit spreads by block."""

import itertools
import pickle
import random

import numpy as np
import pytest
from engine_world import unit_vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.blocks import BlockLayout, unit_blocks
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.retrieval import BlockIndex, UsageLog, Use, Weights
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.usage.traces import Traces

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3, "tone": 1})
ITEMS = "abcdef"


VECTORS = dict(zip(ITEMS, unit_vectors(len(ITEMS), layout=LAYOUT), strict=True))


def rescan(uses: list[Use], *, half_life: float) -> tuple[np.ndarray, np.ndarray]:
    """The definition, by loops over all uses: unit sums of 2 ** -(age / h) d, and signed."""
    now = max((use.time for use in uses), default=0)
    traces = []
    for signed in (False, True):
        trace = np.zeros(LAYOUT.dim)
        for name in LAYOUT:
            place = LAYOUT.slice(name)
            total, size = np.zeros(trace[place].shape), 0.0
            for use in uses:
                sign = (0 if use.success is None else 2 * use.success - 1) if signed else 1
                weight = 2.0 ** (-(now - use.time) / half_life) * sign
                total += weight * VECTORS[use.item][place].astype(np.float64)
                size += abs(weight)
            norm = np.linalg.norm(total)
            if norm > 1e-9 * size:  # what is left of uses that cancel is rounding
                trace[place] = total / norm
        traces.append(trace)
    return traces[0], traces[1]


def make_traces(*batches: list[Use], half_life: float = 50.0) -> Traces:
    traces = Traces(layout=LAYOUT, half_life=half_life)
    for uses in batches:
        vectors = np.array([VECTORS[use.item] for use in uses], dtype=np.float32)
        traces.add(uses, vectors.reshape(len(uses), LAYOUT.dim))
    return traces


def assert_traces(traces: Traces, uses: list[Use], *, half_life: float = 50.0) -> None:
    recency, importance = rescan(uses, half_life=half_life)
    np.testing.assert_allclose(traces.recency, recency, atol=1e-6)
    np.testing.assert_allclose(traces.importance, importance, atol=1e-6)


# The definition.

any_uses = st.lists(
    st.builds(
        Use,
        item=st.sampled_from(ITEMS),
        time=st.integers(0, 200) | st.floats(0, 200),
        success=st.none() | st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]) | st.floats(0, 1),
    ),
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(uses=any_uses, half_life=st.sampled_from([1.0, 7.0, 50.0, 1e4]), data=st.data())
def test_traces_are_those_of_a_rescan_after_any_order_and_in_any_batches(uses, half_life, data):
    uses = data.draw(st.permutations(uses))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(uses)), max_size=4)))
    batches = [uses[a:b] for a, b in itertools.pairwise([0, *cuts, len(uses)])]
    assert_traces(make_traces(*batches, half_life=half_life), uses, half_life=half_life)


def test_traces_are_those_of_a_rescan_after_thousands_of_uses():
    rng = random.Random(0)
    uses = [
        Use(rng.choice(ITEMS), time=step, success=rng.choice([None, 0.0, 1.0, rng.random()]))
        for step in range(3000)
    ]
    assert_traces(make_traces(*([use] for use in uses)), uses)
    np.testing.assert_allclose(
        make_traces(uses).recency, make_traces(*([use] for use in uses)).recency, atol=1e-7
    )


def test_a_use_counts_half_after_the_half_life():
    axes = np.eye(LAYOUT.dim, dtype=np.float32)[:2]
    traces = Traces(layout=LAYOUT, half_life=7)
    traces.add([Use("old", time=3), Use("new", time=10)], axes)
    np.testing.assert_allclose(traces.recency[:2], np.array([0.5, 1]) / np.sqrt(1.25), rtol=1e-6)


def test_traces_are_unit_in_every_block_that_was_used():
    traces = make_traces([Use("a", 0, 1.0), Use("b", 3, 0.2), Use("c", 4)])
    for trace in (traces.recency, traces.importance):
        assert trace.dtype == np.float32
        for block in LAYOUT.split(trace).values():
            assert np.linalg.norm(block) == pytest.approx(1, abs=1e-6)


def test_without_uses_there_is_no_trace():
    for traces in (make_traces(), make_traces([])):
        assert not traces.recency.any() and not traces.importance.any()


def test_uses_that_nobody_rated_are_recent_and_neither_good_nor_bad():
    traces = make_traces([Use("a", 0), Use("b", 1)])
    assert traces.recency.any() and not traces.importance.any()


@pytest.mark.parametrize("success", [1.0, 0.0])
def test_one_rated_use_points_at_its_item_or_away_from_it(success):
    traces = make_traces([Use("a", 0, success)])
    np.testing.assert_allclose(traces.recency, VECTORS["a"], atol=1e-6)
    np.testing.assert_allclose(traces.importance, (2 * success - 1) * VECTORS["a"], atol=1e-6)


# At its edges.


@pytest.mark.parametrize(("good", "bad"), [(1.0, 0.0), (0.8, 0.2), (0.9, 0.1), (0.7, 0.3)])
def test_an_item_that_did_well_as_often_as_badly_leaves_no_trace(good, bad):
    """2 * 0.8 - 1 is not quite the contrary of 2 * 0.2 - 1: rounding must not be made a unit."""
    one = [Use("a", 5, good), Use("a", 5, bad)]
    for batches in ([one], [[use] for use in one], [one[::-1]], [one, one]):
        traces = make_traces(*batches)
        assert not traces.importance.any()
        np.testing.assert_allclose(traces.recency, VECTORS["a"], atol=1e-6)
    # Counter-check: a little better than that is a trace.
    assert make_traces([*one, Use("a", 5, 0.51)]).importance.any()


def test_uses_long_ago_count_as_before_where_nothing_came_after_them():
    """Scaled to unit length, the trace of ratings does not fade with uses that nobody rated."""
    rated = make_traces([Use("a", 0, 1.0), Use("b", 1, 1.0)], half_life=1.0)
    later = make_traces(
        [Use("a", 0, 1.0), Use("b", 1, 1.0)], [Use("c", 5000), Use("d", 5001)], half_life=1.0
    )
    np.testing.assert_array_equal(later.importance, rated.importance)
    np.testing.assert_allclose(
        later.recency, make_traces([Use("c", 0), Use("d", 1)], half_life=1.0).recency, atol=1e-6
    )


@pytest.mark.parametrize("start", [0.0, 1.7e9, -1.7e9, 1e15])
def test_only_how_uses_stand_to_one_another_counts(start):
    uses = [Use("a", 0, 1.0), Use("b", 30, 0.0), Use("c", 31, 0.9)]
    moved = [Use(use.item, use.time + start, use.success) for use in uses]
    for trace in ("recency", "importance"):
        np.testing.assert_array_equal(
            getattr(make_traces(moved), trace), getattr(make_traces(uses), trace)
        )


def test_a_use_centuries_apart_from_the_others_is_no_harm():
    uses = [Use("a", -1e12, 1.0), Use("b", 1.7e9, 1.0)]
    for batches in ([uses], [uses[:1], uses[1:]], [uses[1:], uses[:1]]):
        traces = make_traces(*batches, half_life=60.0)
        np.testing.assert_allclose(traces.importance, VECTORS["b"], atol=1e-6)


@pytest.mark.parametrize("half_life", [0, -1, float("nan")])
def test_a_half_life_that_cannot_be_is_refused(half_life):
    with pytest.raises(ConfigError, match="half-life must be above 0"):
        Traces(layout=LAYOUT, half_life=half_life)


def test_with_an_endless_half_life_all_uses_count_alike():
    uses = [Use("a", 0), Use("b", 1e9)]
    expected = unit_blocks(VECTORS["a"] + VECTORS["b"], layout=LAYOUT)
    found = make_traces(uses[:1], uses[1:], half_life=float("inf")).recency
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_kept_does_not_grow_with_the_log():
    uses = [Use(ITEMS[n % 6], time=n, success=n % 3 / 2) for n in range(2000)]
    small, large = make_traces(uses[:10]), make_traces(*([use] for use in uses))
    assert len(pickle.dumps(large)) == len(pickle.dumps(small))


# Credit.


@pytest.fixture
def planted(tmp_path):
    """Items of 3 topics x 3 styles, five of each, near the corner of their topic and style."""
    rng, layout = np.random.default_rng(0), BlockLayout.from_widths({"topic": 3, "style": 3})
    documents, vectors = [], []
    for topic, style, number in itertools.product(range(3), range(3), range(5)):
        documents.append(Record(id=f"{topic}{style}{number}", text="a text"))
        corner = np.concatenate([np.eye(3)[topic], np.eye(3)[style]])
        vectors.append(corner + 0.1 * rng.normal(size=6))
    engine = NumpyEngine(layout=layout, projection_digest="0" * 64)
    engine.upsert(documents, unit_blocks(np.array(vectors, np.float32), layout=layout))
    with UsageLog.open(tmp_path / "usage.db", clock="steps") as log:
        yield BlockIndex(engine, usage=log), log


def shares(index: BlockIndex, *, part: str, scope: str = "block") -> dict[str, dict[str, float]]:
    """What `part` adds to each item, by block."""
    weights = Weights.make(layout=index.layout, riv=(1, 1, 1), blocks={"topic": 1, "style": 1})
    hits = index.search(np.zeros(6, np.float32), weights=weights, scope=scope, k=99)
    return {hit.id: {block: hit.parts[block][part] for block in hit.parts} for hit in hits}


def test_credit_spreads_to_what_is_alike_in_that_block_and_in_that_block_only(planted):
    """Of topic 0 in every style some did well: all of topic 0 gain, in the topic block alone."""
    index, log = planted
    log.add([(f"0{style}0", 1.0) for style in range(3)])
    for part in ("recency", "importance"):
        found = shares(index, part=part)
        never_used = {name: value for name, value in found.items() if name[2] != "0"}
        alike = [value["topic"] for name, value in never_used.items() if name[0] == "0"]
        other = [value["topic"] for name, value in never_used.items() if name[0] != "0"]
        assert min(alike) > 0.8 and max(np.abs(other)) < 0.4
        styles = {
            style: [v["style"] for n, v in never_used.items() if n[1] == style] for style in "012"
        }
        means = [np.mean(values) for values in styles.values()]
        assert max(means) - min(means) < 0.2  # no style gains over another
        # Counter-check: item scope gives nothing to what was never used.
        own = shares(index, part=part, scope="item")
        assert {tuple(own[name].values()) for name in never_used} == {(0.5, 0.5)}


def test_what_did_badly_takes_credit_from_what_is_alike(planted):
    index, log = planted
    log.add([("000", 0.0), ("010", 0.0)])
    found = shares(index, part="importance")
    assert max(found[f"0{style}4"]["topic"] for style in range(3)) < -0.8
    assert min(found[f"1{style}4"]["topic"] for style in range(3)) > -0.4
    assert max(value["topic"] for value in shares(index, part="recency").values()) > 0.8
