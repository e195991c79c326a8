"""`bench riv`: every mix of recency, importance and relevance, replayed over a user's tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from subspace.arrays import Floats, Ints
from subspace.bench.replay import HALF_LIFE, Fixed, Learning, Policy, Run, replay
from subspace.bench.spaces import Variant
from subspace.errors import ConfigError
from subspace.evaluation.scores import mean_interval
from subspace.model.score_spread import LOW, measure_steering
from subspace.retrieval.hits import SCOPES, Scope
from subspace.retrieval.presets import PRESETS
from subspace.retrieval.usage.bandit import WeightBandit
from subspace.retrieval.usage.factored_bandit import FactoredBandit
from subspace.retrieval.weights import Weights

Measure = Literal["ndcg", "reciprocal_rank", "hit"]

RELEVANCE = "relevance alone"
# Not a preset, but what pays on the tasks the presets were published with.
EXTRA: Mapping[str, tuple[float, float, float]] = {"0 / .2 / .8": (0.0, 0.2, 0.8)}
BANDIT = "bandit"
_DRAWS = 4


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Row:
    """One way to weigh, over all orders.

    Attributes:
        variant: What was searched.
        policy: `relevance alone`, a preset, a preset and a block, or `bandit`.
        scope: What recency and importance were of.
        runs: One replay per order.
        arms: For the bandit, the arm that it had come to choose by the end of each replay.
    """

    variant: str
    policy: str
    scope: Scope
    runs: tuple[Run, ...]
    arms: tuple[str, ...] = ()

    @property
    def ndcg(self) -> float:
        """Mean nDCG@5 over tasks and orders."""
        return float(np.mean([run.ndcg for run in self.runs]))

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank over tasks and orders."""
        return float(np.mean([run.reciprocal_rank for run in self.runs]))

    @property
    def hit_rate(self) -> float:
        """Share of tasks with a relevant document among the five."""
        return float(np.mean([run.hit for run in self.runs]))

    @property
    def distinct(self) -> float:
        """Number of different documents ever used, mean over orders: few means lock-in."""
        return float(np.mean([run.shown[-1] for run in self.runs]))

    @property
    def late_ndcg(self) -> float:
        """Mean nDCG@5 over the last third of each replay."""
        return float(np.mean([run.ndcg[run.order[-(len(run.order) // 3) :]] for run in self.runs]))

    def interval(self, measure: Measure = "ndcg") -> tuple[float, float]:
        """95 % bootstrap interval of a mean over tasks."""
        of_task = np.mean([getattr(run, measure) for run in self.runs], axis=0)
        return mean_interval(of_task)

    def as_json(self) -> dict[str, Any]:
        """Figures and curves, JSON-ready."""
        shown = [int(run.shown[-1]) for run in self.runs]
        return {
            "variant": self.variant,
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

    def over_time(self) -> Floats:
        """nDCG@5 of each step, mean over orders (Q,)."""
        return np.asarray(np.mean([run.ndcg[run.order] for run in self.runs], axis=0))


@dataclass(frozen=True)
class RivBench:
    """Everything that was measured.

    Attributes:
        rows: One per variant, policy and scope.
        tasks: Number of tasks.
        documents: Number of documents.
        orders: Number of orders.
        notes: What a reader must know of the figures.
    """

    rows: tuple[Row, ...]
    tasks: int
    documents: int
    orders: int
    notes: tuple[str, ...] = ()

    def find(self, variant: str, policy: str, *, scope: Scope = "block") -> Row:
        """One row.

        Raises:
            KeyError: There is none.
        """
        for row in self.rows:
            if (row.variant, row.policy, row.scope) == (variant, policy, scope):
                return row
        raise KeyError((variant, policy, scope))

    def fixed(self, variant: str, *, scope: Scope = "block") -> list[Row]:
        """All fixed choices that the bandit has, too."""
        return [
            row
            for row in self.rows
            if row.variant == variant
            and row.scope == scope
            and row.policy.partition("/")[0] in PRESETS
        ]


def run_riv(
    variants: Sequence[Variant],
    *,
    relevant: npt.NDArray[np.bool_],
    orders: int = 5,
    seed: int = 0,
    half_life: float = HALF_LIFE,
    progress: bool = False,
) -> RivBench:
    """Replays the tasks in several orders under every policy.

    Args:
        variants: What is searched.
        relevant: Which document is relevant to which task (Q, N).
        orders: In how many orders, each drawn by its own seed.
        seed: Of the orders and of the bandits.
        half_life: Steps after which a use counts half in a block.
        progress: Show a progress bar.

    Raises:
        ConfigError: There is no order.
    """
    check_options(orders)
    sequences = [
        np.random.default_rng([seed, number]).permutation(len(relevant)) for number in range(orders)
    ]
    plans = [plan for variant in variants for plan in _plan(variant)]
    rows = []
    with tqdm(total=len(plans), desc="replays", unit="policy", disable=not progress) as bar:
        for variant, name, scope, weights in plans:
            rows.append(
                _learn(
                    variant,
                    relevant=relevant,
                    sequences=sequences,
                    seed=seed,
                    half_life=half_life,
                )
                if weights is None
                else Row(
                    variant=variant.name,
                    policy=name,
                    scope=scope,
                    runs=_repeat(
                        variant,
                        [Fixed(weights)] * orders,
                        scope,
                        relevant=relevant,
                        sequences=sequences,
                        half_life=half_life,
                    ),
                )
            )
            bar.update()
    return RivBench(
        rows=tuple(rows), tasks=len(relevant), documents=relevant.shape[1], orders=orders
    )


def check_options(orders: int) -> None:
    """Whether a bench can run: to be asked before the work that it takes.

    Raises:
        ConfigError: There is no order.
        BanditError: The bandit's package is not installed.
    """
    if orders < 1:
        raise ConfigError(f"orders must be 1 or more, got {orders}")
    WeightBandit(":memory:").close()


def find_block_weights(variant: Variant) -> dict[str, dict[str, float]]:
    """Block weights that the bandit chooses from, beside equal ones: one block alone.

    Blocks whose scores hardly vary among the documents are no choice: alone they tell little
    apart.
    """
    if len(variant.layout) == 1:
        return {}
    steering = measure_steering(variant.spaces[0].documents, layout=variant.layout)
    return {name: {name: 1.0} for name in variant.layout if steering.blocks[name] >= LOW}


def _plan(variant: Variant) -> list[tuple[Variant, str, Scope, Weights | None]]:
    """Policies by name; no weights for the bandit."""
    layout = variant.layout
    plan: list[tuple[Variant, str, Scope, Weights | None]] = []
    plan.append((variant, RELEVANCE, "block", Weights.equal(layout)))
    for scope in SCOPES:
        for name, riv in (*PRESETS.items(), *EXTRA.items()):
            plan.append((variant, name, scope, Weights.make(layout=layout, riv=riv)))
    for block, weights in find_block_weights(variant).items():
        for name in PRESETS:
            table = Weights.make(layout=layout, blocks=weights, preset=name)
            plan.append((variant, f"{name}/{block}", "block", table))
    plan.append((variant, BANDIT, "block", None))
    return plan


def _learn(
    variant: Variant,
    *,
    relevant: npt.NDArray[np.bool_],
    sequences: Sequence[Ints],
    seed: int,
    half_life: float,
) -> Row:
    blocks = find_block_weights(variant)
    # What a bandit draws differs more between seeds than tasks between orders.
    sequences = [order for order in sequences for _ in range(_DRAWS)]
    bandits: list[WeightBandit | FactoredBandit] = [
        FactoredBandit(":memory:", blocks=blocks, seed=seed + 1000 * number)
        if blocks
        else WeightBandit(":memory:", seed=seed + 1000 * number)
        for number in range(len(sequences))
    ]
    runs = _repeat(
        variant,
        [Learning(bandit, layout=variant.layout) for bandit in bandits],
        "block",
        relevant=relevant,
        sequences=sequences,
        half_life=half_life,
    )
    best = tuple(bandit.best() for bandit in bandits)
    for bandit in bandits:
        bandit.close()
    return Row(variant=variant.name, policy=BANDIT, scope="block", runs=runs, arms=best)


def _repeat(
    variant: Variant,
    policies: Sequence[Policy],
    scope: Scope,
    *,
    relevant: npt.NDArray[np.bool_],
    sequences: Sequence[Ints],
    half_life: float,
) -> tuple[Run, ...]:
    return tuple(
        replay(
            variant,
            relevant=relevant,
            order=order,
            policy=policy,
            scope=scope,
            half_life=half_life,
        )
        for order, policy in zip(sequences, policies, strict=True)
    )
