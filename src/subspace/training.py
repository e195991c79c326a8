"""SeparationModule: trains the projection from its closed-form start."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from subspace.batches import Batch
from subspace.blocks import BlockLayout
from subspace.checkpoint import MANIFEST_KEY, Checkpoint
from subspace.closed_form import ClosedForm, guard_directions, solve_closed_form
from subspace.errors import ConfigError
from subspace.losses import (
    ProbeHead,
    class_contrastive,
    guard_penalty,
    keep_loss,
    ordered_contrastive,
)
from subspace.projection import Projection
from subspace.training_data import TrainingData

# Length of a spare row at the start, relative to the longest of its block.
_SPARE = 1e-3

Stage = Literal["train", "val", "test"]


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts; 0 leaves a term out altogether.

    Attributes:
        contrastive: Same label close, others apart, inside the factor's block.
        probe: A linear head on the block predicts its own factor.
        guard: Nothing linear predicts another factor from the block.
        keep: The blocks together, and the content block alone, rank like the raw embedding.
    """

    contrastive: float = 1.0
    probe: float = 0.5
    guard: float = 10.0
    keep: float = 5.0

    def __post_init__(self) -> None:
        """Checks that every weight is finite and not negative."""
        for name, weight in asdict(self).items():
            if not np.isfinite(weight) or weight < 0:
                raise ConfigError(f"model.losses.{name} must be 0 or more, got {weight}")


class DataProvider(Protocol):
    """What the module asks of its data module."""

    @property
    def training_data(self) -> TrainingData:
        """Statistics and description of the training texts."""


