"""Steering moves hits where there is something to move them by, and says what that costs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.blocks import unit
from subspace.data.labels import Column, control_labels
from subspace.evaluation.steering import (
    HITS,
    STRENGTHS,
    Curve,
    SteeringTask,
)
from subspace.evaluation.steering_baselines import classified_inside
from subspace.evaluation.steering_replicates import Resampling
from subspace.evaluation.taste import measure_taste

COUNT, DIM = 600, 12


def world(*, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Raw vectors, labels that have nothing to do with them, classes, and no groups."""
    rng = np.random.default_rng(seed)
    raw = unit(rng.normal(size=(COUNT, DIM))).astype(np.float32)
    return raw, rng.normal(size=COUNT), rng.integers(0, 3, COUNT), np.full(COUNT, -1)


def make_task(raw, groups, **options) -> SteeringTask:
    return SteeringTask.draw(raw, groups=groups, among=np.arange(COUNT), count=60, **options)


def test_a_query_never_finds_itself_or_a_text_of_its_group():
    raw, _, _, _ = world()
    groups = np.arange(COUNT) // 3
    task = make_task(raw, groups)
    rows = np.arange(len(task.queries))
    assert not task.candidates[rows, task.queries].any()
    for row, query in enumerate(task.queries):
        assert not task.candidates[row, groups == groups[query]].any()
    assert task.candidates.sum() == len(rows) * (COUNT - 3)


def test_the_sweep_equals_the_loop_of_its_definition():
    raw, labels, _, groups = world()
    task = make_task(raw, groups)
    rel, steer = task.standardize(task.raw), task.standardize(labels[None])
    curve = task.sweep(rel, steer, wanted=labels[None])
    for place in (0, 5, len(STRENGTHS) - 1):
        c = STRENGTHS[place]
        for row in range(0, len(task.queries), 7):
            known = np.flatnonzero(task.candidates[row])
            scores = (1 - c) * rel[row, known] + c * steer[row, known]
            hits = known[np.argsort(-scores)[:HITS]]
            kept = task.raw[row, hits].mean() - task.raw[row, known].mean()
            assert curve.relevance[place, row] == pytest.approx(kept, abs=1e-5)
            moved = labels[hits].mean()
            assert curve.gain[place, row] + labels[
                known[np.argsort(-rel[row, known])[:HITS]]
            ].mean() == pytest.approx(moved, abs=1e-5)


def test_off_target_is_what_another_label_moves_by_in_the_direction_asked_for():
    raw, labels, _, groups = world()
    task = make_task(raw, groups)
    rel = task.standardize(task.raw)
    some = np.where(np.arange(COUNT) % 3 > 0, 0.5 * labels, np.nan)
    others = {
        "same": labels,
        "half": some,
        "against": -labels,
        "nothing": np.random.default_rng(1).normal(size=COUNT),
        "unknown": np.full(COUNT, np.nan),
    }
    curve = task.toward(rel, labels, labels=labels, others=others)
    moved = curve.off_target_at(0.9)
    assert moved["same"] == pytest.approx(curve.at(0.9))
    assert moved["against"] == pytest.approx(-curve.at(0.9))
    assert moved["half"] == pytest.approx(curve.at(0.9) / 2, rel=0.2)
    assert abs(moved["nothing"]) < 0.1
    assert moved["unknown"] == 0


def test_the_labels_themselves_move_the_hits_and_noise_does_not():
    raw, labels, _, groups = world()
    task = make_task(raw, groups)
    rel = task.standardize(task.raw)
    perfect = task.toward(rel, labels, labels=labels).at(0.9)
    noise = task.toward(rel, np.random.default_rng(1).normal(size=COUNT), labels=labels).at(0.9)
    assert perfect > 0.5
    assert abs(noise) < 0.1
    assert task.toward(rel, -labels, labels=labels).at(0.9) == pytest.approx(-perfect, abs=0.05)


