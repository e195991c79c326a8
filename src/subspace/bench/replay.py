"""Replay: searches for a user's tasks in order, and records which documents were used.

Each task is a query, and its best five documents are used. A use succeeds if the document is
relevant. Recency and importance in later tasks come from these uses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from subspace.arrays import Floats, Ints
from subspace.bench.spaces import Space
from subspace.blocks import BlockLayout
from subspace.evaluation.ranking import rank_one
from subspace.retrieval.hits import Scope
from subspace.retrieval.usage.bandit import Bandit
from subspace.retrieval.usage.decay import Decay, ItemHistory
from subspace.retrieval.usage.traces import Traces
from subspace.retrieval.usage.usage_log import Use
from subspace.retrieval.weights import Weights

# Documents that are used after each search.
USED = 5
HALF_LIFE = 50.0
# What a bandit is told of a search: which hits succeeded, or one reward for the whole.
Feedback = Literal["hits", "whole"]
FEEDBACK: tuple[Feedback, ...] = ("hits", "whole")


class Policy(Protocol):
    """A rule that chooses the weights of each task and can learn from what came of them."""

    def choose(self) -> Weights:
        """Chooses the weights of the next task."""
        ...

    def rivals(self) -> Mapping[str, Weights]:
        """Returns the weights whose order of the hits of the last choice is wanted, by name."""
        ...

    def learn(self, outcome: "Outcome") -> None:
        """Learns what came of the last choice."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What came of the weights that a policy chose for a task.

    Attributes:
        reward: nDCG of the hits, in [0, 1].
        successes: Success by id of the hits.
        orders: Ids of the hits in the order of each of the policy's rivals.
    """

    reward: float
    successes: Mapping[str, float]
    orders: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Fixed:
    """A policy with the same weights for every task.

    Attributes:
        weights: The weights.
    """

    weights: Weights

    def choose(self) -> Weights:
        """Returns the weights."""
        return self.weights

    def rivals(self) -> Mapping[str, Weights]:
        """Returns nothing, as nothing is learned."""
        return {}

    def learn(self, outcome: Outcome) -> None:
        """Does nothing, as the weights are fixed."""


class Learning:
    """A policy whose weights a bandit chooses."""

    def __init__(self, bandit: Bandit, *, layout: BlockLayout, feedback: Feedback = "hits") -> None:
        """Starts with what the bandit has learned.

        Args:
            bandit: The bandit.
            layout: The blocks that the weights are for.
            feedback: Whether the bandit is told which hits succeeded, or the task's nDCG.
        """
        self._bandit = bandit
        self._layout = layout
        self._feedback = feedback
        self._arm = ""
        self._task = 0

    def choose(self) -> Weights:
        """Returns the weights of the arm that the bandit chooses."""
        self._arm = self._bandit.choose()
        return self._bandit.weights(self._arm, layout=self._layout)

    def rivals(self) -> Mapping[str, Weights]:
        """Returns the arms that learn from the success of hits."""
        if self._feedback == "whole":
            return {}
        rivals = self._bandit.rivals(self._arm)
        return {name: self._bandit.weights(name, layout=self._layout) for name in rivals}

    def learn(self, outcome: Outcome) -> None:
        """Tells the bandit what came of its choice."""
        if self._feedback == "whole":
            self._bandit.update(self._arm, outcome.reward)
            return
        self._task += 1
        self._bandit.remember(str(self._task), outcome.orders)
        self._bandit.compare(self._arm, str(self._task), outcome.successes)


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Run:
    """Results of one replay; measures of tasks are in the order of the file, not of the replay.

    Attributes:
        ndcg: nDCG@5 of each task (Q,).
        reciprocal_rank: Reciprocal rank of the first relevant document of each task (Q,).
        hit: Whether one of the five documents of each task was relevant (Q,).
        shown: Number of different documents used so far, after each step of the replay (Q,).
        order: The tasks in the order of the replay (Q,).
    """

    ndcg: Floats
    reciprocal_rank: Floats
    hit: npt.NDArray[np.bool_]
    shown: Ints
    order: Ints


def replay(
    space: Space,
    *,
    relevant: npt.NDArray[np.bool_],
    order: Ints,
    policy: Policy,
    scope: Scope,
    half_life: float = HALF_LIFE,
) -> Run:
    """Replays all tasks.

    Args:
        space: Documents and queries.
        relevant: Whether each document is relevant to each task (Q, N).
        order: The tasks in the order of the replay (Q,).
        policy: Chooses the weights, which are then scaled as in an `Index`.
        scope: Whether recency and importance are computed per `block` or per `item`.
        half_life: Steps after which a use counts half in a block, above 0.
    """
    memory = _Memory(space, count=relevant.shape[1], half_life=half_life)
    ndcg, ranks = np.zeros(len(order)), np.zeros(len(order))
    hit, shown = np.zeros(len(order), dtype=bool), np.zeros(len(order), dtype=np.int64)
    ever: set[int] = set()
    for step, task in enumerate(order):
        weights = policy.choose().scaled(space.scales)
        scores = memory.score(int(task), weights=weights, scope=scope, now=step)
        used = np.argsort(-scores, kind="stable")[:USED]
        success = relevant[task, used]
        ndcg[task], ranks[task] = rank_one(scores, relevant=relevant[task], k=USED)
        hit[task] = success.any()
        orders = {
            name: _by_score(used, memory.score(int(task), weights=w, scope=scope, now=step)[used])
            for name, w in _scaled(policy.rivals(), space).items()
        }
        successes = dict(zip(map(str, used), success.astype(float).tolist(), strict=True))
        policy.learn(Outcome(float(ndcg[task]), successes, orders))
        memory.use(used, success=success, now=step)
        ever.update(used.tolist())
        shown[step] = len(ever)
    return Run(ndcg=ndcg, reciprocal_rank=ranks, hit=hit, shown=shown, order=order)


def _scaled(weights: Mapping[str, Weights], space: Space) -> dict[str, Weights]:
    return {name: one.scaled(space.scales) for name, one in weights.items()}


def _by_score(rows: Ints, scores: Floats) -> list[str]:
    """Returns rows as ids, best first; ties keep their order."""
    return [str(rows[place]) for place in np.argsort(-scores, kind="stable")]


class _Memory:
    """The uses of a space's documents so far, and scores that depend on them."""

    def __init__(self, space: Space, *, count: int, half_life: float) -> None:
        self._space = space
        self._ids = [str(position) for position in range(count)]
        self._items = ItemHistory()
        self._decay = Decay.default("steps")
        self._traces = Traces(layout=space.layout, half_life=half_life)

    def score(self, task: int, *, weights: Weights, scope: Scope, now: float) -> Floats:
        """Scores all documents (N,) for a task."""
        query, documents = self._space.queries[task], self._space.documents
        if scope == "block":
            recency, importance = self._traces.recency, self._traces.importance
            folded = weights.fold(query, recency=recency, importance=importance)
            return np.asarray(documents @ folded, dtype=np.float64)
        lately, success = self._items.at(now, decay=self._decay).of(self._ids)
        relevance = np.asarray(documents @ weights.fold(query), dtype=np.float64)
        added = sum(weights.recency) * lately + sum(weights.importance) * success
        return np.asarray(relevance + added)

    def use(self, rows: Ints, *, success: Sequence[bool] | np.ndarray, now: float) -> None:
        """Records uses of documents."""
        uses = [
            Use(item=self._ids[row], time=now, success=float(good))
            for row, good in zip(rows, success, strict=True)
        ]
        self._items.add(uses)
        self._traces.add(uses, self._space.documents[rows])
