"""fit: fits a model on labelled records."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from subspace.data.records import Record, by_source
from subspace.encoder import EncoderSpec
from subspace.errors import ConfigError, check_type
from subspace.fitting.block_spec import BlockSpec, read_blocks
from subspace.fitting.fitting_data import DEFAULT_STORE, FittingData, encoder_spec
from subspace.fitting.recipe import Recipe, Solver
from subspace.fitting.weak.weak_supervision import WeakSupervision
from subspace.model.model import Model


def fit(
    records: Iterable[Record],
    *,
    encoder: EncoderSpec | str = "minilm",
    blocks: Mapping[str, Any] | Sequence[str] | None = None,
    solver: Solver = "closed_form",
    weak: WeakSupervision | None = None,
    origin_weights: Mapping[str, float] | None = None,
    store: Path | str = DEFAULT_STORE,
    seed: int = 0,
    progress: bool = False,
    **training: Any,
) -> Model:
    """Fits a model on labelled texts.

    Learns only from texts of the split `train`. Records without a split are split by id when they
    are read.

    Args:
        records: Texts with `factors`. With several sources, blocks learn what the sources have in
            common.
        encoder: The frozen encoder: `minilm` (needs no network), a folder, a hub id, or a spec. For
            a name, up to four layers are read and concatenated (`DEFAULT_LAYERS` for `minilm`).
        blocks: A width, a mapping of settings or a `BlockSpec`, by name; or names alone, for the
            usual blocks. None stands for `topic` and a block for every labelled factor.
        solver: `closed_form` (takes seconds once the texts are encoded), or `sgd`, which trains
            from the closed form with contrastive and probe losses.
        weak: Settings of weak supervision; None for none.
        origin_weights: Weights of labels that no person gave, by their origin.
        store: Folder of stored embeddings; texts found there are not encoded again.
        seed: Seed of training; the closed form is deterministic.
        progress: Shows progress bars.
        training: Settings of `subspace.training.sgd.train` for the solver `sgd`, such as
            `max_epochs` or `losses`.

    Raises:
        ConfigError: An argument or a setting is wrong, or a block cannot be solved.
        EncoderError: The encoder cannot be loaded.
        StoreError: The store cannot be used.
    """
    if solver not in get_args(Solver):
        raise ConfigError(f"solver is {' or '.join(get_args(Solver))}, got {solver!r}")
    if training and solver == "closed_form":
        raise ConfigError(f"{', '.join(training)}: only solver='sgd' takes settings of training")
    if weak is not None:
        check_type(weak, WeakSupervision, name="weak", hint="such as WeakSupervision(features=0.3)")
    if origin_weights is not None:
        hint = "such as {'features': 0.5}"
        check_type(origin_weights, Mapping, name="origin_weights", hint=hint)
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
        blocks=_read(blocks, data),
        weak=weak,
        origin_weights=dict(origin_weights or {}),
    )
    model = data.solve(recipe)
    if solver == "closed_form":
        return model
    from subspace.training.sgd import train  # imports the trainer, which takes seconds

    return train(model, data, seed=seed, progress=progress, **training)


def _read(
    blocks: Mapping[str, Any] | Sequence[str] | None, data: FittingData
) -> dict[str, BlockSpec]:
    if blocks is None or (isinstance(blocks, (Mapping, list, tuple)) and not blocks):
        return data.default_blocks()
    return read_blocks(blocks) if isinstance(blocks, Mapping) else data.blocks_of(blocks)