def test_nearness_in_a_space_of_the_classes_gathers_the_querys_class():
    raw, _, codes, groups = world()
    task = make_task(raw, groups)
    rel = task.standardize(task.raw)
    own = np.eye(3, dtype=np.float32)[codes]
    gained = task.alike(rel, own[task.queries] @ own.T, codes=codes)
    assert gained.at(0.9) > 0.3
    assert gained.gained[-1] == pytest.approx(1.0, abs=0.05)  # all hits, over one minus chance
    random = task.alike(rel, raw[task.queries] @ raw.T, codes=codes)
    assert abs(random.at(0.9)) < 0.05


def test_nothing_is_added_at_strength_zero_and_relevance_falls():
    raw, labels, _, groups = world()
    task = make_task(raw, groups)
    curve = task.toward(task.standardize(task.raw), labels, labels=labels)
    assert curve.kept[0] == 1
    assert curve.gained[0] == 0
    assert curve.kept[-1] < 0.5
    low, high = curve.interval(0.9)
    assert low < curve.at(0.9) < high


@given(st.lists(st.floats(0.1, 1.0), min_size=2, max_size=6), st.integers(0, 10))
@settings(deadline=None)
def test_what_is_gained_lies_between_its_neighbours(kept, seed):
    relevance = np.sort(np.array([1.0, *kept]))[::-1][:, None]
    gain = np.sort(np.random.default_rng(seed).random(len(relevance)))[:, None]
    found = Curve(relevance=relevance, gain=gain).at(0.5)
    assert gain.min() - 1e-9 <= found <= gain.max() + 1e-9


def test_labels_keep_nothing_of_what_is_controlled():
    rng = np.random.default_rng(0)
    length = rng.normal(size=300)
    rest = rng.normal(size=300)
    found = control_labels(2 * length + rest, [length])
    assert abs(np.corrcoef(found, length)[0, 1]) < 1e-9
    assert np.corrcoef(found, rest)[0, 1] > 0.99
    assert found.std() == pytest.approx(1)
    np.testing.assert_allclose(control_labels(3 * length, [length]), 0, atol=1e-9)


def test_a_half_in_which_one_class_is_left_tells_nothing_apart():
    raw, _, _, _ = world()
    codes = np.zeros(COUNT, dtype=np.int64)
    codes[:3] = 1  # in one half at most one text: a class of which there is no covariance
    found = classified_inside(raw, Column(codes=codes, class_count=2), np.arange(COUNT))
    assert np.isfinite(found).all()
    none = np.zeros(COUNT, dtype=np.int64)
    alone = classified_inside(raw, Column(codes=none, class_count=1), np.arange(COUNT))
    assert not alone.any()


# Intervals.


