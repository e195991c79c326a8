"""PooledModule: a model with its pooling as one torch module, from which runtimes convert."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from subspace.encoder.fingerprint import Fingerprint
from subspace.encoder.pooling import OWN_MEAN


class PooledModule(nn.Module):
    """Maps token embeddings of padded texts to the vectors of a fingerprint.

    The table of token embeddings is left out: it is looked up outside, where the file that holds it
    is mapped, and a query reads a few rows of it.
    """

    def __init__(self, model: Any, *, fingerprint: Fingerprint, causal: bool) -> None:
        """Wraps a model of transformers.

        Args:
            model: The model, in float32 on the processor.
            fingerprint: Which layers to pool, and how.
            causal: Whether tokens see only earlier tokens.
        """
        super().__init__()
        self.model = model
        self._causal = causal
        self._options = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
        self._depth = int(model.config.num_hidden_layers)
        self._layers = fingerprint.layers
        self._last = fingerprint.pooling
        self._early = fingerprint.early_pooling or fingerprint.pooling

    def forward(self, embeddings: Tensor, mask: Tensor, own: Tensor | None = None) -> Tensor:
        """Computes unit vectors of each layer, side by side (N, dim).

        Args:
            embeddings: Float32 (N, tokens, hidden size).
            mask: Float32 (N, tokens), 1 for tokens of the text, which come first.
            own: Float32 (N, tokens), 1 for the tokens that `own mean` pools.
        """
        seen = mask[:, None, None, :].bool()
        if self._causal:
            seen = seen & torch.ones_like(mask[0][None] * mask[0][:, None]).tril().bool()
        found = self.model(
            inputs_embeds=embeddings,
            attention_mask=seen,
            output_hidden_states=True,
            **self._options,
        )
        parts: list[Tensor] = []
        for layer in self._layers:
            if layer == self._depth:
                pooled = _pool(found.last_hidden_state, mask, how=self._last)
            elif self._early == OWN_MEAN:
                assert own is not None
                pooled = _pool(normalize(found.hidden_states[layer], dim=-1), own, how="mean")
            else:
                pooled = _pool(found.hidden_states[layer], mask, how=self._early)
            parts.append(normalize(pooled, dim=-1))
        return torch.cat(parts, dim=-1)


def _pool(states: Tensor, mask: Tensor, *, how: str) -> Tensor:
    """Pools states (N, tokens, dim), as the functions of `pooling` do for texts without padding."""
    if how == "cls":
        return states[:, 0]
    if how == "max":
        return states.masked_fill(mask[..., None] == 0, -torch.inf).amax(dim=1)
    if how == "lasttoken":
        mask = mask * (1 - pad(mask[:, 1:], (0, 1)))
    return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def look_up(model: Any, *, rows: Sequence[int]) -> Tensor:
    """Returns the embeddings of token ids (M, hidden size), as the model's own code makes them."""
    embedding = model.get_input_embeddings()
    found: Tensor = embedding(torch.tensor(list(rows)))
    return found
