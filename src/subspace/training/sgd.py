"""train: refines a closed-form model by gradient descent and keeps the best projection."""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from subspace.fitting.fitting_data import FittingData
from subspace.fitting.recipe import Recipe
from subspace.fitting.solve import complete_model
from subspace.fitting.stored_sources import StoredSource
from subspace.model.checkpoint import load
from subspace.model.model import Model
from subspace.model.projection import Projection
from subspace.training.data_module import FactorData
from subspace.training.losses import LossWeights
from subspace.training.module import ProjectionModule
from subspace.training.quiet import quiet_trainer

MONITOR = "val/loss"


@dataclass(frozen=True, eq=False)  # comparing arrays gives an array, not a bool
class Best:
    """The best projection of a run.

    Attributes:
        projection: The projection.
        steps: Number of training steps that led to it; 0 for the start.
    """

    projection: Projection
    steps: int


def train(
    model: Model,
    data: FittingData,
    *,
    held_out: Mapping[str, StoredSource] | None = None,
    losses: LossWeights | None = None,
    learning_rate: float = 1e-3,
    temperature: float = 0.1,
    hard_weight: float = 4.0,
    batch_size: int = 512,
    steps_per_epoch: int = 100,
    max_epochs: int = 20,
    patience: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> Model:
    """Trains a model by gradient descent, starting from its closed-form solution.

    Args:
        model: Model to start from, solved from `data`.
        data: Data that the model was solved from.
        held_out: Sources to validate on, which the model was not solved from, encoded in the same
            store. None stands for the validation texts of `data`.
        losses: Weights of the loss terms; None for the defaults.
        learning_rate: Learning rate of Adam.
        temperature: Temperature of the contrastive and keep losses.
        hard_weight: Weight of hard negatives (same content, other label) in the contrastive loss,
            1 or more.
        batch_size: Number of texts per batch.
        steps_per_epoch: Number of steps per epoch. Each epoch ends with a validation.
        max_epochs: Number of epochs after which training ends.
        patience: Number of epochs without an improvement after which training ends early.
        seed: Seed of the batches.
        progress: Shows a progress bar.

    Returns:
        The model with the lowest validation loss, with heads fitted to it; `model` itself if no
        step improved on it.

    Raises:
        ConfigError: A setting is out of range, no factor of a block is labelled, or there are no
            texts to validate on.
    """
    recipe = Recipe.from_json(model.recipe)
    module = ProjectionModule(
        {name: spec.to_json() for name, spec in recipe.blocks.items()},
        solver="sgd",
        losses=losses or LossWeights(),
        learning_rate=learning_rate,
        temperature=temperature,
        hard_weight=hard_weight,
    )
    module.start_from(model.projection)
    provider = FactorData.encoded(
        data,
        recipe=recipe,
        held_out=held_out,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder, quiet_trainer():
        trainer = pl.Trainer(
            max_epochs=max_epochs,
            devices=1,
            logger=False,
            enable_model_summary=False,
            enable_progress_bar=progress and sys.stdout.isatty(),
            num_sanity_val_steps=0,  # the module validates the start on all batches anyway
            callbacks=[
                ModelCheckpoint(folder, filename="best", monitor=MONITOR),
                EarlyStopping(MONITOR, patience=patience),
            ],
        )
        trainer.fit(module, datamodule=provider)
        best = best_of_run(trainer, module)
    return model if best.steps == 0 else finish(best, module=module, data=provider)


def best_of_run(trainer: pl.Trainer, module: ProjectionModule) -> Best:
    """Returns the best projection of a run: its best checkpoint, or its start if no worse.

    If it is the start, the file of the best checkpoint is overwritten with the start. Without
    validation it is the current projection.

    Args:
        trainer: Trainer of the run, after `fit`.
        module: Module that it trained.
    """
    callback = trainer.checkpoint_callback
    path = callback.best_model_path if isinstance(callback, ModelCheckpoint) else ""
    if not path:
        return Best(module.projection, steps=trainer.global_step)
    best = cast(ModelCheckpoint, callback)
    start = module.start_metrics.get(best.monitor or "")
    if start is not None and best.best_model_score is not None:
        score = float(best.best_model_score)
        improved = score < start if best.mode == "min" else score > start  # false for NaN
        if not improved:
            module.weight.data.copy_(module.start)
            trainer.save_checkpoint(path)
            return Best(module.projection, steps=0)
    found = load(Path(path))
    return Best(found.projection, steps=Recipe.from_json(found.recipe).steps)


def finish(best: Best, *, module: ProjectionModule, data: FactorData) -> Model:
    """Completes the model of a trained projection: adds heads, default weights, score spreads.

    Args:
        best: Best projection of the run.
        module: Module that was trained.
        data: Data module that it was trained on.
    """
    fitting = data.fitting_data
    return complete_model(
        best.projection,
        fitting.sources,
        recipe=replace(module.recipe, steps=best.steps),
        vectors=fitting.vectors,
        encoder=fitting.encoder.encoder.spec,
        fingerprint=fitting.encoder.encoder.fingerprint,
    )
