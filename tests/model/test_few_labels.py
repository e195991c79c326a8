"""A few labels move a direction as far as they can be trusted; checked against slow references."""

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.stats import multivariate_normal

from subspace.model import few_labels
from subspace.model.few_labels import fit_classes, fit_numbers, softmax, stack, stack_classes

WIDTH = 12


def planted(count: int, *, seed: int = 0, noise: float = 0.5):
    """Features, labels along the first dimension, and that direction with scores of deviation 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, WIDTH)) / np.sqrt(WIDTH)
    labels = x[:, 0] * np.sqrt(WIDTH) + noise * rng.normal(size=count)
    return x, labels, np.sqrt(WIDTH) * np.eye(WIDTH)[0]


def agreement(weight, direction) -> float:
    return float(weight @ direction / np.linalg.norm(weight) / np.linalg.norm(direction))


def slow_numbers(x, labels, reference):
    """The same average over the grid, each setting by dense Gaussians without the mean."""
    rows, y = x - x.mean(axis=0), (labels - labels.mean()) / labels.std()
    left = y - few_labels._REFERENCE_SHARE * (rows @ reference)
    basis = null_space(np.ones((1, len(y)))).T  # what is left of the labels when their mean is off
    logs, weights = [], []
    for signal in few_labels._SIGNAL:
        for noise in few_labels._NOISE:
            cov = signal * rows @ rows.T + noise * np.eye(len(y))
            logs.append(multivariate_normal(cov=basis @ cov @ basis.T).logpdf(basis @ left))
            weights.append(signal * rows.T @ np.linalg.solve(cov, left))
    shares = np.exp(np.array(logs) - max(logs))
    return shares @ np.array(weights) / shares.sum() + few_labels._REFERENCE_SHARE * reference


@pytest.mark.parametrize("count", [8, 40])  # fewer and more labels than dimensions
def test_the_average_is_that_of_dense_gaussians(count):
    x, labels, direction = planted(count)
    reference = np.roll(direction, 1)
    found = fit_numbers(x, labels, reference=reference, scale=np.eye(WIDTH) / WIDTH)
    slow = slow_numbers(x, labels, reference)
    slow = slow / np.sqrt(slow @ slow / WIDTH)
    np.testing.assert_allclose(
        found.weight, found.trust * slow + (1 - found.trust) * reference, rtol=1e-6, atol=1e-9
    )


def test_without_labels_the_reference_is_what_it_was():
    x, _, reference = planted(5)
    found = fit_numbers(x[:0], np.zeros(0), reference=reference)
    assert found.weight is reference
    assert found.trust == 0


def test_more_labels_tell_more():
    _, _, direction = planted(1)
    wrong = np.roll(direction, 1)  # what was believed before
    found = [fit_numbers(*planted(n)[:2], reference=wrong) for n in (10, 40, 400)]
    agreements = [agreement(one.weight, direction) for one in found]
    assert agreements == sorted(agreements)
    assert agreements[-1] > 0.95
    assert found[-1].trust == 1


@pytest.mark.parametrize("count", [20, 50, 200])
def test_shuffled_labels_leave_the_reference_nearly_alone(count):
    agreements = []
    for seed in range(20):
        x, labels, reference = planted(count, seed=seed)
        mixed = np.random.default_rng(seed).permutation(labels)
        agreements.append(agreement(fit_numbers(x, mixed, reference=reference).weight, reference))
    assert np.mean(agreements) > 0.95


def test_comparisons_tell_the_direction_as_well():
    x, labels, direction = planted(400, noise=0.1)
    one, two = x[:200], x[200:]
    swap = labels[:200] < labels[200:]
    pairs = np.where(swap[:, None], two - one, one - two)
    found = fit_numbers(x[:0], np.zeros(0), pairs=pairs)
    assert agreement(found.weight, direction) > 0.9
    assert found.trust == 1
    mixed = np.random.default_rng(0).choice([-1, 1], 200)[:, None] * pairs
    assert fit_numbers(x[:0], np.zeros(0), pairs=mixed).trust < 0.5


def test_scores_of_classes_are_a_ridge_regression_on_indicators():
    rng = np.random.default_rng(1)
    codes = np.arange(60) % 3
    x = rng.normal(size=(60, WIDTH)) / np.sqrt(WIDTH)
    x[np.arange(60), codes] += 1
    found = fit_classes(x, codes)
    targets = np.eye(3)[codes] - 1 / 3
    rows = x - x.mean(axis=0)
    logs, weights = [], []
    basis = null_space(np.ones((1, 60))).T
    for ratio in few_labels._RATIOS:
        cov = ratio * rows @ rows.T + np.eye(60)
        total, inner = np.trace(targets.T @ np.linalg.solve(cov, targets)), basis @ cov @ basis.T
        logs.append(-59 * np.log(total / 118) - np.linalg.slogdet(inner)[1])
        weights.append(ratio * (rows.T @ np.linalg.solve(cov, targets)).T)
    shares = np.exp(np.array(logs) - max(logs))
    slow = np.tensordot(shares / shares.sum(), np.array(weights), 1)
    np.testing.assert_allclose(found.weight, slow - slow.mean(axis=0), atol=1e-9)
    assert found.trust == 1
    chances = softmax(found.sharpness * rows @ found.weight.T)
    assert (chances.argmax(axis=1) == codes).mean() > 0.9
    assert np.mean([fit_classes(x, rng.permutation(codes)).trust for _ in range(20)]) < 0.1


def test_labels_left_out_are_predicted_without_them(monkeypatch):
    """The closed form of leaving one out, against doing it."""
    monkeypatch.setattr(few_labels, "_SIGNAL", (0.4,))
    monkeypatch.setattr(few_labels, "_NOISE", (0.3,))
    x, labels, _ = planted(30)
    seen = {}
    monkeypatch.setattr(
        few_labels, "_correlation", lambda predicted, _: seen.update(predicted=predicted) or 1.0
    )
    fit_numbers(x, labels)
    y = (labels - labels.mean()) / labels.std()
    for out in range(30):
        kept = np.arange(30) != out
        rows = x[kept] - x[kept].mean(axis=0)
        cov = 0.4 * rows @ rows.T + 0.3 * np.eye(29)
        weight = 0.4 * rows.T @ np.linalg.solve(cov, y[kept] - y[kept].mean())
        slow = y[kept].mean() + (x[out] - x[kept].mean(axis=0)) @ weight
        assert seen["predicted"][out] == pytest.approx(slow, rel=1e-6)


def test_groups_are_left_out_as_wholes(monkeypatch):
    monkeypatch.setattr(few_labels, "_SIGNAL", (0.4,))
    monkeypatch.setattr(few_labels, "_NOISE", (0.3,))
    x, labels, _ = planted(30)
    groups = np.array([*np.repeat(np.arange(10), 2), *[-1] * 10])
    seen = {}
    monkeypatch.setattr(
        few_labels, "_correlation", lambda predicted, _: seen.update(predicted=predicted) or 1.0
    )
    fit_numbers(x, labels, groups=groups)
    y = (labels - labels.mean()) / labels.std()
    for row, group in enumerate(groups):
        kept = groups != group if group >= 0 else np.arange(30) != row
        rows = x[kept] - x[kept].mean(axis=0)
        cov = 0.4 * rows @ rows.T + 0.3 * np.eye(len(rows))
        weight = 0.4 * rows.T @ np.linalg.solve(cov, y[kept] - y[kept].mean())
        slow = y[kept].mean() + (x[row] - x[kept].mean(axis=0)) @ weight
        assert seen["predicted"][row] == pytest.approx(slow, rel=1e-6)


def test_two_versions_of_one_content_do_not_hide_a_pattern():
    """Versions are alike but for the label, so one predicts the opposite for the other."""
    rng = np.random.default_rng(0)
    content = np.repeat(rng.normal(size=(40, WIDTH)), 2, axis=0) / np.sqrt(WIDTH)
    labels = np.tile([1.0, -1.0], 40)
    x = content + 0.15 * labels[:, None] * np.eye(WIDTH)[0]
    groups = np.repeat(np.arange(40), 2)
    whole = fit_numbers(x, labels, groups=groups).trust
    assert whole > fit_numbers(x, labels).trust + 0.2
    codes = (labels > 0).astype(np.int64)
    assert fit_classes(x, codes, groups=groups).trust > fit_classes(x, codes).trust


def test_comparisons_are_left_out_with_all_that_share_a_text():
    """Any order of texts agrees with itself: only other texts tell whether it has a pattern."""
    rng = np.random.default_rng(0)
    trusts = {"planted": [], "random": []}
    for seed in range(10):
        x, labels, _ = planted(30, seed=seed, noise=0.1)
        for name, order in (("planted", labels), ("random", rng.permutation(labels))):
            ends = np.array([rng.choice(30, 2, replace=False) for _ in range(60)])
            ends = np.where((order[ends[:, 0]] > order[ends[:, 1]])[:, None], ends, ends[:, ::-1])
            pairs = x[ends[:, 0]] - x[ends[:, 1]]
            trusts[name].append(fit_numbers(x[:0], np.zeros(0), pairs=pairs, texts=ends).trust)
    assert np.mean(trusts["planted"]) > 0.9
    assert np.mean(trusts["random"]) < 0.4


@pytest.mark.parametrize("count", [5, 10, 20, 50])
@pytest.mark.parametrize("form", ["one pair again and again", "one text against all others"])
def test_comparisons_that_all_share_a_text_are_not_trusted(count, form):
    """Without those that share a text nothing is left to predict them from."""
    again = form == "one pair again and again"
    ends = np.array([(0, 1 if again else n + 1) for n in range(count)])
    rng = np.random.default_rng(count)
    for _ in range(5):
        z = rng.normal(size=(count + 1, 64)) / 8
        pairs = z[ends[:, 0]] - z[ends[:, 1]]
        assert fit_numbers(z[:0], np.zeros(0), pairs=pairs, texts=ends).trust == 0


def test_pairs_left_out_are_predicted_without_them(monkeypatch):
    """With labels beside them, whose mean alone is fitted."""
    monkeypatch.setattr(few_labels, "_SIGNAL", (0.4,))
    monkeypatch.setattr(few_labels, "_NOISE", (0.3,))
    x, labels, _ = planted(40)
    ends = np.array([(20, 21), (21, 22), (23, 24), (25, 26), (27, 28)])
    seen = {}
    kept = few_labels._left_out
    monkeypatch.setattr(
        few_labels, "_left_out", lambda *a, **k: seen.update(found=kept(*a, **k)) or seen["found"]
    )
    pairs = x[ends[:, 0]] - x[ends[:, 1]]
    fit_numbers(x[:20], labels[:20], pairs=pairs, texts=ends)
    y = (labels[:20] - labels[:20].mean()) / labels[:20].std()
    rows = x[:20] - x[:20].mean(axis=0)
    for row in range(5):
        apart = [one for one in range(5) if not set(ends[one]) & set(ends[row])]
        both = np.concatenate([rows, pairs[apart]])
        target = np.concatenate([y, np.full(len(apart), 2 / np.sqrt(np.pi))])
        weight = (
            0.4 * both.T @ np.linalg.solve(0.4 * both @ both.T + 0.3 * np.eye(len(both)), target)
        )
        assert seen["found"][20 + row, 0] == pytest.approx(pairs[row] @ weight, rel=1e-6)


def test_two_predictions_are_weighed_by_the_labels():
    rng = np.random.default_rng(0)
    labels, noise = rng.normal(size=(2, 400))
    good, other = labels + rng.normal(size=(2, 400))
    assert stack(noise, good, labels=labels) == (1.0, 1.0)
    assert stack(good, noise, labels=labels) == (0.0, 1.0)
    share, trust = stack(good, other, labels=labels)  # two that err apart are better together
    assert (share, trust) == (0.5, 1.0)
    assert stack(noise, rng.normal(size=400), labels=labels)[1] < 0.5
    assert stack(np.zeros(400), np.zeros(400), labels=labels)[1] == 0


@pytest.mark.parametrize(("rows", "dimensions"), [(30, 4), (5, 9), (6, 6), (40, 1)])
def test_rows_are_left_out_as_dense_least_squares_leaves_them_out(rows, dimensions):
    """Also where the others determine nothing of a direction, of which nothing is predicted."""
    rng = np.random.default_rng(rows)
    basis = np.linalg.qr(rng.normal(size=(max(rows, dimensions), dimensions)))[0][:rows]
    roots = basis * np.sqrt(np.linspace(0, 1, dimensions))
    errors, residuals = rng.normal(size=(2, rows, 2))
    without = np.eye(rows) - roots @ roots.T
    told = np.linalg.lstsq(without, without @ residuals - errors, rcond=0.01)[0]
    found = few_labels._without(roots, errors, residuals)
    np.testing.assert_allclose(found, residuals - told, atol=1e-9)


def test_many_searches_that_found_the_same_few_items_are_learned_from_at_once():
    """An agent with six skills rates these alone: 500 systems of 500 rows would take minutes."""
    rng = np.random.default_rng(0)
    x, labels, _ = planted(6, noise=0.0)
    ends = np.array([rng.choice(6, 2, replace=False) for _ in range(500)])
    ends = np.where((labels[ends[:, 0]] > labels[ends[:, 1]])[:, None], ends, ends[:, ::-1])
    assert len(few_labels._distinct(few_labels._sharing(ends, count=500))) <= 15  # pairs of 6
    began = time.process_time()
    fit_numbers(x[:0], np.zeros(0), pairs=x[ends[:, 0]] - x[ends[:, 1]], texts=ends)
    assert time.process_time() - began < 10


def test_classes_of_two_fits_are_added_by_sharpness_and_trust():
    rng = np.random.default_rng(4)
    codes = np.digitize(rng.normal(size=300), [-0.5, 1.3])  # unlike many of each
    own = np.eye(3)[codes]
    x = np.hstack([own + 0.7 * rng.normal(size=own.shape) for _ in range(2)])
    first, second = (fit_classes(part, codes) for part in np.hsplit(x, 2))
    both = stack_classes(first, second, codes)
    sizes = [one.trust * one.sharpness for one in (first, second)]
    assert both.factors == pytest.approx([size / sum(sizes) for size in sizes])
    assert 0.3 < both.share < 0.7
    assert both.trust == 1.0
    # A fit that is not trusted takes no part; a second one that repeats the first adds nothing.
    nothing = fit_classes(rng.normal(size=(300, 3)), codes)
    assert nothing.trust < 0.2
    alone = stack_classes(replace(nothing, trust=0.0), second, codes)
    assert (alone.factors, alone.share) == ((0.0, 1.0), 1.0)
    assert (alone.trust, alone.sharpness) == (second.trust, second.sharpness)
    assert stack_classes(first, replace(nothing, trust=0.0), codes) is None
