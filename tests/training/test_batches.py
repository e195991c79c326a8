"""A batch is a pure function of (seed, number), holds one source and what its factor asks for."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.data.labels import Column, Labels
from subspace.errors import ConfigError
from subspace.training.batches import BatchPlan, make_batch
from subspace.training.step_loader import EveryBatch, PreparedBatches, StepSampler

STEPS = range(40)


def make_labels(
    *, groups: np.ndarray | None = None, numbers: dict | None = None, **codes: np.ndarray
) -> Labels:
    columns = {
        name: Column(codes=np.asarray(c, dtype=np.int64), class_count=int(max(c)) + 1)
        for name, c in codes.items()
    }
    for name, values in (numbers or {}).items():
        known = ~np.isnan(values)
        levels = np.where(known, np.digitize(values, [1.0, 2.0]), -1)
        columns[name] = Column(codes=levels, class_count=3, values=np.asarray(values, np.float64))
    count = len(next(iter(columns.values())).codes)
    return Labels(
        source="test",
        columns=columns,
        groups=np.full(count, -1) if groups is None else np.asarray(groups, dtype=np.int64),
        splits=np.zeros(count, dtype=np.int64),
    )


def make_plan(*sources: Labels, size: int = 32, seed: int = 0, factors=None) -> BatchPlan:
    labelled = dict.fromkeys(factor for source in sources for factor in source.columns)
    return BatchPlan(sources=sources, factors=factors or tuple(labelled), size=size, seed=seed)


@pytest.fixture
def parallel() -> Labels:
    """Fifty texts, each in four styles; topic belongs to the group."""
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 4))
    style = np.zeros(200, dtype=np.int64)
    for group in range(50):
        style[groups == group] = np.arange(4)
    return make_labels(groups=groups, style=style, topic=groups % 5)


@pytest.fixture
def plain() -> Labels:
    """Unequal classes, a third without label; numbers, a third without."""
    rng = np.random.default_rng(1)
    topic = rng.choice(5, size=600, p=[0.6, 0.2, 0.1, 0.05, 0.05])
    complexity = rng.random(600) * 3
    topic[rng.random(600) < 1 / 3] = -1
    complexity[rng.random(600) < 1 / 3] = np.nan
    return make_labels(topic=topic, numbers={"complexity": complexity})


def test_a_batch_depends_on_nothing_but_seed_and_number(parallel, plain):
    first, other = make_plan(parallel, plain), make_plan(parallel, plain)
    backwards = {step: other.draw(step) for step in reversed(STEPS)}
    for step in STEPS:
        source, positions = first.draw(step)
        assert source == backwards[step][0]
        np.testing.assert_array_equal(positions, backwards[step][1])


def test_another_step_or_another_seed_gives_another_batch(parallel, plain):
    draws = {
        (seed, step): tuple(make_plan(parallel, plain, seed=seed).draw(step)[1])
        for seed in (0, 1)
        for step in range(20)
    }
    assert len(set(draws.values())) == len(draws)


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(2, 70), step=st.integers(0, 10**9), seed=st.integers(0, 10**9), data=st.data()
)
def test_a_batch_has_texts_of_one_source_each_once_and_never_too_many(size, step, seed, data):
    counts = data.draw(st.lists(st.integers(2, 60), min_size=1, max_size=4))
    rng = np.random.default_rng(seed)
    sources = [
        make_labels(
            groups=rng.integers(-1, 9, count),
            style=np.r_[0, 1, rng.integers(-1, 3, count - 2)],
            numbers={"complexity": np.r_[0.5, 1.5, rng.random(count - 2)]},
        )
        for count in counts
    ]
    source, positions = make_plan(*sources, size=size, seed=seed).draw(step)
    assert 0 < len(positions) <= size
    assert len(set(positions)) == len(positions)
    assert positions.min() >= 0
    assert positions.max() < counts[source]


@pytest.mark.parametrize("size", [32, 33, 34, 35, 5])
def test_a_factor_that_changes_inside_groups_is_drawn_by_whole_groups(parallel, size):
    plan = make_plan(parallel, factors=("style",), size=size)
    for step in STEPS:
        positions = plan.draw(step)[1]
        assert set(Counter(parallel.groups[positions]).values()) == {4}
        assert size - 4 < len(positions) <= size


def test_a_factor_that_groups_hold_constant_is_not_drawn_by_groups(parallel):
    """Whole groups would only ask whether a text is like its own versions."""
    plan = make_plan(parallel, factors=("topic",))
    per_group = [max(Counter(parallel.groups[plan.draw(step)[1]]).values()) for step in STEPS]
    assert min(per_group) < 4
    for step in STEPS:
        classes = Counter(parallel.columns["topic"].codes[plan.draw(step)[1]])
        assert set(classes.values()) == {8}


def test_a_few_groups_that_cross_classes_do_not_hide_the_rest_of_the_source():
    """One pair of parallel texts among 300: every labelled text is still drawn."""
    style = np.random.default_rng(0).integers(0, 2, 300)
    style[:2] = 0, 1
    groups = np.full(300, -1)
    groups[:2] = 0
    plan = make_plan(make_labels(groups=groups, style=style))
    draws = [plan.draw(step)[1] for step in range(200)]
    assert len(set(np.concatenate(draws))) == 300


def test_a_group_without_a_second_class_is_not_drawn_for_the_pairs_it_does_not_hold():
    """Of 100 groups ten cross the classes: a batch that has room for them has them all."""
    groups = np.repeat(np.arange(100), 2)
    style = np.zeros(200, dtype=np.int64)
    style[1:20:2] = 1
    plan = make_plan(make_labels(groups=groups, style=style))
    for step in STEPS:
        assert (style[plan.draw(step)[1]] == 1).sum() >= 8


def test_classes_are_drawn_in_equal_numbers_however_unequal_they_are(plain):
    plan = make_plan(plain, factors=("topic",), size=40)
    for step in STEPS:
        counts = Counter(plain.columns["topic"].codes[plan.draw(step)[1]])
        assert set(counts.values()) == {8}
        assert len(counts) == 5
    # Counter-check: texts at random would not give that.
    known = plain.columns["topic"].labelled
    at_random = np.random.default_rng(0).permutation(known)[:40]
    assert max(Counter(plain.columns["topic"].codes[at_random]).values()) > 16


def test_of_many_classes_some_are_drawn_with_enough_texts_for_pairs():
    topic = np.repeat(np.arange(50), 20)
    plan = make_plan(make_labels(topic=topic), size=32)
    seen = set()
    for step in range(200):
        counts = Counter(topic[plan.draw(step)[1]])
        assert set(counts.values()) == {8}
        seen |= set(counts)
    assert seen == set(range(50))


def test_classes_of_one_text_do_not_crowd_out_classes_that_have_pairs():
    """A batch of single texts has no positive pair and nothing to learn from."""
    topic = np.r_[np.repeat(np.arange(10), 10), np.arange(10, 210)]
    plan = make_plan(make_labels(topic=topic))
    for step in STEPS:
        assert max(Counter(topic[plan.draw(step)[1]]).values()) > 1


@pytest.mark.parametrize("factor", ["topic", "complexity"])
def test_a_text_without_label_is_never_drawn_for_that_factor(plain, factor):
    plan = make_plan(plain, factors=(factor,))
    drawn = np.concatenate([plan.draw(step)[1] for step in range(300)])
    assert set(drawn) == set(plain.columns[factor].labelled)  # and every other text is
    assert len(plain.columns[factor].labelled) < len(plain)


def test_texts_with_numbers_are_drawn_at_random_up_to_the_full_size(plain):
    plan = make_plan(plain, factors=("complexity",))
    draws = [plan.draw(step)[1] for step in range(300)]
    assert {len(positions) for positions in draws} == {32}
    drawn = plain.columns["complexity"].values[np.concatenate(draws)]
    everything = plain.columns["complexity"].values
    assert drawn.mean() == pytest.approx(np.nanmean(everything), abs=0.1)


def test_every_factor_is_drawn_about_equally_often_however_many_sources_label_it():
    topic = [make_labels(topic=np.arange(20) % 2) for _ in range(9)]
    style = make_labels(style=np.arange(20) % 2)
    plan = make_plan(style, *topic, size=4)
    counts = Counter(plan.draw(step)[0] for step in range(2000))
    assert counts[0] == pytest.approx(1000, abs=120)
    assert all(counts[source] == pytest.approx(1000 / 9, abs=60) for source in range(1, 10))


def test_a_source_that_does_not_label_a_factor_is_not_drawn_for_it(parallel, plain):
    unlabelled = make_labels(complexity=np.array([-1, -1, 0]), topic=np.arange(3))
    plan = make_plan(parallel, plain, unlabelled, factors=("complexity",))
    assert {plan.draw(step)[0] for step in STEPS} == {1}


def test_make_batch_gathers_the_rows_and_types_of_its_texts(plain, tmp_path):
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(1000, 3)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", stored)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    rows = rng.permutation(1000)[: len(plain)]
    positions = np.array([5, 500, 17, 3])
    batch = make_batch(mapped, source=2, labels=plain.take(positions), rows=rows[positions])

    assert batch.source == 2
    assert torch.equal(batch.x, torch.from_numpy(stored[rows[positions]]))
    assert batch.x.dtype == torch.float32
    assert batch.groups.tolist() == [-1] * 4
    assert batch.codes["topic"].tolist() == plain.columns["topic"].codes[positions].tolist()
    assert batch.codes["topic"].dtype == torch.int64
    assert set(batch.codes) == {"topic", "complexity"}
    assert set(batch.values) == {"complexity"}  # numbers only
    np.testing.assert_array_equal(
        batch.values["complexity"].numpy(),
        plain.columns["complexity"].values[positions].astype(np.float32),
    )


def test_changing_a_batch_does_not_change_what_is_stored(plain):
    stored = np.ones((len(plain), 2), dtype=np.float32)
    positions = np.arange(4)
    batch = make_batch(stored, source=0, labels=plain.take(positions), rows=positions)
    batch.x.zero_()
    batch.codes["topic"].fill_(99)
    assert (stored == 1).all()
    assert plain.columns["topic"].codes.max() < 99


def numbers(*, step: int, per_epoch: int = 12, world: int = 1, rank: int = 0, accumulated: int = 1):
    """The batches of what is left of an epoch after a step."""
    trainer = SimpleNamespace(
        global_step=step, world_size=world, global_rank=rank, accumulate_grad_batches=accumulated
    )
    return list(StepSampler(trainer, per_epoch))


def test_an_epoch_goes_on_where_the_trainer_stands():
    assert numbers(step=0) == list(range(12))
    assert numbers(step=5) == list(range(5, 12))
    assert numbers(step=12) == list(range(12, 24))
    assert numbers(step=4, accumulated=2) == list(range(8, 12))


@pytest.mark.parametrize("accumulated", [1, 3])
def test_processes_share_the_batches_that_one_would_accumulate(accumulated):
    alone = numbers(step=0, per_epoch=24, accumulated=2 * accumulated)
    shared = [numbers(step=0, world=2, rank=rank, accumulated=accumulated) for rank in (0, 1)]
    for step in range(12 // accumulated):
        part = slice(step * accumulated, (step + 1) * accumulated)
        both = {*shared[0][part], *shared[1][part]}
        assert both == set(alone[2 * part.start : 2 * part.stop])
    # The same where a run is resumed in mid-epoch.
    later = numbers(step=12 // accumulated - 1, world=2, rank=1, accumulated=accumulated)
    assert later == shared[1][-accumulated:]


def test_every_process_judges_all_batches():
    assert list(EveryBatch(PreparedBatches([None] * 5))) == list(range(5))


def test_an_epoch_that_accumulation_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="must be a multiple of"):
        numbers(step=0, per_epoch=3, accumulated=2)
