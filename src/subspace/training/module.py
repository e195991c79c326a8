"""SeparationModule: trains the projection from its closed-form start."""

from dataclasses import asdict
from typing import Any, Literal, Protocol, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from subspace.blocks import BlockLayout
from subspace.errors import CheckpointError, ConfigError
from subspace.fitting.closed_form import RESIDUAL, ClosedForm, guard_directions, solve_closed_form
from subspace.fitting.pair_blocks import (
    ANSWER,
    PAIR_BLOCKS,
    FromPairs,
    add_pair_blocks,
    check_pairs,
    factor_layout,
)
from subspace.model import MANIFEST_KEY, Checkpoint, read_state
from subspace.model.projection import Projection, QuerySide
from subspace.training.batches import Batch
from subspace.training.losses import (
    LossWeights,
    ProbeHead,
    class_contrastive,
    guard_penalty,
    keep_loss,
    ordered_contrastive,
    pair_contrastive,
)
from subspace.training.pair_batches import PairBatch
from subspace.training.training_data import TrainingData

# Where a Lightning file says what its probe heads read.
_HEADS_KEY = "subspace_heads"

# Length of a spare row at the start, relative to the longest of its block.
_SPARE = 1e-3

Stage = Literal["train", "val", "test"]


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
        query_weight: Another W for queries, where blocks are learned from pairs.
    """

    weight: nn.Parameter
    mean: Tensor
    query_weight: nn.Parameter
    offset: Tensor
    query_offset: Tensor
    query_centre: Tensor
    document_centre: Tensor

    def __init__(
        self,
        blocks: dict[str, int] | None = None,
        solver: Literal["sgd", "closed_form"] = "sgd",
        closed_form: ClosedForm = ClosedForm(),  # noqa: B008 (frozen; the CLI shows its fields)
        pairs: FromPairs = FromPairs(),  # noqa: B008
        losses: LossWeights = LossWeights(),  # noqa: B008
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
            pairs: Settings of the blocks `match` and `answer`, which are learned from data.pairs.
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
        if solver == "sgd" and (
            closed_form.spread or closed_form.reads or RESIDUAL in (blocks or {})
        ):
            raise ConfigError(
                "model.closed_form.spread, model.closed_form.reads and a residual block need "
                "model.solver: closed_form; training would wash the constant and the residual "
                "out, and read all layers (a file of pairs goes after one that names a solver: "
                "--config configs/real.yaml --config configs/pairs.yaml)"
            )
        self.layout = BlockLayout.from_widths(
            blocks or dict.fromkeys(("topic", "style", "complexity", "specificity"), 256)
        )
        if not factor_layout(self.layout):
            raise ConfigError(
                "model.blocks needs a factor's block beside those learned from pairs, such as "
                "topic: 32"
            )
        self.solver = solver
        self._closed_form = closed_form
        self._from_pairs = pairs
        self._weights = losses
        self._learning_rate = learning_rate
        self._temperature = temperature
        self._hard_weight = hard_weight
        self._data: TrainingData | None = None
        self._pair_blocks: list[str] = []
        # By block: class means of the other factors, and the directions closed to its rows.
        self._classes: dict[str, Tensor] = {}
        self._guards: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:  # noqa: ARG002 (all stages need the same)
        """Solves the closed form from the data's statistics; a checkpoint may replace it."""
        if self._data is not None:
            return
        provider = cast(DataProvider, cast(Any, self.trainer).datamodule)
        self._data = data = provider.training_data
        factors = factor_layout(self.layout)
        assert factors is not None
        start = solve_closed_form(
            data.statistics,
            layout=factors,
            settings=self._closed_form,
            raw=data.fingerprint.last_layer,
        )
        projection = start.projection
        together = data.together
        check_pairs(self.layout, given=together is not None)
        if together is not None:
            projection = add_pair_blocks(
                projection, layout=self.layout, together=together, settings=self._from_pairs
            )
        self.weight = nn.Parameter(torch.from_numpy(projection.weight))
        self.register_buffer("mean", torch.from_numpy(projection.mean))
        if together is not None:
            self._hold_pairs(projection, centres=together.centres)
        heads = [head for head in data.heads if head.factor in self.layout.names]
        self._head_positions = {
            (list(data.statistics).index(head.source), head.factor): position
            for position, head in enumerate(heads)
        }
        self._head_names = [
            f"{head.factor} of {head.source} "
            f"({f'{head.class_count} classes' if head.class_count else 'numbers'})"
            for head in heads
        ]
        self.heads = nn.ModuleList(
            ProbeHead(
                width=self.layout.to_widths()[head.factor],
                class_count=head.class_count,
                mean=head.mean,
                scale=head.scale,
            )
            for head in heads
        )
        for block in factors:
            classes = guard_directions(data.statistics, block=block)
            self._classes[block] = torch.from_numpy(classes.astype(np.float32))
            self._guards[block] = torch.from_numpy(start.guards[block].astype(np.float32))
        if self.solver == "sgd":
            self._open_spare_rows()
            self._tie_queries()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on the projection and the probe heads."""
        return torch.optim.Adam(self.parameters(), lr=self._learning_rate)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The blocks (N, width) of embeddings (N, D), not yet scaled to unit length."""
        z = (x - self.mean) @ self.weight.T
        return self.layout.split(z - self.offset if self._pair_blocks else z)

    def training_step(self, batch: Batch | PairBatch) -> Tensor:
        """The weighted sum of the loss terms."""
        terms = self.loss_terms(batch)
        loss = self.total(terms)
        # Logging costs as much as a small matrix product: only in the steps of which Lightning
        # hands the metrics on. It counts the step that is under way.
        every = cast(Any, self.trainer).log_every_n_steps
        if every and (self.trainer.global_step + 1) % every == 0:
            self._log_terms("train", terms, loss=loss, count=_count(batch))
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Steps, then puts W back onto the constraint of the guard."""
        super().optimizer_step(*args, **kwargs)
        self.apply_guard()
        self._tie_queries()

    @torch.no_grad()
    def apply_guard(self) -> None:
        """Takes from each block's rows what lies along the other factors' class means."""
        for name, directions in self._guards.items():
            rows = self.weight[self.layout.slice(name)]
            closed = directions.to(rows.device)
            rows -= (rows @ closed) @ closed.T

    def validation_step(self, batch: Batch | PairBatch) -> None:
        """Logs the same terms on one source's validation texts."""
        terms = self.loss_terms(batch)
        self._log_terms("val", terms, loss=self.total(terms), count=_count(batch))

    def test_step(self, batch: Batch | PairBatch) -> None:
        """Logs the same terms on one source's test texts."""
        terms = self.loss_terms(batch)
        self._log_terms("test", terms, loss=self.total(terms), count=_count(batch))

    def loss_terms(self, batch: Batch | PairBatch) -> dict[str, Tensor]:
        """The terms of one batch by name, unweighted; terms of weight 0 are not computed."""
        return self._pair_terms(batch) if isinstance(batch, PairBatch) else self._terms(batch)

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Weighted sum; each kind of term is the mean over the blocks that have it."""
        total = self.weight.sum() * 0  # a batch whose terms all have weight 0 teaches nothing
        for kind, weight in asdict(self._weights).items():
            parts = [term for name, term in terms.items() if name.split("/")[0] == kind]
            if parts:
                total = total + weight * torch.stack(parts).mean()
        return total

    def to_checkpoint(self) -> Checkpoint:
        """The projection as it stands, ready to save or to use."""
        data = self._require_data()
        return Checkpoint(
            projection=self._to_projection(),
            encoder_model=data.encoder_model,
            fingerprint=data.fingerprint,
            data_sha256=data.data_sha256,
            training={
                "solver": self.solver,
                "step": self.trainer.global_step,
                "closed_form": self._closed_form.to_json(),
                **({"pairs": asdict(self._from_pairs)} if self._pair_blocks else {}),
                **data.recipe,
            },
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the manifest into the Lightning file, so that it can be used without a YAML."""
        checkpoint[MANIFEST_KEY] = self.to_checkpoint().manifest()
        checkpoint[_HEADS_KEY] = self._head_names

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses the state of another run before any of it is taken over.

        Raises:
            CheckpointError: With what differs: blocks, encoder or probe heads.
        """
        saved = read_state(checkpoint, name="the file of ckpt_path")
        differences = []
        if saved.projection.layout != self.layout:
            theirs, mine = saved.projection.layout.to_widths(), self.layout.to_widths()
            differences.append(f"blocks: {theirs}, not {mine}")
        differences += saved.encoder_differences(self._require_data().fingerprint)
        # Another layout has other heads as well, which would say nothing new.
        differences = differences or self._head_differences(checkpoint)
        if differences:
            raise CheckpointError(
                f"the file of ckpt_path is of another run, with {'; '.join(differences)}. Give the "
                "settings that it was trained with (training.yaml in its folder)"
            )

    def _head_differences(self, checkpoint: dict[str, Any]) -> list[str]:
        """One line if the probe heads are others: among the tensors they are only numbered."""
        names = checkpoint.get(_HEADS_KEY)
        if names == self._head_names:
            return []
        if names is not None:
            return [f"heads: {names}, not {self._head_names}"]
        # A file from before heads were named: their shapes are all it says of them.
        theirs, mine = (
            {key: tuple(value.shape) for key, value in state.items() if key.startswith("heads.")}
            for state in (checkpoint["state_dict"], self.state_dict())
        )
        return [] if theirs == mine else [f"heads: {theirs}, not {mine}"]

    def _hold_pairs(self, projection: Projection, *, centres: tuple[Any, Any]) -> None:
        """Keeps what queries are projected with, and the means of queries and documents."""
        assert projection.query is not None
        assert projection.offset is not None
        self._pair_blocks = [name for name in PAIR_BLOCKS if name in self.layout.names]
        self.query_weight = nn.Parameter(torch.from_numpy(projection.query.weight))
        self.register_buffer("offset", torch.from_numpy(projection.offset))
        self.register_buffer("query_offset", torch.from_numpy(projection.query.offset))
        for name, centre in zip(("query_centre", "document_centre"), centres, strict=True):
            tensor = torch.from_numpy(centre.astype(np.float32))
            self.register_buffer(name, tensor, persistent=False)

    def _pair_terms(self, batch: PairBatch) -> dict[str, Tensor]:
        """The contrastive term of each block learned from pairs."""
        terms: dict[str, Tensor] = {}
        for name in self._pair_blocks if self._weights.pairs else ():
            rows = self.layout.slice(name)
            asked = self.query_weight if name == ANSWER else self.weight
            terms[f"pairs/{name}"] = pair_contrastive(
                normalize((batch.queries - self.query_centre) @ asked[rows].T, dim=-1),
                normalize((batch.documents - self.document_centre) @ self.weight[rows].T, dim=-1),
                relevant=batch.relevant,
                temperature=self._temperature,
            )
        return terms

    @torch.no_grad()
    def _tie_queries(self) -> None:
        """Brings in line what follows from W: queries' rows of shared blocks, and offsets."""
        if not self._pair_blocks:
            return
        for name in self.layout:
            rows = self.layout.slice(name)
            if name != ANSWER:
                self.query_weight[rows] = self.weight[rows]
            if name in self._pair_blocks:
                self.offset[rows] = self.weight[rows] @ (self.document_centre - self.mean)
                self.query_offset[rows] = self.query_weight[rows] @ (self.query_centre - self.mean)

    def _to_projection(self) -> Projection:
        def array(tensor: Tensor) -> Any:
            return tensor.detach().cpu().numpy().copy()

        apart = bool(self._pair_blocks)
        return Projection(
            weight=array(self.weight),
            mean=array(self.mean),
            layout=self.layout,
            offset=array(self.offset) if apart else None,
            query=(
                QuerySide(weight=array(self.query_weight), offset=array(self.query_offset))
                if apart
                else None
            ),
        )

    @torch.no_grad()
    def _open_spare_rows(self) -> None:
        """Gives rows that the closed form has no use for a small random start.

        At zero they would have no gradient. The same for every seed: what a run learns should
        not hang on them.
        """
        generator = torch.Generator().manual_seed(0)
        for block, rows in self.layout.split(self.weight.T).items():
            if block in PAIR_BLOCKS:
                continue
            norms = rows.norm(dim=0)
            noise = torch.randn(rows.shape, generator=generator) / rows.shape[0] ** 0.5
            rows += torch.where(norms > 0, 0.0, _SPARE * norms.max() * noise)
        self.apply_guard()

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        z = self(batch.x)
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
            for name in self._classes:
                terms[f"guard/{name}"] = guard_penalty(
                    self.weight[self.layout.slice(name)],
                    classes=self._classes[name].to(self.weight.device),
                    z=z[name],
                )
        if self._weights.keep:
            raw = normalize(batch.x[:, self._require_data().fingerprint.last_layer], dim=-1)
            scores = {name: unit @ unit.T for name, unit in units.items()}
            # Not those learned from pairs: queries meet documents there by another matrix.
            ranked = [scores[name] for name in scores if name not in PAIR_BLOCKS]
            kept = {"all": torch.stack(ranked).mean(dim=0)}
            if self._closed_form.content in scores:
                kept[self._closed_form.content] = scores[self._closed_form.content]
            for name, similarity in kept.items():
                terms[f"keep/{name}"] = keep_loss(raw, similarity, temperature=self._temperature)
        return terms

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


def _count(batch: Batch | PairBatch) -> int:
    return len(batch.queries) if isinstance(batch, PairBatch) else len(batch.x)
