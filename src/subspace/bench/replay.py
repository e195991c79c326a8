"""Replay: a user's tasks in order, with what was used and how well it did remembered.

Every task is searched, the best five are used, each succeeds if it is relevant, and that is what
recency and importance of the tasks after it come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from subspace.arrays import Floats, Ints
from subspace.bench.spaces import Variant
from subspace.blocks import BlockLayout
from subspace.evaluation.ranking import rank_one
from subspace.retrieval.hits import Scope
from subspace.retrieval.usage.bandit import Bandit
from subspace.retrieval.usage.decay import Decay, ItemHistory
from subspace.retrieval.usage.traces import Traces
from subspace.retrieval.usage.usage_log import Use
from subspace.retrieval.weights import Weights

USED = 5
HALF_LIFE = 50.0


class Policy(Protocol):
    """Chooses the weights of a task, and learns from how it went."""

    def choose(self) -> Weights:
        """Weights for the next task."""
        ...

    def learn(self, reward: float) -> None:
        """How well the last choice did, in [0, 1]."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Always the same weights."""

    weights: Weights

    def choose(self) -> Weights:
        """These."""
        return self.weights

    def learn(self, reward: float) -> None:
        """Learns nothing."""


class Learning:
    """What a bandit chooses; the reward is the task's nDCG."""

    def __init__(self, bandit: Bandit, *, layout: BlockLayout) -> None:
        """Starts with what the bandit knows."""
        self._bandit = bandit
        self._layout = layout
        self._arm = ""

    def choose(self) -> Weights:
        """Weights of the arm with the largest draw."""
        self._arm = self._bandit.choose()
        return self._bandit.weights(self._arm, layout=self._layout)

    def learn(self, reward: float) -> None:
        """Updates the arm's posterior."""
        self._bandit.update(self._arm, reward)


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Run:
    """One replay, task by task in the order of the queries in their file (not of the replay).

    Attributes:
        ndcg: nDCG@5 of each task (Q,).
        reciprocal_rank: Of the first relevant document (Q,).
        hit: Whether one of the five was relevant (Q,).
        shown: Number of different documents ever used, after each step of the replay (Q,).
        order: The order of the replay (Q,).
    """

    ndcg: Floats
    reciprocal_rank: Floats
    hit: npt.NDArray[np.bool_]
    shown: Ints
    order: Ints


def replay(
    variant: Variant,
    *,
    relevant: npt.NDArray[np.bool_],
    order: Ints,
    policy: Policy,
    scope: Scope,
    half_life: float = HALF_LIFE,
) -> Run:
    """Replays all tasks.

    Args:
        variant: What is searched.
        relevant: Which document is relevant to which task (Q, N).
        order: The tasks in the order of their time (Q,).
        policy: Chooses the weights.
        scope: What recency and importance are of.
        half_life: Steps after which a use counts half in a block.
    """
    memory = _Memory(variant, count=relevant.shape[1], half_life=half_life)
    ndcg, ranks = np.zeros(len(order)), np.zeros(len(order))
    hit, shown = np.zeros(len(order), dtype=bool), np.zeros(len(order), dtype=np.int64)
    ever: set[int] = set()
    for step, task in enumerate(order):
        scores = memory.scores(int(task), weights=policy.choose(), scope=scope, now=step)
        used = np.argsort(-scores, kind="stable")[:USED]
        success = relevant[task, used]
        ndcg[task], ranks[task] = rank_one(scores, relevant=relevant[task], k=USED)
        hit[task] = success.any()
        policy.learn(float(ndcg[task]))
        memory.use(used, success=success, now=step)
        ever.update(used.tolist())
        shown[step] = len(ever)
    return Run(ndcg=ndcg, reciprocal_rank=ranks, hit=hit, shown=shown, order=order)


class _Memory:
    """What was used so far, in every space of a variant."""

    def __init__(self, variant: Variant, *, count: int, half_life: float) -> None:
        self._variant = variant
        self._ids = [str(position) for position in range(count)]
        self._items = ItemHistory()
        self._decay = Decay.default("steps")
        self._traces = [Traces(layout=variant.layout, half_life=half_life) for _ in variant.spaces]

    def scores(self, task: int, *, weights: Weights, scope: Scope, now: float) -> Floats:
        fold = int(self._variant.fold[task])
        space, traces = self._variant.spaces[fold], self._traces[fold]
        query = space.queries[task]
        if scope == "block":
            folded = weights.fold(query, recency=traces.recency, importance=traces.importance)
            return np.asarray(space.documents @ folded, dtype=np.float64)
        recency, importance = self._items.of(self._ids, now, decay=self._decay)
        relevance = np.asarray(space.documents @ weights.fold(query), dtype=np.float64)
        added = sum(weights.recency) * recency + sum(weights.importance) * importance
        return np.asarray(relevance + added)

    def use(self, rows: Ints, *, success: Sequence[bool] | np.ndarray, now: float) -> None:
        uses = [
            Use(item=self._ids[row], time=now, success=float(good))
            for row, good in zip(rows, success, strict=True)
        ]
        self._items.add(uses)
        for space, traces in zip(self._variant.spaces, self._traces, strict=True):
            traces.add(uses, space.documents[rows])
