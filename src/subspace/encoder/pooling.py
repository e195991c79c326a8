"""Pooling: the states of packed texts (tokens, dim) to one vector each (texts, dim).

The texts stand one after the other; `lengths` (texts,) says how many tokens each has.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Callable[["Tensor", "Tensor"], "Tensor"]


def first_token(states: "Tensor", lengths: "Tensor") -> "Tensor":
    """The state of the first token ([CLS] in BERT-like models)."""
    return states[lengths.cumsum(0) - lengths]


def last_token(states: "Tensor", lengths: "Tensor") -> "Tensor":
    """The state of the last token."""
    return states[lengths.cumsum(0) - 1]


def mean_tokens(states: "Tensor", lengths: "Tensor") -> "Tensor":
    """The mean over the tokens."""
    return _reduce(states, lengths, "mean")


def max_tokens(states: "Tensor", lengths: "Tensor") -> "Tensor":
    """The maximum of each dimension over the tokens."""
    return _reduce(states, lengths, "max")


# Names as sentence-transformers writes them into 1_Pooling/config.json.
POOLINGS: dict[str, Pooling] = {
    "cls": first_token,
    "lasttoken": last_token,
    "mean": mean_tokens,
    "max": max_tokens,
}


def _reduce(states: "Tensor", lengths: "Tensor", how: str) -> "Tensor":
    import torch

    return torch.segment_reduce(states, how, lengths=lengths, axis=0)
