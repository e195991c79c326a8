"""ProjectionModule: trains the projection from its closed-form start."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from subspace.blocks import BlockLayout
from subspace.errors import CheckpointError, ConfigError
from subspace.fitting.block_spec import BlockSpecs, layout_of, read_blocks
from subspace.fitting.closed_form import read_dimensions, solve_closed_form
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.recipe import Recipe, Solver
from subspace.fitting.solve import complete_model
from subspace.model.checkpoint import MANIFEST_KEY, manifest, model_from_state
from subspace.model.encoder_check import encoder_differences
from subspace.model.model import Model
from subspace.model.projection import Projection
from subspace.training.batches import Batch
from subspace.training.losses import LossWeights
from subspace.training.objective import Objective
from subspace.training.trainer_checks import check_monitors, check_trainer

# Keys of a Lightning checkpoint: names of the training heads, and validation metrics of the start.
_HEADS_KEY = "subspace_heads"
_START_KEY = "subspace_start"

Stage = Literal["val", "test"]
# Computes metrics of a projection by name, such as its steering on held-out sources.
Measure = Callable[[Projection], Mapping[str, float]]


class DataProvider(Protocol):
    """The interface that the module needs of its data module."""

    @property
    def fitting_data(self) -> FittingData:
        """Data to learn from."""

    def recipe(self, blocks: Mapping[str, Any] | None) -> Recipe:
        """Returns the recipe for some blocks; for the default blocks if None."""


class ProjectionModule(pl.LightningModule):
    """Learns z = W (x - mu) on stored embeddings of a frozen encoder.

    Attributes:
        recipe: Recipe of the fit. `setup` makes it, and all attributes down to `objective`.
        layout: Blocks of the output.
        weight: W, a parameter (layout.dim, D).
        mean: mu, a buffer (D,).
        start: W of the closed form, a buffer (layout.dim, D).
        objective: Terms of the loss.
        start_metrics: Validation metrics of the start, by name; empty without validation.
        measure: If set, computes further metrics of the projection at every validation. They are
            logged as `val/NAME` and can be monitored.
    """

    recipe: Recipe
    layout: BlockLayout
    weight: nn.Parameter
    mean: Tensor
    start: Tensor
    objective: Objective

    def __init__(
        self,
        blocks: dict[str, int | dict[str, Any]] | None = None,
        solver: Solver = "closed_form",
        losses: LossWeights = LossWeights(),  # noqa: B008 (frozen; the CLI shows its fields)
        learning_rate: float = 1e-3,
        temperature: float = 0.1,
        hard_weight: float = 4.0,
    ) -> None:
        """Keeps the settings; the projection is made in `setup`, from the data's statistics.

        Args:
            blocks: Width, or settings, of each block by the name of its factor, in order; topic
                and every labelled factor, with the library's settings, if left out.
            solver: `closed_form` solves for the projection and takes no step; `sgd` trains from
                there.
            losses: Weights of the loss terms.
            learning_rate: Of Adam.
            temperature: Of the contrastive and keep losses.
            hard_weight: How often a negative with the same content counts, 1 or more.

        Raises:
            ConfigError: A setting is out of range.
            LayoutError: Names or widths of blocks are wrong.
        """
        super().__init__()
        for name, value in (("learning_rate", learning_rate), ("temperature", temperature)):
            if not 0 < value < np.inf:
                raise ConfigError(f"model.{name} must be above 0 and finite, got {value}")
        if not 1 <= hard_weight < np.inf:
            raise ConfigError(f"model.hard_weight must be 1 or more and finite, got {hard_weight}")
        if blocks is not None:
            read_blocks(blocks)  # raises for wrong blocks before any text is read
        self.solver = solver
        self.start_metrics: dict[str, float] = {}
        self.measure: Measure | None = None
        self._blocks = blocks
        self._weights = losses
        self._learning_rate = learning_rate
        self._temperature = temperature
        self._hard_weight = hard_weight
        self._given_start: Projection | None = None
        self._data: FittingData | None = None

    def start_from(self, projection: Projection) -> None:
        """Sets the projection to start from; without this call `setup` solves for it."""
        self._given_start = projection

    def setup(self, stage: str) -> None:
        """Makes the parameters from the moments of the data; a checkpoint may replace their values.

        Raises:
            ConfigError: The solver is `closed_form`, the trainer has a setting that cannot be used,
                or a block cannot be solved.
        """
        if stage == "fit":
            if self.solver == "closed_form":
                raise ConfigError(
                    "the closed form takes no step and needs no trainer: set solver to sgd, or "
                    "call subspace.fit"
                )
            check_trainer(self.trainer)
        if self._data is not None:
            return
        provider = cast(DataProvider, cast(Any, self.trainer).datamodule)
        data = provider.fitting_data
        self.recipe = replace(provider.recipe(self._blocks), solver="sgd")
        self.layout = layout_of(self.recipe.blocks)
        layers = data.encoder.encoder.fingerprint.layers
        start = self._given_start or solve_closed_form(
            data.moments, blocks=self.recipe.blocks, layers=layers
        )
        self.weight = nn.Parameter(torch.from_numpy(start.weight.copy()))
        self.register_buffer("mean", torch.from_numpy(start.mean.copy()))
        self.register_buffer("start", torch.from_numpy(start.weight.copy()))
        self.register_buffer("_mask", self._make_mask(layers), persistent=False)
        # Adam does not change weights whose gradient is 0, so columns of other layers stay at zero.
        hook = cast(Any, self.weight).register_hook
        hook(lambda gradient: gradient * self._mask)
        self.objective = Objective(
            data,
            blocks=self.recipe.blocks,
            start=self.start,
            weights=self._weights,
            temperature=self._temperature,
            hard_weight=self._hard_weight,
        )
        self._data = data

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns Adam for the projection and the training heads."""
        return torch.optim.Adam(self.parameters(), lr=self._learning_rate)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Returns the blocks (N, width) of embeddings (N, D), not scaled to unit length."""
        return self.layout.split((x - self.mean) @ self.weight.T)

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Computes the unweighted loss terms of one batch by name; skips terms of weight 0."""
        return self.objective.terms(batch, z=self(batch.x), weight=self.weight, start=self.start)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Returns the loss: the weighted sum of the terms."""
        # The added zero makes the loss a tensor with a gradient even if the batch has no terms.
        return self.objective.total(terms) + 0 * self.weight.sum()

    def training_step(self, batch: Batch) -> Tensor:
        """Computes the loss of one batch and logs its terms."""
        terms = self.loss_terms(batch)
        loss = self.total(terms)
        if cast(Any, self.trainer).world_size > 1:
            # Processes see different sources, but each step exchanges the gradients of all heads.
            loss = loss + 0 * sum(head.sum() for head in self.objective.heads.parameters())
        # Logging costs as much as a small matrix product, so it is done only in steps in which
        # Lightning passes metrics on to loggers. Lightning counts the current step, hence + 1.
        every = cast(Any, self.trainer).log_every_n_steps
        if every and (self.trainer.global_step + 1) % every == 0:
            logged = {f"train/{name}": term.detach() for name, term in terms.items()}
            self.log_dict({**logged, "train/loss": loss.detach()}, batch_size=len(batch.x))
        return loss

    def on_train_start(self) -> None:
        """Validates the start, so that training can be compared with it, and checks the monitors.

        Raises:
            ConfigError: Early stopping or the checkpoint callback monitors a metric that is not
                logged.
        """
        if self.trainer.global_step == 0:
            self.start_metrics = self._judge_start()
        check_monitors(self.trainer, known=self.start_metrics)

    def validation_step(self, batch: Batch) -> None:
        """Logs the loss terms of one source; every source counts the same."""
        self._log_terms("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics that `measure` computes, if it is set."""
        if self.measure is not None:
            self.log_dict({f"val/{name}": n for name, n in self.measure(self.projection).items()})

    def test_step(self, batch: Batch) -> None:
        """Logs the loss terms of one source's test texts."""
        self._log_terms("test", batch)

    @property
    def projection(self) -> Projection:
        """The current projection.

        Raises:
            ConfigError: Training has diverged.
        """
        weight = self.weight.detach().cpu().float().numpy().copy()
        if not np.isfinite(weight).all():
            raise ConfigError("training has diverged: set a lower model.learning_rate")
        mean = self.mean.cpu().float().numpy().copy()
        return Projection(weight=weight, mean=mean, layout=self.layout)

    def to_model(self) -> Model:
        """Returns a model of the current projection, without heads, which take long to fit."""
        data = self._require_data()
        encoder = data.encoder.encoder
        bare = complete_model(
            self.projection,
            {},
            recipe=replace(self.recipe, steps=self.trainer.global_step),
            vectors=data.vectors,
            encoder=encoder.spec,
            fingerprint=encoder.fingerprint,
        )
        return replace(bare, data={name: one.sha256 for name, one in data.sources.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the model's manifest, so that the file can be loaded without a YAML file."""
        checkpoint[MANIFEST_KEY] = manifest(self.to_model())
        checkpoint[_HEADS_KEY] = self.objective.head_names
        checkpoint[_START_KEY] = self.start_metrics

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reads the metrics of the start from a checkpoint; raises for one of another run.

        Raises:
            CheckpointError: Blocks, encoder or training heads differ. The message says which.
        """
        saved = model_from_state(checkpoint, name="the file of ckpt_path")
        mine = self._require_data().encoder.encoder.fingerprint
        differences = _block_differences(Recipe.from_json(saved.recipe).blocks, self.recipe.blocks)
        differences += encoder_differences(saved.fingerprint, mine)
        heads = checkpoint.get(_HEADS_KEY)
        # If blocks differ, heads differ as well, so naming them would add nothing.
        if not differences and heads != self.objective.head_names:
            differences = [f"heads: {heads}, not {self.objective.head_names}"]
        if differences:
            raise CheckpointError(
                f"the file of ckpt_path is of another run, with {'; '.join(differences)}. Give the "
                "settings that it was trained with (training.yaml in its folder)"
            )
        self.start_metrics = dict(checkpoint.get(_START_KEY, {}))

    def _make_mask(self, layers: tuple[int, ...]) -> Tensor:
        """Returns a mask (layout.dim, D): 1 where a block reads a dimension, 0 elsewhere."""
        mask = torch.zeros_like(self.start)
        for block, spec in self.recipe.blocks.items():
            dims = read_dimensions(block, spec, layers=layers, dim=mask.shape[1])
            mask[self.layout.slice(block), torch.from_numpy(dims)] = 1
        return mask

    def _stage_terms(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        terms = self.loss_terms(batch)
        named = {f"{stage}/{name}": term for name, term in terms.items()}
        loss = self.objective.total(terms, judged=True)
        return {**named, f"{stage}/loss": torch.as_tensor(loss)}

    def _log_terms(self, stage: Stage, batch: Batch) -> None:
        # Every process validates on the same batches, so their values differ by rounding only.
        terms = self._stage_terms(stage, batch)
        self.log_dict(terms, batch_size=1, sync_dist=True, add_dataloader_idx=False)

    @torch.no_grad()
    def _judge_start(self) -> dict[str, float]:
        """Returns the metrics of a validation before the first step; empty without validation."""
        trainer = cast(Any, self.trainer)
        if trainer.val_dataloaders is None:
            return {}
        found = defaultdict(list)
        count = int(min(trainer.num_val_batches))
        for _, batch in zip(range(count), trainer.val_dataloaders, strict=False):
            moved = trainer.strategy.batch_to_device(batch, self.device)
            with trainer.precision_plugin.val_step_context():
                for name, term in self._stage_terms("val", moved).items():
                    found[name].append(float(term))
        measured = {} if self.measure is None else self.measure(self.projection)
        return {
            **{name: float(np.mean(numbers)) for name, numbers in found.items()},
            **{f"val/{name}": float(number) for name, number in measured.items()},
        }

    def _require_data(self) -> FittingData:
        if self._data is None:
            raise ConfigError("the module has no data yet; fit it with a trainer first")
        return self._data


def _block_differences(theirs: BlockSpecs, mine: BlockSpecs) -> list[str]:
    """Returns one line that names how blocks differ; an empty list if they do not differ.

    The line names the widths if these differ, otherwise the settings of the first block that
    differs.
    """
    widths = [layout_of(specs).to_widths() for specs in (theirs, mine)]
    if list(widths[0].items()) != list(widths[1].items()):
        return [f"blocks: {widths[0]}, not {widths[1]}"]
    for name, spec in mine.items():
        if theirs[name] != spec:
            return [f"block '{name}': {theirs[name].to_json()}, not {spec.to_json()}"]
    return []
