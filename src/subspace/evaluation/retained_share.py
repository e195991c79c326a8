"""RetainedShare: share of a factor's score that the first 1, 2, 4, ... dimensions retain."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from subspace.arrays import AnyFloats, Floats, Ints
from subspace.errors import ConfigError
from subspace.evaluation.probes import linear_probe
from subspace.evaluation.scores import (
    bootstrap_weights,
    chance_of,
    interval,
    score_predictions,
)
from subspace.evaluation.separation import MIN_ABOVE_CHANCE
from subspace.evaluation.tasks import ProbeTask

BEST, LEARNED, PRINCIPAL, RANDOM, BLOCK = (
    "best dimensions",
    "learned directions",
    "principal components",
    "random dimensions",
    "block",
)
SPACES = (BEST, LEARNED, PRINCIPAL, RANDOM)
_REPLICATES = 300
_RANDOM_CHOICES = 5
# Principal components with a smaller share of the first one's variance are left out.
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class RetainedShare:
    """Score of a linear probe on some dimensions, relative to all raw dimensions.

    Attributes:
        space: One of `SPACES`, or `BLOCK`.
        count: Number of dimensions.
        score: Balanced accuracy or Spearman's rank correlation on test texts.
        share: Score above chance over that of all raw dimensions; NaN if the latter is near 0.
        low: Lower end of the 95 % bootstrap interval of `share` over test texts.
        high: Upper end of the interval.
    """

    space: str
    count: int
    score: float
    share: float
    low: float
    high: float


class Measure:
    """Measures the retained share of one factor in vectors, relative to the raw embedding.

    Attributes:
        chance: Score of guessing.
        full: Score of the probe on all dimensions of the raw embedding.
    """

    def __init__(self, x: AnyFloats, task: ProbeTask, *, rng: np.random.Generator) -> None:
        """Probes the raw embedding.

        Args:
            x: The raw embedding (N, D).
            task: The task to probe, with one seed.
            rng: Draws the bootstrap replicates.
        """
        self._task = task
        replicates = bootstrap_weights(task.groups[task.test], replicates=_REPLICATES, rng=rng)
        # The first replicate is the test texts as they are.
        self._weights = np.vstack([np.ones(len(task.test)), replicates])
        self.chance = chance_of(task.truth)
        self._full = self._scores(x)
        self.full = float(self._full[0])

    def __call__(self, choices: list[AnyFloats], *, space: str, count: int) -> RetainedShare:
        """Measures vectors, as the mean over several choices of dimensions.

        Args:
            choices: Vectors (N, count or fewer), one array per choice.
            space: One of `SPACES`, or `BLOCK`.
            count: Number of dimensions to report.
        """
        scores = np.mean([self._scores(x) for x in choices], axis=0)
        if self.full - self.chance < MIN_ABOVE_CHANCE:
            return RetainedShare(space, count, float(scores[0]), *(float("nan"),) * 3)
        known = self._full - self.chance > MIN_ABOVE_CHANCE / 2  # a replicate can be near chance
        shares = (scores - self.chance)[known] / (self._full - self.chance)[known]
        return RetainedShare(
            space, count, float(scores[0]), float(shares[0]), *interval(shares[1:])
        )

    def _scores(self, x: AnyFloats) -> Floats:
        predicted, truth = linear_probe(x, self._task), self._task.truth
        return np.asarray(score_predictions(predicted, truth=truth, weights=self._weights)[0])


def measure_retained_share(
    x: AnyFloats, task: ProbeTask, *, order: Ints, measure: Measure, rng: np.random.Generator
) -> Iterator[RetainedShare]:
    """Measures the first 1, 2, 4, ... and D dimensions of every space.

    If a space has fewer dimensions than a count, all of them are used.

    Args:
        x: The raw embedding (N, D).
        task: The task to probe, with one seed.
        order: All dimensions (D,), the best on training texts first.
        measure: The measure of this embedding and task.
        rng: Chooses random dimensions.
    """
    dim = x.shape[1]
    random = [x[:, rng.permutation(dim)] for _ in range(_RANDOM_CHOICES)]
    choices = {
        BEST: [x[:, order]],
        LEARNED: [learned_directions(x, task)],
        PRINCIPAL: [principal_components(x, train=task.train)],
        RANDOM: random,
    }
    for space in SPACES:
        for count in counts(dim):
            yield measure([z[:, :count] for z in choices[space]], space=space, count=count)


def counts(dim: int) -> list[int]:
    """Returns the powers of 2 below `dim`, and `dim`."""
    return [*(2**n for n in range((dim - 1).bit_length())), dim]


def principal_components(x: AnyFloats, *, train: Ints) -> AnyFloats:
    """Projects vectors on the principal components of the training texts, (N, D) or fewer.

    Components in which the training texts hardly vary are left out, since a probe would scale
    them to unit variance and they would be noise on all other texts.
    """
    analysis = PCA(svd_solver="full").fit(x[train])
    kept = analysis.explained_variance_ > _LEAST_VARIANCE * analysis.explained_variance_[0]
    return np.asarray(analysis.transform(x)[:, kept])


def learned_directions(x: AnyFloats, task: ProbeTask) -> AnyFloats:
    """Projects vectors on directions that separate the classes, (N, classes - 1) or fewer.

    The directions are those of a linear discriminant analysis of the training texts with shrunk
    covariance (Ledoit and Wolf 2004), the best first. The classes of numbers are their levels.

    Raises:
        ConfigError: All training texts have the same embedding.
    """
    codes = task.column.codes
    enough = np.bincount(codes[task.train], minlength=task.column.class_count) > 1
    train = task.train[enough[codes[task.train]]]  # the covariance of a class needs two texts
    if not np.ptp(x[train], axis=0).any():
        raise ConfigError("the labelled texts of a source all have the same embedding")
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    return np.asarray(analysis.fit(x[train], codes[train]).transform(x))
