"""Priors of presets: how well they did beside relevance alone in replays of public sets.

`benchmarks/bandit_prior.py` makes the figures. It replays the queries of a set as tasks, as
`subspace bench riv` does, in block scope on the raw embedding of MiniLM.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from subspace.retrieval.presets import PRESETS, RELEVANCE

# Mean nDCG@5 of every preset, in the order of `PRESETS`, in thousandths of that of relevance alone.
# The licences of these sets let them be passed on (CC BY 4.0, MIT, MIT, CC BY 4.0, CC BY 3.0, CC
# BY-SA 3.0, CC BY-SA 4.0); the figures hold nothing of their texts.
REPLAYED: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "kusp_skills": (1004, 44, 336, 1017, 74, 662, 768, 1036, 1006, 1036, 967, 1030),
        "skillsbench": (999, 40, 398, 991, 83, 712, 836, 965, 821, 940, 744, 973),
        "qulac": (1000, 15, 377, 990, 126, 573, 958, 946, 600, 845, 571, 964),
        "banking77": (997, 24, 351, 978, 40, 632, 821, 910, 806, 910, 758, 955),
        "clinc": (995, 13, 304, 972, 34, 624, 840, 915, 750, 878, 695, 929),
        "mytomorrows": (1000, 6, 409, 1000, 166, 933, 992, 999, 999, 1000, 990, 1000),
        "onestop": (1000, 6, 451, 1000, 343, 972, 1000, 1000, 997, 1000, 992, 1000),
    }
)
# Sets differ more than the few that were replayed, and no arm is known better than this.
_WIDER = 1.5
_LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class Prior:
    """What is known of an arm before it was tried, as a normal distribution.

    Attributes:
        mean: How much better than relevance alone it is, as a share: -0.05 is 5 % worse.
        spread: Standard deviation of that between sets, above 0.
    """

    mean: float
    spread: float


# Of an arm of which nothing is known.
UNKNOWN = Prior(mean=0.0, spread=0.5)


def learn_priors(*, without: str | None = None) -> dict[str, Prior]:
    """Returns the prior of relevance alone and of every preset, by name.

    Args:
        without: Name of a set whose replays are left out, so that it can be measured on.
    """
    shares = np.array([row for name, row in REPLAYED.items() if name != without]) / 1000 - 1
    spreads = np.maximum(_WIDER * shares.std(axis=0, ddof=1), _LEAST_SPREAD)
    pairs = zip(shares.mean(axis=0).tolist(), spreads.tolist(), strict=True)
    learned = {name: Prior(*pair) for name, pair in zip(PRESETS, pairs, strict=True)}
    return {RELEVANCE: Prior(mean=0.0, spread=_LEAST_SPREAD), **learned}


PRIORS: Mapping[str, Prior] = MappingProxyType(learn_priors())
