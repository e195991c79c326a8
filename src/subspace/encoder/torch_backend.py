"""The encoder's forward pass with torch: on a processor or a GPU, with texts packed or padded."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subspace.arrays import Ints, Vectors
from subspace.encoder.fingerprint import Fingerprint
from subspace.encoder.model import Beginning, FrozenModel
from subspace.encoder.pooling import OWN_MEAN, POOLINGS, mean_tokens
from subspace.encoder.tokens import OwnTokens, common_beginning, count_shared, cut_batches

if TYPE_CHECKING:
    from torch import Tensor

# With fewer texts or shared tokens, a separate forward pass for the shared beginning saves no time.
_SHARED_TEXTS, _SHARED_TOKENS = 4, 8
# After a shared beginning, attention needs a mask of tokens x tokens: too large for longer texts.
_LONGEST_BEHIND = 2048
# This many tokens of a shared beginning take about as much memory as one computed token.
_BEHIND_PER_TOKEN = 64


class TorchBackend:
    """A model in torch. The weights are loaded when they are first needed."""

    def __init__(
        self, folder: Path, *, fingerprint: Fingerprint, device: str, batch_tokens: int | None
    ) -> None:
        """Names what to load and how to run it.

        Args:
            folder: The model's files.
            fingerprint: How to pool, and in what precision to compute.
            device: A device name of torch.
            batch_tokens: Tokens per forward pass; None for what the device works fastest with.
        """
        self._folder = folder
        self._fingerprint = fingerprint
        self._device = device
        self._batch_tokens = batch_tokens

    @cached_property
    def model(self) -> FrozenModel:
        """The model with its weights."""
        return FrozenModel(self._folder, dtype=self._fingerprint.dtype, device=self._device)

    def encode(self, ids: Sequence[Ints], *, own: OwnTokens) -> Iterator[tuple[Ints, Vectors]]:
        """Yields the positions and vectors (M, dim) of a batch of texts, each text once.

        Args:
            ids: Token ids of each text.
            own: Finds the tokens of a text itself.
        """
        shared = self._share_beginning(ids, prompt=own.prompt)
        skip = shared.length if shared else 0
        for positions in self.cut([one[skip:] for one in ids], behind=skip):
            batch = [ids[position] for position in positions]
            yield positions, self._pool(batch, beginning=shared, own=own)

    def cut(self, ids: Sequence[Ints], *, behind: int = 0) -> Iterator[Ints]:
        """Yields the positions of each batch's texts, which follow `behind` shared tokens."""
        most = self._batch_tokens or self.model.batch_tokens()
        # Attention copies the keys and values of the shared beginning for every text.
        lengths = [len(one) + behind // _BEHIND_PER_TOKEN for one in ids]
        if self.model.alone:
            most = 1
        return cut_batches(lengths, most=most, padded=not self.model.packs)

    @property
    def _pools_own(self) -> bool:
        return self._fingerprint.early_pooling == OWN_MEAN

    def _share_beginning(self, ids: Sequence[Ints], *, prompt: Ints) -> Beginning | None:
        """Runs the tokens that all texts begin with; None if inexact or without a gain in time."""
        early = self._fingerprint.early_pooling in (None, OWN_MEAN)
        if len(ids) < _SHARED_TEXTS or self._fingerprint.pooling != "lasttoken" or not early:
            return None
        length = common_beginning(ids)
        if self._pools_own:  # the texts' own tokens are needed, each for its text
            length = min(length, *(count_shared(one, prompt) for one in ids))
        if length < _SHARED_TOKENS or max(map(len, ids)) > _LONGEST_BEHIND:
            return None
        if not (self.model.packs and self.model.causal):
            return None
        return self.model.begin(ids[0][:length])

    def _pool_early(
        self, batch: Sequence[Ints], *, lengths: "Tensor", skip: int, own: OwnTokens
    ) -> "Callable[[Tensor], Tensor]":
        """Returns the pooling of the layers before the last, for the tokens after `skip`."""
        import torch
        from torch.nn.functional import normalize

        if not self._pools_own:
            pool = POOLINGS[self._fingerprint.early_pooling or self._fingerprint.pooling]
            return lambda states: pool(states, lengths)
        pooled = [own.pooled(ids) - skip for ids in batch]
        starts = np.cumsum([0, *(len(ids) - skip for ids in batch[:-1])])
        rows = np.concatenate([kept + start for kept, start in zip(pooled, starts, strict=True)])
        kept = torch.from_numpy(rows).to(self._device)
        counts = torch.tensor([len(one) for one in pooled], device=self._device)
        return lambda states: mean_tokens(normalize(states[kept], dim=-1), counts)

    def _pool(
        self, batch: Sequence[Ints], *, beginning: Beginning | None, own: OwnTokens
    ) -> Vectors:
        """Runs texts, whose first tokens may be a shared beginning that was run before."""
        import torch
        from torch.nn.functional import normalize

        skip = beginning.length if beginning else 0
        last, depth = POOLINGS[self._fingerprint.pooling], self.model.depth
        lengths = torch.tensor([len(ids) - skip for ids in batch], device=self._device)
        early = self._pool_early(batch, lengths=lengths, skip=skip, own=own)

        def reduce(layer: int, states: "Tensor") -> "Tensor":
            pooled = last(states, lengths) if layer == depth else early(states)
            return normalize(pooled, dim=-1)

        pooled = self.model.run(
            [ids[skip:] for ids in batch],
            layers=self._fingerprint.layers,
            reduce=reduce,
            beginning=beginning,
        )
        vectors: Vectors = torch.cat(pooled, dim=-1).cpu().numpy()
        return vectors
