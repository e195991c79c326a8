"""Probes that predict a factor from vectors: linear, nearest neighbours, and a small network.

Every probe is trained on the training texts of each seed and predicts the test texts: class codes
or numbers (S, N_test). Settings are chosen on the validation texts.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from subspace.arrays import AnyFloats, Floats
from subspace.blocks import unit
from subspace.data.labels import Column
from subspace.evaluation.scores import score_predictions
from subspace.evaluation.tasks import ProbeTask

Probe = Callable[..., npt.NDArray[np.generic]]

# Ridge strengths tried, relative to the number of texts (features have unit variance).
_RELATIVE_RIDGES = (1e-3, 1e-2, 1e-1)
# Number of neighbours that vote.
_NEIGHBOURS = 15
# The small network: units of the hidden layer, steps, texts per step, learning rate.
_HIDDEN, _STEPS, _BATCH, _LEARNING_RATE = 32, 200, 256, 0.01


def linear_probe(
    x: AnyFloats, task: ProbeTask, *, columns: Sequence[Column] | None = None
) -> npt.NDArray[np.generic]:
    """Predicts by ridge regression on standardised features.

    Numbers are regressed directly, categories on class indicators with balanced class weights. The
    ridge strength is chosen on the validation texts.

    Args:
        x: One vector per text of the source (N, D).
        task: The labels to predict, and the texts.
        columns: Other labels for each seed (control labels); None for the labels of the task.
    """
    predictions = []
    for seed, train in enumerate(task.draws):
        column = columns[seed] if columns else task.column
        scale = x[train].std(axis=0)
        mean, scale = x[train].mean(axis=0), np.where(scale > 1e-8, scale, np.inf)
        known, held, test = (
            ((x[part] - mean) / scale).astype(np.float64)
            for part in (train, task.validation, task.test)
        )
        best, best_score = None, -np.inf
        for beta in _ridge_paths(known, column.take(train)):
            predicted = _predict(held, beta, column)
            score = _score_one(predicted, column.take(task.validation))
            if score > best_score:
                best, best_score = beta, score
        assert best is not None
        predictions.append(_predict(test, best, column))
    return np.stack(predictions)


def neighbour_probe(
    x: AnyFloats, task: ProbeTask, *, columns: Sequence[Column] | None = None
) -> npt.NDArray[np.generic]:
    """Predicts by a vote of the 15 nearest training texts (cosine), as a search would find them.

    Votes for a class are divided by its frequency; numbers are averaged.

    Args:
        x: One vector per text of the source (N, D).
        task: The labels to predict, and the texts.
        columns: Other labels for each seed (control labels); None for the labels of the task.
    """
    directions = unit(x)
    predictions = []
    for seed, train in enumerate(task.draws):
        column = (columns[seed] if columns else task.column).take(train)
        cosines = directions[task.test] @ directions[train].T
        count = min(_NEIGHBOURS, len(train))
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        if column.values is not None:
            predictions.append(column.values[nearest].mean(axis=1))
            continue
        indicators = np.eye(column.class_count)[column.codes]
        rarity = 1 / np.maximum(indicators.sum(axis=0), 1)
        predictions.append((indicators[nearest].sum(axis=1) * rarity).argmax(axis=1))
    return np.stack(predictions)


def network_probe(
    x: AnyFloats, task: ProbeTask, *, columns: Sequence[Column] | None = None
) -> npt.NDArray[np.generic]:
    """Predicts by a network with one hidden layer of 32 units.

    Each network is taken from the training step with the best validation score. The networks of
    all seeds are trained together, which is faster.

    Args:
        x: One vector per text of the source (N, D).
        task: The labels to predict, and the texts.
        columns: Other labels for each seed (control labels); None for the labels of the task.
    """
    import torch

    from subspace.evaluation.network import train_networks

    columns = list(columns) if columns else [task.column] * len(task.draws)
    train = task.train
    scale = x[train].std(axis=0)
    mean, scale = x[train].mean(axis=0), np.where(scale > 1e-8, scale, np.inf)
    features = torch.from_numpy(((x - mean) / scale).astype(np.float32))
    predict = train_networks(
        features,
        draws=task.draws,
        columns=columns,
        hidden=_HIDDEN,
        steps=_STEPS,
        batch=_BATCH,
        learning_rate=_LEARNING_RATE,
        judge=lambda outputs: [
            _score_one(_decide(output, column), column.take(task.validation))
            for output, column in zip(outputs, columns, strict=True)
        ],
        validation=task.validation,
    )
    return np.stack(
        [
            _decide(output, column)
            for output, column in zip(predict(features[task.test]), columns, strict=True)
        ]
    )


PROBES: Mapping[str, Probe] = {
    "linear": linear_probe,
    "neighbours": neighbour_probe,
    "network": network_probe,
}


def _ridge_paths(x: Floats, column: Column) -> list[Floats]:
    """Returns coefficients (D + 1, targets) for each ridge strength, with the intercept last."""
    if column.values is not None:
        targets = column.values[:, None]
        weights = np.ones(len(x))
    else:
        targets = np.eye(column.class_count)[column.codes]
        weights = 1 / np.maximum(targets.sum(axis=0), 1)[column.codes]
    weights = weights / weights.mean()
    x_mean, target_mean = (np.average(a, axis=0, weights=weights) for a in (x, targets))
    centred = (x - x_mean) * np.sqrt(weights)[:, None]
    right = centred.T @ ((targets - target_mean) * np.sqrt(weights)[:, None])
    gram = centred.T @ centred
    paths = []
    for ridge in _RELATIVE_RIDGES:
        damped = gram + ridge * len(x) * np.eye(gram.shape[0])
        beta = cho_solve(cho_factor(damped), right)
        paths.append(np.vstack([beta, target_mean - x_mean @ beta]))
    return paths


def _predict(x: Floats, beta: Floats, column: Column) -> npt.NDArray[np.generic]:
    return _decide(x @ beta[:-1] + beta[-1], column)


def _decide(outputs: AnyFloats, column: Column) -> npt.NDArray[np.generic]:
    """Turns outputs (N, targets) into class codes or numbers (N,).

    Numbers that differ by rounding only become zeros, so that rounding does not rank texts.
    """
    if column.values is None:
        return np.asarray(outputs.argmax(axis=1))
    numbers = outputs[:, 0]
    return numbers if np.ptp(numbers) > 1e-6 else np.zeros_like(numbers)


def _score_one(predicted: npt.NDArray[np.generic], truth: Column) -> float:
    return float(score_predictions(predicted[None], truth=truth)[0, 0])