class SeparationModule(pl.LightningModule):
    """Learns z = W (x - mu) on stored embeddings of a frozen encoder.

    Attributes:
        layout: The blocks of the output.
        weight: W, a parameter (layout.dim, D); made in `setup`.
        mean: mu, a buffer (D,).
    """

    weight: nn.Parameter
    mean: Tensor

    def __init__(
        self,
        blocks: dict[str, int] | None = None,
        solver: Literal["sgd", "closed_form"] = "sgd",
        closed_form: ClosedForm = ClosedForm(),  # noqa: B008 (frozen; the CLI shows its fields)
        losses: LossWeights = LossWeights(),
        learning_rate: float = 1e-3,
        temperature: float = 0.1,
        hard_weight: float = 4.0,
    ) -> None:
        """Keeps the settings; the projection is made in `setup`, from the data's statistics.

        Args:
            blocks: Width of each block by the name of its factor, in order; 4 x 256 if left
                out.
            solver: `sgd` starts from the closed form and trains; `closed_form` stops there.
            closed_form: Settings of the closed-form start.
            losses: Weights of the loss terms.
            learning_rate: Of Adam.
            temperature: Of the contrastive and keep losses.
            hard_weight: How often a negative with the same content counts, 1 or more.

        Raises:
            ConfigError: A setting is out of range.
            LayoutError: Names or widths of blocks are wrong.
        """
        super().__init__()
        if learning_rate <= 0 or temperature <= 0 or hard_weight < 1:
            raise ConfigError(
                f"model.learning_rate (got {learning_rate}) and model.temperature (got "
                f"{temperature}) must be above 0, model.hard_weight 1 or more (got {hard_weight})"
            )
        self.layout = BlockLayout.from_widths(
            blocks or dict.fromkeys(("topic", "style", "complexity", "specificity"), 256)
        )
        self.solver = solver
        self._closed_form = closed_form
        self._weights = losses
        self._learning_rate = learning_rate
        self._temperature = temperature
        self._hard_weight = hard_weight
        self._data: TrainingData | None = None
        # By block: class means of the other factors, and the directions closed to its rows.
        self._classes: dict[str, Tensor] = {}
        self._guards: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:  # noqa: ARG002 (all stages need the same)
        """Solves the closed form from the data's statistics; a checkpoint may replace it."""
        if self._data is not None:
            return
        provider = cast(DataProvider, cast(Any, self.trainer).datamodule)
        self._data = data = provider.training_data
        start = solve_closed_form(
            data.statistics,
            layout=self.layout,
            settings=self._closed_form,
            raw=data.fingerprint.last_layer,
        )
        self.weight = nn.Parameter(torch.from_numpy(start.projection.weight))
        self.register_buffer("mean", torch.from_numpy(start.projection.mean))
        heads = [head for head in data.heads if head.factor in self.layout.names]
        self._head_positions = {
            (list(data.statistics).index(head.source), head.factor): position
            for position, head in enumerate(heads)
        }
        self.heads = nn.ModuleList(
            ProbeHead(
                width=self.layout.to_widths()[head.factor],
                class_count=head.class_count,
                mean=head.mean,
                scale=head.scale,
            )
            for head in heads
        )
        for block in self.layout:
            classes = guard_directions(data.statistics, block=block)
            self._classes[block] = torch.from_numpy(classes.astype(np.float32))
            self._guards[block] = torch.from_numpy(start.guards[block].astype(np.float32))
        if self.solver == "sgd":
            self._open_spare_rows()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on the projection and the probe heads."""
        return torch.optim.Adam(self.parameters(), lr=self._learning_rate)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Unit vectors of every block for embeddings (N, D)."""
        blocks = self.layout.split((x - self.mean) @ self.weight.T)
        return {name: normalize(block, dim=-1) for name, block in blocks.items()}

    def training_step(self, batch: Batch) -> Tensor:
        """The weighted sum of the loss terms."""
        terms = self.loss_terms(batch)
        loss = self.total(terms)
        # Logging costs as much as a small matrix product: only where a logger listens.
        if self.trainer.global_step % cast(Any, self.trainer).log_every_n_steps == 0:
            self._log_terms("train", terms, loss=loss, count=len(batch.x))
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Steps, then puts W back onto the constraint of the guard."""
        super().optimizer_step(*args, **kwargs)
        self.apply_guard()

    @torch.no_grad()
    def apply_guard(self) -> None:
        """Takes from each block's rows what lies along the other factors' class means."""
        for name, directions in self._guards.items():
            rows = self.weight[self.layout.slice(name)]
            closed = directions.to(rows.device)
            rows -= (rows @ closed) @ closed.T

    def validation_step(self, batch: Batch) -> None:
        """Logs the same terms on one source's validation texts."""
        terms = self.loss_terms(batch)
        self._log_terms("val", terms, loss=self.total(terms), count=len(batch.x))

    def test_step(self, batch: Batch) -> None:
        """Logs the same terms on one source's test texts."""
        terms = self.loss_terms(batch)
        self._log_terms("test", terms, loss=self.total(terms), count=len(batch.x))

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of one batch by name, unweighted; terms of weight 0 are not computed."""
        z = self.layout.split((batch.x - self.mean) @ self.weight.T)
        units = {name: normalize(block, dim=-1) for name, block in z.items()}
        terms: dict[str, Tensor] = {}
        own = [name for name in self.layout if name in batch.codes]
        if self._weights.contrastive:
            for name in own:
                terms[f"contrastive/{name}"] = self._contrastive(units[name], batch, name)
        if self._weights.probe:
            for name in own:
                terms[f"probe/{name}"] = self._probe(units[name], batch, name)
        if self._weights.guard:
            for name in self.layout:
                terms[f"guard/{name}"] = guard_penalty(
                    self.weight[self.layout.slice(name)],
                    classes=self._classes[name].to(self.weight.device),
                    z=z[name],
                )
        if self._weights.keep:
            raw = normalize(batch.x[:, self._require_data().fingerprint.last_layer], dim=-1)
            scores = {name: unit @ unit.T for name, unit in units.items()}
            kept = {"all": torch.stack(list(scores.values())).mean(dim=0)}
            if self._closed_form.content in scores:
                kept[self._closed_form.content] = scores[self._closed_form.content]
            for name, similarity in kept.items():
                terms[f"keep/{name}"] = keep_loss(raw, similarity, temperature=self._temperature)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Weighted sum; each kind of term is the mean over the blocks that have it."""
        total = self.weight.new_zeros(())
        for kind, weight in asdict(self._weights).items():
            parts = [term for name, term in terms.items() if name.split("/")[0] == kind]
            if parts:
                total = total + weight * torch.stack(parts).mean()
        return total

    def to_checkpoint(self) -> Checkpoint:
        """The projection as it stands, ready to save or to use."""
        data = self._require_data()
        return Checkpoint(
            projection=Projection(
                weight=self.weight.detach().cpu().numpy().copy(),
                mean=self.mean.cpu().numpy().copy(),
                layout=self.layout,
            ),
            encoder_model=data.encoder_model,
            fingerprint=data.fingerprint,
            data_sha256=data.data_sha256,
            training={"solver": self.solver, "step": self.trainer.global_step},
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the manifest into the Lightning file, so that it can be used without a YAML."""
        checkpoint[MANIFEST_KEY] = self.to_checkpoint().manifest()

    @torch.no_grad()
    def _open_spare_rows(self) -> None:
        """Gives rows that the closed form has no use for a small random start.

        At zero they would have no gradient. The same for every seed: what a run learns should
        not hang on them.
        """
        generator = torch.Generator().manual_seed(0)
        for rows in self.layout.split(self.weight.T).values():
            norms = rows.norm(dim=0)
            noise = torch.randn(rows.shape, generator=generator) / rows.shape[0] ** 0.5
            rows += torch.where(norms > 0, 0.0, _SPARE * norms.max() * noise)
        self.apply_guard()

    def _contrastive(self, z: Tensor, batch: Batch, factor: str) -> Tensor:
        known = batch.codes[factor] >= 0
        if factor in batch.values:
            return ordered_contrastive(
                z[known], values=batch.values[factor][known], temperature=self._temperature
            )
        return class_contrastive(
            z[known],
            codes=batch.codes[factor][known],
            groups=batch.groups[known],
            temperature=self._temperature,
            hard_weight=self._hard_weight,
        )

    def _probe(self, z: Tensor, batch: Batch, factor: str) -> Tensor:
        known = batch.codes[factor] >= 0
        if not known.any():
            return z.sum() * 0
        head = cast(ProbeHead, self.heads[self._head_positions[batch.source, factor]])
        labels = batch.values[factor] if factor in batch.values else batch.codes[factor]
        return head.loss(z[known], labels=labels[known])

    def _log_terms(
        self, stage: Stage, terms: dict[str, Tensor], *, loss: Tensor, count: int
    ) -> None:
        logged = {f"{stage}/{name}": term.detach() for name, term in terms.items()}
        logged[f"{stage}/loss"] = loss.detach()
        self.log_dict(logged, batch_size=count, prog_bar=False, add_dataloader_idx=False)

    def _require_data(self) -> TrainingData:
        if self._data is None:
            raise ConfigError("the module has no data yet; fit it with a trainer first")
        return self._data
