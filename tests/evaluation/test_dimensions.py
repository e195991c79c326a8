"""Single dimensions: found where planted, and not where there is nothing to find."""

import numpy as np
import pytest
from worlds import make_labels

from subspace.data.labels import Column
from subspace.evaluation.dimensions import (
    association_p,
    correct,
    cross_validate,
    design_effect,
    measure_dimensions,
    mutual_information,
    predict_each,
)
from subspace.evaluation.probes import linear_probe
from subspace.evaluation.rank_agreement import (
    compare_rankings,
    measure_stability,
    rank_dimensions,
)
from subspace.evaluation.scores import chance_of, score_predictions
from subspace.evaluation.tasks import make_tasks

COUNT, DIM, PLACE = 900, 40, 3
ALONE = np.full(COUNT, -1)
LABELS = make_labels(count=COUNT)
every_factor = pytest.mark.parametrize("factor", ["topic", "style", "complexity"])


def noise(seed: int = 0, *, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def plant_one(column: Column, *, seed: int = 0) -> np.ndarray:
    x = noise(seed)
    labels = column.codes if column.values is None else 4 * column.values
    x[:, PLACE] = 0.4 * x[:, PLACE] + labels
    return x


def shuffle(column: Column) -> Column:
    return column.take(np.random.default_rng(7).permutation(COUNT))


@every_factor
def test_the_dimension_that_holds_a_factor_is_found_first_by_every_measure(factor):
    column = LABELS.columns[factor]
    x = plant_one(column)
    assert mutual_information(x, column, seed=0).argmax() == PLACE
    assert cross_validate(x, column, groups=ALONE).argmax() == PLACE
    assert association_p(x, column, groups=ALONE).argmin() == PLACE


@every_factor
def test_with_shuffled_labels_nothing_is_significant_once_corrected_and_before_it_was(factor):
    column = LABELS.columns[factor]
    x = plant_one(column)
    known = association_p(x, column, groups=ALONE)
    assert (np.flatnonzero(correct(known) < 0.05) == PLACE).all()
    assert correct(known)[PLACE] < 1e-9
    p = np.stack([association_p(noise(seed), shuffle(column), groups=ALONE) for seed in range(5)])
    assert (p < 0.05).any()  # 200 comparisons
    assert not (correct(p) < 0.05).any()


def test_the_correction_is_benjamini_and_yekutielis():
    p = np.random.default_rng(0).random((3, 7)) ** 4
    count = p.size
    penalty = sum(1 / rank for rank in range(1, count + 1))
    by_size = sorted(p.ravel())
    for value, adjusted in zip(p.ravel(), correct(p).ravel(), strict=True):
        bounds = [
            other * count * penalty / rank
            for rank, other in enumerate(by_size, start=1)
            if other >= value
        ]
        assert adjusted == pytest.approx(min(1, *bounds))


@every_factor
def test_all_dimensions_at_once_are_read_as_the_linear_probe_reads_each(factor):
    task = make_tasks(LABELS, factor=factor, seeds=1)[0]
    x = plant_one(LABELS.columns[factor])
    column = task.column.take(task.train)
    predicted = predict_each(x[task.train], column, unseen=x[task.test])
    scores = score_predictions(predicted, truth=task.truth)[:, 0]
    for dimension in range(DIM):
        alone = linear_probe(x[:, [dimension]], task)
        expected = score_predictions(alone, truth=task.truth)[0, 0]
        assert scores[dimension] == pytest.approx(expected, abs=1e-6)
        if column.values is None:
            assert len(np.unique(predicted[dimension])) <= 2


@every_factor
@pytest.mark.parametrize("scale", [4.0, -0.25])
def test_a_dimension_that_is_scaled_keeps_its_rank(factor, scale):
    column = LABELS.columns[factor]
    x = plant_one(column)
    scaled = x.copy()
    scaled[:, PLACE] *= scale
    scaled[:, 8] *= scale
    groups = ALONE
    for before, after in (
        (mutual_information(x, column, seed=0), mutual_information(scaled, column, seed=0)),
        (cross_validate(x, column, groups=groups), cross_validate(scaled, column, groups=groups)),
        (association_p(x, column, groups=ALONE), association_p(scaled, column, groups=ALONE)),
    ):
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_mutual_information_sees_what_no_line_can():
    """Both ends of a dimension are one class: the linear probe is blind to it."""
    x = noise()
    column = Column(codes=(np.abs(x[:, PLACE]) > 0.7).astype(np.int64), class_count=2)
    information = mutual_information(x, column, seed=0)
    assert information.argmax() == PLACE
    assert information[PLACE] > 0.3
    assert cross_validate(x, column, groups=ALONE)[PLACE] < chance_of(column) + 0.1
    line = Column(codes=(x[:, PLACE] > 0.7).astype(np.int64), class_count=2)
    assert cross_validate(x, line, groups=ALONE)[PLACE] > 0.85


@every_factor
def test_a_constant_dimension_says_nothing(factor):
    """No warning either: warnings are errors here."""
    column = LABELS.columns[factor]
    x = plant_one(column)
    x[:, PLACE] = 0.3
    assert association_p(x, column, groups=ALONE)[PLACE] == 1
    found = cross_validate(x, column, groups=ALONE)[PLACE]
    assert found == pytest.approx(chance_of(column), abs=0.08)


def test_copies_of_a_text_are_no_evidence():
    """Eight copies of everything make chance look like proof, unless they are known as copies."""
    groups = np.arange(COUNT) % 112
    column = LABELS.columns["style"].take(groups)
    x = noise()[groups]
    assert (correct(association_p(x, column, groups=ALONE)) < 0.05).any()
    assert not (correct(association_p(x, column, groups=groups)) < 0.05).any()


@every_factor
def test_the_design_effect_is_the_size_of_groups_of_one_label_and_1_where_labels_cancel(factor):
    column = LABELS.columns[factor]
    groups = np.arange(COUNT) % 100
    assert design_effect(column.take(groups), groups=groups) == pytest.approx(9)
    assert design_effect(column, groups=ALONE) == 1
    crossed = column.take(np.arange(COUNT) // 100)
    assert design_effect(crossed, groups=groups) == 1


def test_what_differs_within_groups_is_found_whatever_they_have_in_common():
    groups = np.repeat(np.arange(COUNT // 2), 2)
    column = Column(codes=np.arange(COUNT) % 2, class_count=2)
    x = 2 * noise()[groups] + 0.3 * noise(1)
    x[:, PLACE] += 2 * column.codes
    p = correct(association_p(x, column, groups=groups))
    assert (np.flatnonzero(p < 0.05) == PLACE).all()
    assert p[PLACE] < 1e-9


def test_two_rankings_share_everything_nothing_or_what_chance_gives():
    values = np.random.default_rng(0).random(400)
    same = compare_rankings(values, 3 * values)
    assert same.correlation == pytest.approx(1)
    assert same.shared == {8: 8, 64: 64}
    reversed_ = compare_rankings(values, -values)
    assert reversed_.correlation == pytest.approx(-1)
    assert reversed_.shared == {8: 0, 64: 0}
    others = [np.random.default_rng(seed).random(400) for seed in range(1, 60)]
    shared = [compare_rankings(values, other).shared[64] for other in others]
    assert np.mean(shared) == pytest.approx(64 * 64 / 400, rel=0.1)


def test_a_planted_ranking_is_stable_and_one_of_noise_is_not():
    column = LABELS.columns["complexity"]
    x = noise() + np.linspace(0, 4, DIM) * column.values[:, None]
    settings = {"groups": ALONE, "seed": 0}
    planted = measure_dimensions(x, column, **settings, rng=np.random.default_rng(0))
    assert planted.stability.halves.correlation > 0.9
    assert (planted.stability.among_first[8][-3:] > 0.9).all()
    assert planted.stability.among_first[8].sum() == pytest.approx(8)
    nothing = measure_dimensions(x, shuffle(column), **settings, rng=np.random.default_rng(0))
    assert abs(nothing.stability.halves.correlation) < 0.2
    assert (nothing.stability.among_first[8] < 0.9).all()


def test_halves_are_of_whole_groups():
    groups = np.repeat(np.arange(30), 4)
    groups[:20] = -1
    halves = []

    def watch(at: np.ndarray) -> np.ndarray:
        halves.append(at)
        return np.arange(DIM, dtype=np.float64)

    measure_stability(watch, groups=groups, splits=3, rng=np.random.default_rng(0))
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        assert sorted([*first, *second]) == list(range(len(groups)))
        assert not set(groups[first]) & set(groups[second]) - {-1}
    assert set(halves[0]) != set(halves[2])


def test_copies_of_a_text_are_not_read_from_each_other():
    """Noise that is in all copies cross-validates if copies are told apart, and only then."""
    groups = np.repeat(np.arange(20), 45)
    x = noise()[groups]
    column = Column(codes=LABELS.columns["style"].codes[groups], class_count=2)
    assert cross_validate(x, column, groups=groups).mean() < 0.52
    assert cross_validate(x, column, groups=ALONE).mean() > 0.55


def test_the_highest_value_ranks_first_and_equal_ones_keep_their_order():
    assert rank_dimensions(np.array([0.1, 0.3, 0.3, 0.2])).tolist() == [1, 2, 3, 0]
