"""`bench riv`: replays of a user's tasks under mixes of recency, importance and relevance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from subspace.arrays import Ints
from subspace.bench.bench_set import read_bench_set, relevance_matrix
from subspace.bench.replay import (
    FEEDBACK,
    HALF_LIFE,
    Feedback,
    Fixed,
    Learning,
    Policy,
    Run,
    replay,
)
from subspace.bench.riv_results import BANDIT, BANDIT_WHOLE, EXTRA, RELEVANCE, RivBench, Row
from subspace.bench.riv_tables import write_riv
from subspace.bench.spaces import Space, make_spaces
from subspace.blocks import BlockLayout
from subspace.errors import ConfigError
from subspace.model import Model
from subspace.model.embed_texts import open_stored_encoder
from subspace.retrieval.hits import SCOPES, Scope
from subspace.retrieval.presets import PRESETS
from subspace.retrieval.usage.bandit import WeightBandit
from subspace.retrieval.usage.factored_bandit import FactoredBandit
from subspace.retrieval.usage.priors import Prior, learn_priors
from subspace.retrieval.weights import Weights

# Replays of the bandit per order: its results differ more between seeds than between orders.
_DRAWS = 4


def bench_riv(
    folder: Path | str,
    output: Path,
    *,
    model: Model,
    store: Path | str,
    until: str | None = None,
    orders: int = 5,
    half_life: float = HALF_LIFE,
    seed: int = 0,
    progress: bool = False,
) -> RivBench:
    """Replays the queries of a retrieval set, and writes riv.json, riv.md and riv.png.

    Args:
        folder: The set, in the BEIR layout.
        output: Folder of the tables.
        model: Model with the encoder, blocks and scales.
        store: Folder of computed embeddings.
        until: Text before which each document is cut.
        orders: Number of orders to replay the queries in, 1 or more.
        half_life: Steps after which a use counts half in a block, above 0.
        seed: Seed of the orders and of the bandits.
        progress: Whether to show progress bars.

    Raises:
        ConfigError: An option is out of range, a query has no relevant document, or the folder
            cannot be written to.
        BanditError: The bandit's package is not installed.
        RecordError: Lines of the set are wrong.
        EncoderError: The encoder cannot be loaded.
        CheckpointError: It is not the encoder that the model was fitted on.
        StoreError: The store cannot be used.
    """
    check_options(orders=orders, half_life=half_life)
    data, notes = read_bench_set(folder, model=model, until=until)
    relevant = relevance_matrix(data)
    encoder = open_stored_encoder(model, store=store)
    spaces = make_spaces(
        documents=encoder.encode([d.text for d in data.documents], progress=progress),
        queries=encoder.encode(list(data.queries.values()), kind="query", progress=progress),
        model=model,
    )
    bench = run_riv(
        spaces,
        relevant=relevant,
        orders=orders,
        half_life=half_life,
        seed=seed,
        notes=notes,
        known_as=Path(folder).absolute().name,
        progress=progress,
    )
    write_riv(bench, folder=output)
    return bench


def check_options(*, orders: int, half_life: float = HALF_LIFE) -> None:
    """Raises unless a bench can run. Call before long work.

    Args:
        orders: Number of orders.
        half_life: Steps after which a use counts half in a block.

    Raises:
        ConfigError: `orders` is below 1, or `half_life` is not above 0.
        BanditError: The bandit's package is not installed.
    """
    if orders < 1:
        raise ConfigError(f"--orders must be 1 or more, got {orders}")
    if not half_life > 0:
        raise ConfigError(f"--half-life must be above 0, got {half_life}")
    WeightBandit(":memory:").close()


def run_riv(
    spaces: Sequence[Space],
    *,
    relevant: npt.NDArray[np.bool_],
    orders: int = 5,
    half_life: float = HALF_LIFE,
    seed: int = 0,
    notes: tuple[str, ...] = (),
    known_as: str | None = None,
    progress: bool = False,
) -> RivBench:
    """Replays the tasks in several orders under every policy.

    Args:
        spaces: Documents and queries as vectors.
        relevant: Whether each document is relevant to each task (Q, N).
        orders: Number of orders, each drawn by its own seed, 1 or more.
        half_life: Steps after which a use counts half in a block, above 0.
        seed: Seed of the orders and of the bandits.
        notes: Warnings for the reader of the figures.
        known_as: Name of the set; if the bandit's priors were learned on it, they are used without
            it.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: An option is out of range.
        BanditError: The bandit's package is not installed.
    """
    check_options(orders=orders, half_life=half_life)
    tasks = _Tasks(
        relevant=relevant,
        orders=tuple(
            np.random.default_rng([seed, number]).permutation(len(relevant))
            for number in range(orders)
        ),
        half_life=half_life,
    )
    plans = {space.name: _plan(space.layout) for space in spaces}
    priors = learn_priors(without=known_as)
    rows: list[Row] = []
    count = sum(map(len, plans.values())) + len(FEEDBACK) * len(spaces)
    with tqdm(total=count, desc="replays", unit="policy", disable=not progress or None) as bar:
        for space in spaces:
            for name, scope, weights in plans[space.name]:
                runs = tasks.replay(space, [Fixed(weights)] * orders, scope=scope)
                rows.append(Row(space=space.name, policy=name, scope=scope, runs=runs))
                bar.update()
            for feedback in FEEDBACK:
                rows.append(_learn(space, tasks, feedback=feedback, priors=priors, seed=seed))
                bar.update()
    return RivBench(
        rows=tuple(rows),
        tasks=len(relevant),
        documents=relevant.shape[1],
        orders=orders,
        notes=notes,
    )


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class _Tasks:
    """Tasks with relevant documents, and the orders in which they are replayed."""

    relevant: npt.NDArray[np.bool_]
    orders: tuple[Ints, ...]
    half_life: float

    def replay(
        self, space: Space, policies: Sequence[Policy], *, scope: Scope = "block"
    ) -> tuple[Run, ...]:
        """Replays the tasks once per policy; each order is used for equally many policies."""
        repeats = len(policies) // len(self.orders)
        orders = [order for order in self.orders for _ in range(repeats)]
        return tuple(
            replay(
                space,
                relevant=self.relevant,
                order=order,
                policy=policy,
                scope=scope,
                half_life=self.half_life,
            )
            for order, policy in zip(orders, policies, strict=True)
        )


def _single_blocks(layout: BlockLayout) -> dict[str, dict[str, float]]:
    """Returns the weights of each block alone, by name; empty if there is only one block."""
    return {name: {name: 1.0} for name in layout} if len(layout) > 1 else {}


def _plan(layout: BlockLayout) -> list[tuple[str, Scope, Weights]]:
    """Lists the policies of fixed weights: name, scope, weights."""
    single = _single_blocks(layout)
    plan: list[tuple[str, Scope, Weights]] = [(RELEVANCE, "block", Weights.equal(layout))]
    plan += [
        (f"{RELEVANCE}/{name}", "block", Weights.make(layout=layout, blocks=blocks))
        for name, blocks in single.items()
    ]
    plan += [
        (name, scope, Weights.make(layout=layout, riv=riv))
        for scope in SCOPES
        for name, riv in (*PRESETS.items(), *EXTRA.items())
    ]
    plan += [
        (f"{preset}/{name}", "block", Weights.make(layout=layout, blocks=blocks, preset=preset))
        for name, blocks in single.items()
        for preset in PRESETS
    ]
    return plan


def _learn(
    space: Space,
    tasks: _Tasks,
    *,
    feedback: Feedback,
    priors: Mapping[str, Prior],
    seed: int,
) -> Row:
    """Replays with bandits that choose a preset, and either equal block weights or one block."""
    blocks = _single_blocks(space.layout)
    bandits: list[WeightBandit | FactoredBandit] = [
        FactoredBandit(":memory:", blocks=blocks, priors=priors, seed=seed + 1000 * number)
        if blocks
        else WeightBandit(":memory:", priors=priors, seed=seed + 1000 * number)
        for number in range(len(tasks.orders) * _DRAWS)
    ]
    runs = tasks.replay(
        space,
        [Learning(bandit, layout=space.layout, feedback=feedback) for bandit in bandits],
    )
    arms = tuple(bandit.best() for bandit in bandits)
    for bandit in bandits:
        bandit.close()
    policy = BANDIT if feedback == "hits" else BANDIT_WHOLE
    return Row(space=space.name, policy=policy, scope="block", runs=runs, arms=arms)
