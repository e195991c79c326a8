"""Pooling: functions from the token states of texts (tokens, dim) to vectors (texts, dim).

The states of all texts are concatenated; `lengths` (texts,) is the number of tokens of each.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Callable[["Tensor", "Tensor"], "Tensor"]


def first_token(states: "Tensor", lengths: "Tensor") -> "Tensor":
    """Returns the state of each text's first token ([CLS] in BERT-like models)."""
    return states[lengths.cumsum(0) - lengths]


def last_token(states: "Tensor", lengths: "Tensor") -> "Tensor":
    """Returns the state of each text's last token."""
    return states[lengths.cumsum(0) - 1]


def mean_tokens(states: "Tensor", lengths: "Tensor") -> "Tensor":
    """Computes the mean over each text's tokens."""
    return _reduce(states, lengths, "mean")


def max_tokens(states: "Tensor", lengths: "Tensor") -> "Tensor":
    """Computes the maximum of each dimension over each text's tokens."""
    return _reduce(states, lengths, "max")


# Names as sentence-transformers writes them into 1_Pooling/config.json.
POOLINGS: dict[str, Pooling] = {
    "cls": first_token,
    "lasttoken": last_token,
    "mean": mean_tokens,
    "max": max_tokens,
}
# The mean over the tokens of the text itself, without the prompt's and special ones, each of unit
# length: in a causal model the first token's state can be a hundred times as long as the others.
OWN_MEAN = "own mean"
EARLY_POOLINGS = (*POOLINGS, OWN_MEAN)


def _reduce(states: "Tensor", lengths: "Tensor", how: str) -> "Tensor":
    import torch

    return torch.segment_reduce(states, how, lengths=lengths, axis=0)
