"""Linear probes: how much of a factor a linear reader finds in some vectors."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.metrics import recall_score

from subspace.labels import Column, Labels
from subspace.records import SPLITS

Matrix = npt.NDArray[np.float64]

# Ridge strengths tried, relative to the number of texts (features have unit variance).
_RELATIVE_RIDGES = (1e-3, 1e-2, 1e-1)
# A split with fewer labelled texts measures noise.
MIN_TEXTS = 30


@dataclass(frozen=True)
class ProbeScore:
    """What a probe reached on test texts.

    Attributes:
        score: Balanced accuracy for categories, Spearman's rank correlation for numbers.
        chance: What guessing reaches: 1 / classes, or 0.
    """

    score: float
    chance: float

    @property
    def above_chance(self) -> float:
        """Score minus chance, never below 0: below chance nothing is held."""
        return max(self.score - self.chance, 0.0)


def can_probe(column: Column, *, labels: Labels) -> bool:
    """Whether a probe trained on the training texts can be tested on the test texts.

    Needs enough labelled texts in every split, more than one class in each, and for categories
    no test class that training has never seen (as where whole articles are classes).
    """
    codes = {split: column.codes[labels.positions(split)] for split in SPLITS}
    known = {split: split_codes[split_codes >= 0] for split, split_codes in codes.items()}
    if any(len(part) < MIN_TEXTS or len(np.unique(part)) < 2 for part in known.values()):
        return False
    return column.ordered or set(known["test"]) <= set(known["train"])


def linear_probe(x: npt.NDArray[np.floating], *, column: Column, labels: Labels) -> ProbeScore:
    """Trains a linear probe on the training texts and scores it on the test texts.

    Ridge regression on standardised features: on the label for numbers, on class indicators
    with balanced class weights for categories. The strength is chosen on the validation texts.

    Args:
        x: One vector per text of the source (N, D).
        column: The factor's labels (N,).
        labels: All labels of the source; gives the splits.
    """
    known = column.codes >= 0
    train, validation, test = (
        positions[known[positions]] for positions in map(labels.positions, SPLITS)
    )
    scale = x[train].std(axis=0)
    features = ((x - x[train].mean(axis=0)) / np.where(scale > 1e-8, scale, np.inf)).astype(
        np.float64
    )
    candidates = _ridge_paths(features[train], column.take(train))
    best = max(candidates, key=lambda beta: _score(features[validation], beta, column, validation))
    chance = 0.0 if column.ordered else 1 / len(np.unique(column.codes[test]))
    return ProbeScore(score=_score(features[test], best, column, test), chance=chance)


def _ridge_paths(x: Matrix, column: Column) -> list[Matrix]:
    """Coefficients (D + 1, targets), the last row being the intercept, for each strength."""
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
    eigenvalues, eigenvectors = np.linalg.eigh(centred.T @ centred)
    rotated = eigenvectors.T @ right
    paths = []
    for ridge in _RELATIVE_RIDGES:
        damped = np.maximum(eigenvalues, 0) + ridge * len(x)
        beta = eigenvectors @ (rotated / damped[:, None])
        paths.append(np.vstack([beta, target_mean - x_mean @ beta]))
    return paths


def _score(x: Matrix, beta: Matrix, column: Column, positions: npt.NDArray[np.int64]) -> float:
    predicted = x @ beta[:-1] + beta[-1]
    if column.values is None:
        truth = column.codes[positions]
        # Macro recall over the classes that occur is balanced accuracy, without its warning
        # about predicted classes that do not.
        guess = predicted.argmax(axis=1)
        return float(recall_score(truth, guess, labels=np.unique(truth), average="macro"))
    if np.ptp(predicted) < 1e-12:  # a constant prediction ranks nothing
        return 0.0
    return float(spearmanr(column.values[positions], predicted[:, 0]).statistic)
