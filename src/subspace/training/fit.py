"""fit: from labelled records to a model."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from subspace.data.records import Record, by_source
from subspace.encoder import EncoderSpec
from subspace.errors import ConfigError
from subspace.fitting.block_spec import read_blocks
from subspace.fitting.fitting_data import DEFAULT_STORE, FittingData, encoder_spec
from subspace.fitting.recipe import Recipe, Solver
from subspace.fitting.weak.weak_supervision import WeakSupervision
from subspace.model.model import Model


def fit(
    records: Iterable[Record],
    *,
    encoder: EncoderSpec | str = "minilm",
    blocks: Mapping[str, Any] | None = None,
    solver: Solver = "closed_form",
    weak: WeakSupervision | None = None,
    origin_weights: Mapping[str, float] | None = None,
    store: Path | str = DEFAULT_STORE,
    seed: int = 0,
    progress: bool = False,
    **training: Any,
) -> Model:
    """Fits a model on labelled texts.

    Only texts of the split `train` are learned from; records without a split are split by id
    when they are read.

    Args:
        records: Texts with `factors`; texts of several sources tell what holds on all of them.
        encoder: The frozen encoder: `minilm` (embedded), a folder, a hub id, or a spec. If a name
            is given, four of its layers are read side by side (`DEFAULT_LAYERS` for `minilm`).
        blocks: By name, a width, a mapping of settings or a `BlockSpec`; `topic`, and a block for
            every labelled factor, if None.
        solver: `closed_form` (seconds once the texts are encoded), or `sgd`, which trains from
            there with contrastive and probe losses.
        weak: What to learn from texts beyond their labels; nothing if None.
        origin_weights: How much labels count that no person gave, by their origin.
        store: Folder of computed embeddings; what is there is not computed again.
        seed: Of training; the closed form draws nothing.
        progress: Shows bars.
        training: Settings of `subspace.training.sgd.train` for the solver `sgd`, such as
            `max_epochs` or `losses`.

    Raises:
        ConfigError: A block cannot be solved, or a setting is wrong.
        EncoderError: The encoder cannot be had.
        StoreError: The store cannot be used.
    """
    if solver not in get_args(Solver):
        raise ConfigError(f"solver is {' or '.join(get_args(Solver))}, got {solver!r}")
    if training and solver == "closed_form":
        raise ConfigError(f"{', '.join(training)}: only solver='sgd' takes settings of training")
    weak = weak or WeakSupervision()
    data = FittingData.encode(
        by_source(records),
        encoder=encoder_spec(encoder),
        weak=weak,
        origin_weights=origin_weights,
        store=store,
        progress=progress,
    )
    recipe = Recipe(
        blocks=read_blocks(blocks) if blocks else data.default_blocks(),
        weak=weak,
        origin_weights=dict(origin_weights or {}),
    )
    model = data.solve(recipe)
    if solver == "closed_form":
        return model
    from subspace.training.sgd import train  # imports the trainer, which takes seconds

    return train(model, data, seed=seed, progress=progress, **training)
