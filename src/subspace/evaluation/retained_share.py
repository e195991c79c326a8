"""RetainedShare: how much of a factor the first 1, 2, 4, ... dimensions of a vector hold."""

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
# Of the first component's, in a component that is kept.
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class RetainedShare:
    """What a linear probe reads from some numbers, relative to all dimensions.

    Attributes:
        space: One of `SPACES`, or `BLOCK`.
        count: How many numbers.
        score: Balanced accuracy or Spearman's rank correlation on test texts.
        share: Score above chance over that of all dimensions; NaN where that is near guessing.
        low: Lower end of its 95 % bootstrap interval over test texts.
        high: Upper end.
    """

    space: str
    count: int
    score: float
    share: float
    low: float
    high: float


class Measure:
    """Measures what vectors hold of one factor, relative to the raw embedding.

    Attributes:
        chance: What guessing reaches.
        full: Score of the probe on all dimensions of the raw embedding.
    """

    def __init__(self, x: AnyFloats, task: ProbeTask, *, rng: np.random.Generator) -> None:
        """Probes the raw embedding (N, D) of a task with one seed."""
        self._task = task
        replicates = bootstrap_weights(task.groups[task.test], replicates=_REPLICATES, rng=rng)
        # The first replicate is the test texts as they are.
        self._weights = np.vstack([np.ones(len(task.test)), replicates])
        self.chance = chance_of(task.truth)
        self._full = self._scores(x)
        self.full = float(self._full[0])

    def __call__(self, choices: list[AnyFloats], *, space: str, count: int) -> RetainedShare:
        """What vectors (N, count) hold; the mean over several choices of them."""
        scores = np.mean([self._scores(x) for x in choices], axis=0)
        if self.full - self.chance < MIN_ABOVE_CHANCE:
            return RetainedShare(space, count, float(scores[0]), *(float("nan"),) * 3)
        known = self._full - self.chance > MIN_ABOVE_CHANCE / 2  # a replicate can fall to chance
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
    """Measures the first 1, 2, 4, ... of every space up to D; of fewer, all that there are.

    Args:
        x: The raw embedding (N, D).
        task: What is read, with one seed.
        order: Dimensions (D,), the best by the training texts first.
        measure: Of this embedding and task.
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
    """1, 2, 4, ... and `dim`."""
    return [*(2**n for n in range((dim - 1).bit_length())), dim]


def principal_components(x: AnyFloats, *, train: Ints) -> AnyFloats:
    """Projections on the training texts' principal components, (N, D) or fewer.

    Those in which training texts hardly vary are left out: scaled to unit variance, as a probe
    sees them, they would be noise on all other texts.
    """
    analysis = PCA(svd_solver="full").fit(x[train])
    kept = analysis.explained_variance_ > _LEAST_VARIANCE * analysis.explained_variance_[0]
    return np.asarray(analysis.transform(x)[:, kept])


def learned_directions(x: AnyFloats, task: ProbeTask) -> AnyFloats:
    """Projections on directions that separate the classes (N, classes - 1 or fewer), best first.

    Linear discriminant analysis with shrunk covariance (Ledoit and Wolf 2004) on training texts;
    the classes of numbers are their levels.
    """
    codes = task.column.codes
    enough = np.bincount(codes[task.train], minlength=task.column.class_count) > 1
    train = task.train[enough[codes[task.train]]]  # one text has no covariance
    if not np.ptp(x[train], axis=0).any():
        raise ConfigError("the labelled texts of a source all have the same embedding")
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    return np.asarray(analysis.fit(x[train], codes[train]).transform(x))
