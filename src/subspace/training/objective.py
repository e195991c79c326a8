"""Objective: the terms of the training loss for one batch, and their weighted sum."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from subspace.blocks import BlockLayout
from subspace.fitting.block_spec import BlockSpecs, layout_of
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.scatter import total_scatter
from subspace.training.batches import Batch
from subspace.training.losses import (
    LossWeights,
    TrainingHead,
    anchor_penalty,
    class_contrastive,
    erasure_penalty,
    keep_loss,
    ordered_contrastive,
    other_class_means,
)
from subspace.training.training_parts import training_heads, training_parts

# The validation loss sums only terms that measure what the projection does to texts. The heads of
# the probe start untrained, so that their term would fall whatever the projection does. The anchor
# does not depend on the texts of a batch.
_JUDGED = ("contrastive", "keep", "erasure")


class Objective(nn.Module):
    """The terms of the training loss and their weighted sum.

    Attributes:
        layout: Layout of the blocks.
        heads: Linear heads of the probe loss: one for every labelled factor of every source, if the
            factor has a block.
        head_names: Description of each head, in the same order.
    """

    def __init__(
        self,
        data: FittingData,
        *,
        blocks: BlockSpecs,
        start: Tensor,
        weights: LossWeights,
        temperature: float,
        hard_weight: float,
    ) -> None:
        """Makes the heads, and computes the constants of the terms that have a weight above 0.

        Args:
            data: Data to learn from.
            blocks: Settings of each block.
            start: W of the closed form (layout.dim, D).
            weights: Weights of the terms.
            temperature: Temperature of the contrastive and keep losses.
            hard_weight: Weight of hard negatives (same content, other label) in the contrastive
                loss, 1 or more.
        """
        super().__init__()
        self.layout: BlockLayout = layout_of(blocks)
        self._weights = weights
        self._temperature = temperature
        self._hard_weight = hard_weight
        self._raw = data.encoder.encoder.fingerprint.last_layer
        self._kept = [name for name, spec in blocks.items() if not spec.signal_power]
        self._energies: dict[str, float] = {}
        if weights.anchor:
            scatter = total_scatter(data.moments, dims=np.arange(start.shape[1]))
            self._hold("_scatter", torch.from_numpy(scatter))
            energies = ((start.double() @ torch.from_numpy(scatter)) * start).sum(dim=1)
            self._energies = {n: float(energies[self.layout.slice(n)].sum()) for n in self.layout}
        for number, name in enumerate(self.layout if weights.erasure else ()):
            means = other_class_means(data.moments, block=name)
            self._hold(f"_other_means_{number}", torch.from_numpy(means))
        heads = [head for head in training_heads(data) if head.factor in self.layout.names]
        sources = list(training_parts(data))
        widths = self.layout.to_widths()
        self._head_positions = {
            (sources.index(head.source), head.factor): n for n, head in enumerate(heads)
        }
        self.head_names = [str(head) for head in heads]
        self.heads = nn.ModuleList(
            TrainingHead(
                width=widths[head.factor],
                class_count=head.class_count,
                mean=head.mean,
                scale=head.scale,
            )
            for head in heads
        )

    def terms(
        self, batch: Batch, *, z: Mapping[str, Tensor], weight: Tensor, start: Tensor
    ) -> dict[str, Tensor]:
        """Computes the unweighted terms by name (`contrastive/style`); skips terms of weight 0.

        Args:
            batch: Texts of one source.
            z: Blocks of the texts (N, width), not scaled to unit length.
            weight: W (layout.dim, D).
            start: W of the closed form (layout.dim, D).
        """
        units = {name: normalize(block, dim=-1) for name, block in z.items()}
        terms: dict[str, Tensor] = {}
        for name in (name for name in self.layout if name in batch.codes):
            if self._weights.contrastive:
                terms[f"contrastive/{name}"] = self._contrastive(units[name], batch, name)
            head = self._head_positions.get((batch.source, name))
            if self._weights.probe and head is not None:
                terms[f"probe/{name}"] = self._probe(units[name], batch, name, head=head)
        if self._weights.keep and self._kept:
            raw = normalize(batch.x[:, self._raw], dim=-1)
            for name in self._kept:
                similarity = units[name] @ units[name].T
                terms[f"keep/{name}"] = keep_loss(raw, similarity, temperature=self._temperature)
        for number, name in enumerate(self.layout):
            rows = self.layout.slice(name)
            if self._weights.anchor:
                terms[f"anchor/{name}"] = anchor_penalty(
                    weight[rows],
                    start=start[rows],
                    scatter=cast(Tensor, self._scatter),
                    energy=self._energies[name],
                )
            if self._weights.erasure:
                means = cast(Tensor, getattr(self, f"_other_means_{number}"))
                terms[f"erasure/{name}"] = erasure_penalty(weight[rows], means=means, z=z[name])
        return terms

    def total(self, terms: Mapping[str, Tensor], *, judged: bool = False) -> Tensor | float:
        """Returns the weighted sum; each kind of term is averaged over the blocks that have it.

        Args:
            terms: Terms by name.
            judged: Leaves out terms that do not measure the quality of the projection.
        """
        total: Tensor | float = 0.0
        for kind, weight in asdict(self._weights).items():
            parts = [term for name, term in terms.items() if name.split("/")[0] == kind]
            if parts and (kind in _JUDGED or not judged):
                total = total + weight * torch.stack(parts).mean()
        return total

    def _hold(self, name: str, tensor: Tensor) -> None:
        """Registers a constant that is moved with the parameters but not saved in checkpoints."""
        self.register_buffer(name, tensor.float(), persistent=False)

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

    def _probe(self, z: Tensor, batch: Batch, factor: str, *, head: int) -> Tensor:
        known = batch.codes[factor] >= 0
        if not known.any():
            return z.sum() * 0
        labels = batch.values[factor] if factor in batch.values else batch.codes[factor]
        return cast(TrainingHead, self.heads[head]).loss(z[known], labels=labels[known])
