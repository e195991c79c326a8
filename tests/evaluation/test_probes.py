"""The probes: against scikit-learn, at chance where there is nothing, and blind to test labels."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from worlds import COUNT, DIM, make_labels, plant

from subspace.data.labels import Column, Labels
from subspace.evaluation.probes import PROBES, linear_probe, neighbour_probe, network_probe
from subspace.evaluation.scores import chance_of, score_predictions
from subspace.evaluation.tasks import ProbeTask, make_tasks

FACTORS = ["topic", "style", "complexity"]
RIDGES = (1e-3, 1e-2, 1e-1)
every_probe = pytest.mark.parametrize("probe", PROBES.values(), ids=list(PROBES))
every_factor = pytest.mark.parametrize("factor", FACTORS)


def task_of(labels: Labels, factor: str, *, seeds: int = 1) -> ProbeTask:
    return make_tasks(labels, factor=factor, seeds=seeds)[0]


def above_chance(probe, x, task: ProbeTask) -> float:
    score = score_predictions(probe(x, task), truth=task.truth).mean()
    return float(score) - chance_of(task.truth)


@every_probe
@every_factor
def test_noise_is_about_at_chance_and_the_planted_factor_was_not(probe, factor):
    labels = make_labels()
    noise = np.random.default_rng(2).normal(size=(COUNT, DIM)).astype(np.float32)
    task = task_of(labels, factor)
    assert above_chance(probe, noise, task) < 0.12
    assert above_chance(probe, plant(labels), task) > 0.4


@every_probe
@every_factor
@pytest.mark.parametrize("value", [0.0, 0.3, 1e6])
def test_constant_vectors_are_at_chance(probe, factor, value):
    """No warning either: warnings are errors here."""
    labels = make_labels()
    x = np.full((COUNT, DIM), value, dtype=np.float32)
    assert abs(above_chance(probe, x, task_of(labels, factor))) < 0.1


@every_probe
def test_test_labels_are_for_scoring_alone(probe):
    """Swapping two classes on the test texts turns every right guess into a wrong one."""
    labels = make_labels()
    x, task = plant(labels), task_of(labels, "style")
    swapped = task.column.codes.copy()
    swapped[task.test] = 1 - swapped[task.test]
    other = replace(task, column=Column(swapped, class_count=2))
    assert (probe(x, task) == probe(x, other)).all()
    assert above_chance(probe, x, task) > 0.3


@every_probe
def test_a_probe_of_shuffled_training_labels_is_about_at_chance(probe):
    labels = make_labels()
    task = task_of(labels, "style")
    codes = task.column.codes.copy()
    known = np.concatenate([task.train, task.validation])
    codes[known] = np.random.default_rng(0).permutation(codes[known])
    shuffled = replace(task, column=Column(codes, class_count=2))
    assert abs(above_chance(probe, plant(labels), shuffled)) < 0.1


@every_probe
@every_factor
def test_the_same_seed_gives_the_same_predictions_and_seeds_differ(probe, factor):
    labels = make_labels()
    x, task = plant(labels, noise=1.0), task_of(labels, factor, seeds=2)
    first, again = probe(x, task), probe(x, task)
    assert first.shape == (2, len(task.test))
    assert (first == again).all()
    assert (first[0] != first[1]).any()


@every_factor
@pytest.mark.parametrize("noise", [0.3, 1.5])
def test_the_linear_probe_is_the_ridge_of_scikit_learn_that_validation_prefers(factor, noise):
    labels = make_labels(seed=3)
    x = plant(labels, noise=noise)
    column = labels.columns[factor]
    # Classes of unequal size and texts without label.
    dropped = (column.codes == 0) & (np.random.default_rng(4).random(COUNT) < 0.6)
    codes = np.where(dropped, -1, column.codes)
    column = Column(codes=codes, class_count=column.class_count, values=column.values)
    task = task_of(replace(labels, columns={factor: column}), factor)
    train = task.draws[0]
    features = (x - x[train].mean(axis=0)) / x[train].std(axis=0)

    def reach(model, positions: np.ndarray) -> float:
        predicted = model.predict(features[positions])
        if column.ordered:
            return spearmanr(column.values[positions], predicted).statistic
        return balanced_accuracy_score(codes[positions], predicted)

    models = []
    for ridge in RIDGES:
        strength = ridge * len(train)
        if column.ordered:
            model = Ridge(alpha=strength).fit(features[train], column.values[train])
        else:
            model = RidgeClassifier(alpha=strength, class_weight="balanced")
            model.fit(features[train], codes[train])
        models.append(model)
    best = max(models, key=lambda model: reach(model, task.validation))
    found = above_chance(linear_probe, x, task) + chance_of(task.truth)
    assert found == pytest.approx(reach(best, task.test), abs=0.01)


def test_the_scale_and_place_of_the_vectors_do_not_matter_to_the_linear_probe():
    labels = make_labels()
    x, task = plant(labels).astype(np.float64), task_of(labels, "topic")
    other = linear_probe(x * np.linspace(1e-3, 1e3, DIM) + 50, task)
    assert (other == linear_probe(x, task)).mean() > 0.999


def test_the_neighbours_are_those_of_scikit_learn():
    labels = make_labels()
    x = plant(labels)
    task = task_of(labels, "complexity")
    train = task.draws[0]
    model = KNeighborsRegressor(15, metric="cosine").fit(x[train], task.column.values[train])
    np.testing.assert_allclose(neighbour_probe(x, task)[0], model.predict(x[task.test]))
    task = task_of(labels, "style")  # two classes of about the same size: rarity hardly counts
    train = task.draws[0]
    model = KNeighborsClassifier(15, metric="cosine").fit(x[train], task.column.codes[train])
    assert (neighbour_probe(x, task)[0] == model.predict(x[task.test])).mean() > 0.98


def test_only_the_network_and_neighbours_read_what_is_not_linear():
    """Style is whether two dimensions have the same sign."""
    labels = make_labels()
    x = np.random.default_rng(0).normal(size=(COUNT, 2)).astype(np.float32)
    codes = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    columns = {"style": Column(codes=codes, class_count=2)}
    task = task_of(replace(labels, columns=columns), "style")
    assert above_chance(linear_probe, x, task) < 0.1
    assert above_chance(network_probe, x, task) > 0.4
    assert above_chance(neighbour_probe, x, task) > 0.4


@every_probe
def test_other_labels_can_be_given_for_every_seed(probe):
    labels = make_labels()
    x, task = plant(labels), task_of(labels, "style", seeds=2)
    flipped = Column(1 - task.column.codes, class_count=2)
    first, second = probe(x, task, columns=[task.column, flipped])
    truth = task.truth.codes
    assert (first == truth).mean() > 0.8
    assert (second == truth).mean() < 0.2
