"""Results of replays under mixes of recency, importance and relevance, policy by policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from subspace.arrays import Floats
from subspace.bench.replay import Run
from subspace.evaluation.scores import mean_interval
from subspace.retrieval.hits import Scope
from subspace.retrieval.presets import PRESETS

Measure = Literal["ndcg", "reciprocal_rank", "hit"]

RELEVANCE = "relevance alone"
# No preset: the mix (recency, importance, relevance) that did best on the tasks that were published
# with the presets.
EXTRA: Mapping[str, tuple[float, float, float]] = {"0 / .2 / .8": (0.0, 0.2, 0.8)}
# The bandit, told which hits succeeded, or one reward for each task.
BANDIT = "bandit"
BANDIT_WHOLE = "bandit, rated as a whole"


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Row:
    """Results of one policy in one space and scope, over all orders.

    Attributes:
        space: Name of the space.
        policy: `relevance alone` or a preset, with equal weights of all blocks; either followed by
            `/BLOCK` for that block alone; or `bandit`, or `bandit, rated as a whole`.
        scope: Whether recency and importance were computed per `block` or per `item`.
        runs: One replay per order; for the bandit, several.
        arms: For the bandit, its best arm at the end of each replay; empty for other policies.
    """

    space: str
    policy: str
    scope: Scope
    runs: tuple[Run, ...]
    arms: tuple[str, ...] = ()

    @property
    def ndcg(self) -> float:
        """Mean nDCG@5 over tasks and replays."""
        return float(np.mean([run.ndcg for run in self.runs]))

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank over tasks and replays."""
        return float(np.mean([run.reciprocal_rank for run in self.runs]))

    @property
    def hit_rate(self) -> float:
        """Share of tasks with a relevant document among the five."""
        return float(np.mean([run.hit for run in self.runs]))

    @property
    def distinct(self) -> float:
        """Mean number of different documents used in a replay; small if the same ones recur."""
        return float(np.mean([run.shown[-1] for run in self.runs]))

    @property
    def late_ndcg(self) -> float:
        """Mean nDCG@5 over the last third of each replay, or its one task."""
        late = [run.ndcg[run.order[-max(len(run.order) // 3, 1) :]] for run in self.runs]
        return float(np.mean(late))

    def interval(self, measure: Measure = "ndcg") -> tuple[float, float]:
        """Returns the 95 % bootstrap interval of a mean over tasks."""
        by_task = np.mean([getattr(run, measure) for run in self.runs], axis=0)
        return mean_interval(by_task)

    def over_time(self) -> Floats:
        """Returns the mean nDCG@5 over the replays at each step (Q,)."""
        return np.asarray(np.mean([run.ndcg[run.order] for run in self.runs], axis=0))

    def to_json(self) -> dict[str, Any]:
        """Returns measures and curves, JSON-ready."""
        shown = [int(run.shown[-1]) for run in self.runs]
        return {
            "space": self.space,
            "policy": self.policy,
            "scope": self.scope,
            "ndcg": self.ndcg,
            "ndcg_interval": self.interval(),
            "mrr": self.mrr,
            "mrr_interval": self.interval("reciprocal_rank"),
            "hit_rate": self.hit_rate,
            "hit_rate_interval": self.interval("hit"),
            "distinct_items": self.distinct,
            "distinct_items_range": [min(shown), max(shown)],
            "ndcg_last_third": self.late_ndcg,
            "arms": list(self.arms),
            "ndcg_over_time": self.over_time().round(5).tolist(),
            "distinct_over_time": np.mean([run.shown for run in self.runs], axis=0).tolist(),
        }


@dataclass(frozen=True)
class RivBench:
    """All results of the bench.

    Attributes:
        rows: One per space, policy and scope.
        tasks: Number of tasks.
        documents: Number of documents.
        orders: Number of orders.
        notes: Warnings for the reader of the figures.
    """

    rows: tuple[Row, ...]
    tasks: int
    documents: int
    orders: int
    notes: tuple[str, ...] = ()

    @property
    def spaces(self) -> list[str]:
        """Names of the spaces."""
        return list(dict.fromkeys(row.space for row in self.rows))

    def find(self, space: str, policy: str, *, scope: Scope = "block") -> Row:
        """Finds one row.

        Raises:
            KeyError: There is no such row.
        """
        for row in self.rows:
            if (row.space, row.policy, row.scope) == (space, policy, scope):
                return row
        raise KeyError((space, policy, scope))

    def relevance(self, space: str) -> list[Row]:
        """Lists the rows of relevance alone: equal weights of the blocks, then each block."""
        return [row for row in self.rows if row.space == space and _mix(row) == RELEVANCE]

    def fixed(self, space: str, *, scope: Scope = "block") -> list[Row]:
        """Lists the rows of presets with fixed weights, which are the arms of the bandit."""
        return [
            row
            for row in self.rows
            if row.space == space and row.scope == scope and _mix(row) in PRESETS
        ]


def _mix(row: Row) -> str:
    return row.policy.partition("/")[0]