def small_world(*, seed: int, correlation: float) -> tuple[SteeringTask, np.ndarray, np.ndarray]:
    """A task of 200 texts, a score that comes from their vectors, and labels that follow it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, DIM))
    labels = correlation * x[:, 0] + np.sqrt(1 - correlation**2) * rng.normal(size=200)
    task = SteeringTask.draw(
        unit(x).astype(np.float32),
        groups=np.full(200, -1),
        among=np.arange(200),
        count=60,
        resamples=200,
    )
    return task, x[:, 0], (labels - labels.mean()) / labels.std()


def toward_of(task: SteeringTask, score, labels) -> Curve:
    return task.toward(task.standardize(task.raw), score, labels=labels)


def test_intervals_on_noise_hold_0_and_those_over_queries_alone_do_not():
    """All queries bring up the same few texts, whose labels are a small sample."""
    outside = alone = 0
    for seed in range(20):
        task, score, labels = small_world(seed=seed, correlation=0)
        low, high = toward_of(task, score, labels).interval(0.9)
        outside += not low <= 0 <= high
        fixed = replace(task.resampling, texts=np.ones_like(task.resampling.texts))
        low, high = toward_of(replace(task, resampling=fixed), score, labels).interval(0.9)
        alone += not low <= 0 <= high
    assert outside <= 3  # 1 is expected
    assert alone >= 8


def test_intervals_of_what_is_there_hold_the_mean_of_all_worlds_and_not_0():
    curves = [toward_of(*small_world(seed=seed, correlation=0.7)) for seed in range(20)]
    truth = np.mean([curve.at(0.9) for curve in curves])
    bounds = [curve.interval(0.9) for curve in curves]
    assert sum(low <= truth <= high for low, high in bounds) >= 17
    assert all(low > 0 for low, _ in bounds)


def test_a_replicate_is_the_search_of_the_texts_that_were_drawn():
    """The slow loop: a corpus in which a text is as often as it was drawn."""
    task, score, labels = small_world(seed=0, correlation=0.5)
    rel, steer = task.standardize(task.raw), task.standardize(score[None])
    found = task.sweep(rel, steer, wanted=labels[None]).replicates
    drawn = task.resampling
    for place in (0, 2):
        c = np.float32(STRENGTHS[place])
        for r in range(0, 200, 67):
            relevance = gain = 0.0
            for row in range(len(task.queries)):
                times = np.where(task.candidates[row], drawn.texts[:, r], 0).astype(int)
                corpus = np.repeat(np.arange(200), times)
                scores = (1 - c) * rel[row] + c * steer[row]
                hits = corpus[np.argsort(-scores[corpus], kind="stable")][:HITS]
                weight = drawn.queries[row, r]
                relevance += weight * (task.raw[row, hits].mean() - task.raw[row, corpus].mean())
                gain += weight * labels[hits].mean()
            assert found.relevance[place, r] == pytest.approx(relevance, abs=1e-4)
            assert found.gain[place, r] == pytest.approx(gain, abs=1e-4)


def test_versions_of_one_content_are_drawn_together_and_a_copy_counts_twice():
    groups = np.repeat(np.arange(30), 2)
    options = {"groups": groups, "queries": np.arange(8), "among": np.arange(50), "count": 40}
    once, twice = Resampling.draw(**options), Resampling.draw(**options, copies=2)
    for drawn in (once, twice):
        np.testing.assert_array_equal(drawn.texts[:50:2], drawn.texts[1:50:2])
        np.testing.assert_array_equal(drawn.texts[50:], 0)  # they cannot be hits
        np.testing.assert_allclose(drawn.queries.sum(axis=0), 1, rtol=1e-6)
    assert (once.texts % 2 == 1).any()
    assert (twice.texts % 2 == 0).all()


def test_without_replicates_there_is_no_interval():
    raw, labels, _, groups = world()
    curve = toward_of(make_task(raw, groups, resamples=0), labels, labels)
    assert np.isnan(curve.interval(0.9)).all()


# Taste.


def pairs(count: int = 120, *, gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of two versions that differ by `gap` along one direction."""
    rng = np.random.default_rng(0)
    content = np.repeat(rng.normal(size=(count, DIM)), 2, axis=0)
    codes = np.tile([0, 1], count)
    content[:, 0] += gap * codes
    z = unit(content + 0.3 * rng.normal(size=content.shape)).astype(np.float32)
    return z, codes, np.repeat(np.arange(count), 2)


def test_a_few_ratings_tell_what_is_liked_where_the_block_shows_it():
    z, codes, groups = pairs(gap=2.0)
    found = measure_taste(z, codes=codes, groups=groups)
    assert found[20] > found[5] - 0.05
    assert found[5] > 0.8


def test_ratings_tell_nothing_where_the_block_does_not_show_it():
    z, codes, groups = pairs(gap=0.0)
    assert measure_taste(z, codes=codes, groups=groups)[5] == pytest.approx(0.5, abs=0.06)


def test_without_pairs_there_is_no_taste():
    z, codes, _ = pairs(gap=2.0)
    assert measure_taste(z, codes=codes, groups=np.full(len(codes), -1)) == {}
    assert measure_taste(z, codes=np.zeros_like(codes), groups=np.repeat(np.arange(120), 2)) == {}
