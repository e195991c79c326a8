"""Beliefs: how much better than the reference each arm of a bandit is, from all that is known.

The advantage of an arm is a share of the gain of the reference arm, such as -0.05. Its belief is a
normal distribution, to which three sources add up by their precision:

- its prior;
- rewards of whole searches that it was chosen for, beside the mean reward of all arms (the reward
  of a search varies at most as that of a coin does);
- comparisons with the reference on the same hits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Floats
from subspace.retrieval.usage.hit_comparisons import Compared
from subspace.retrieval.usage.priors import Prior

_COIN = 0.25  # the largest variance of a reward in [0, 1]
# Before any comparison, differences of 0.1 in two searches are assumed, so that the first ones,
# often exactly 0, are not taken for certain.
_ASSUMED, _ASSUMED_SQUARES = 2.0, 0.02


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Normal distributions of the advantage of arms.

    Attributes:
        mean: (arms,).
        spread: Standard deviations (arms,).
    """

    mean: Floats
    spread: Floats


def form_beliefs(
    priors: Sequence[Prior],
    *,
    rewards: Sequence[tuple[float, float]],
    compared: Sequence[Compared],
    reference: int,
) -> Beliefs:
    """Combines what is known of arms; all sequences are in the same order.

    Args:
        priors: The prior of each arm.
        rewards: Sum of the rewards of each arm, and their number.
        compared: The comparisons of each arm with the reference.
        reference: Place of the reference.
    """
    mean = np.array([prior.mean for prior in priors])
    mean = mean - mean[reference]
    precision = 1 / np.array([prior.spread for prior in priors]) ** 2
    weighted = mean * precision

    earned, count = np.array(rewards, dtype=np.float64).T
    # The reward that the reference would have, from the rewards of all arms.
    level = np.clip((earned.sum() + 1) / ((count * (1 + mean)).sum() + 2), 0.02, 1.0)
    of_rewards = count * level**2 / _COIN
    weighted += of_rewards * (earned / np.maximum(count, 1e-9) / level - 1)

    searches = np.array([one.searches for one in compared])
    squares = np.array([one.squares for one in compared])
    variance = (squares + _ASSUMED_SQUARES) / (searches + _ASSUMED)
    weighted += np.array([one.total for one in compared]) / variance
    precision += of_rewards + searches / variance
    return Beliefs(mean=weighted / precision, spread=1 / np.sqrt(precision))
