"""Pooling: token states (batch, tokens, dim) and their mask (batch, tokens) to one vector each."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Callable[["Tensor", "Tensor"], "Tensor"]


def first_token(states: "Tensor", mask: "Tensor") -> "Tensor":
    """The state of the first token that is no padding ([CLS] in BERT-like models)."""
    return _pick(states, mask.int().argmax(dim=1))


def last_token(states: "Tensor", mask: "Tensor") -> "Tensor":
    """The state of the last token that is no padding, whichever side is padded."""
    # The count of tokens so far is largest from the last token on; argmax takes the first.
    return _pick(states, mask.int().cumsum(dim=1).argmax(dim=1))


def mean_tokens(states: "Tensor", mask: "Tensor") -> "Tensor":
    """The mean over the tokens that are no padding."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def max_tokens(states: "Tensor", mask: "Tensor") -> "Tensor":
    """The maximum of each dimension over the tokens that are no padding."""
    return states.masked_fill(~mask.bool().unsqueeze(-1), float("-inf")).amax(dim=1)


# Names as sentence-transformers writes them into 1_Pooling/config.json.
POOLINGS: dict[str, Pooling] = {
    "cls": first_token,
    "lasttoken": last_token,
    "mean": mean_tokens,
    "max": max_tokens,
}


def _pick(states: "Tensor", positions: "Tensor") -> "Tensor":
    index = positions[:, None, None].expand(-1, 1, states.shape[2])
    return states.gather(1, index).squeeze(1)
