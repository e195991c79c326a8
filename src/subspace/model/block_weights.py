"""Weights of blocks: reads one number by block name, from a mapping or from a text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from subspace.blocks import BlockLayout
from subspace.errors import WeightsError

# Weights are multiplied with vectors in float32. The margin at both ends of its range keeps sums
# over dimensions and blocks from overflowing, and products with small entries from underflowing.
_ROOM = 2.0**20
_LARGEST = float(np.finfo(np.float32).max) / _ROOM
_SMALLEST = float(np.finfo(np.float32).tiny) * _ROOM

_FORM = "weights must read like topic=0.7,style=0.1"


def read_block_weights(weights: Any, *, layout: BlockLayout) -> tuple[float, ...]:
    """Reads a mapping from block names to numbers; blocks that it leaves out have 0.

    Raises:
        WeightsError: It is no mapping, a block is unknown, or a value is no number.
    """
    if not isinstance(weights, Mapping):
        raise WeightsError(f"weights by block name are needed, got {weights!r:.60}")
    for name in weights:
        if name not in layout.names:
            raise WeightsError(f"no block '{name}'; the blocks are {', '.join(layout)}")
    return tuple(read_number(weights.get(name, 0.0), of=f"of block '{name}'") for name in layout)


def parse_block_weights(text: str, *, form: str = _FORM) -> dict[str, float]:
    """Reads a text such as `topic=0.7,style=0.1`.

    Args:
        text: The text.
        form: Says in error messages what weights must look like.

    Raises:
        WeightsError: The text does not have that form, or names a block twice.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = None
        if not equals or number is None:
            raise WeightsError(f"{form}; cannot read {part.strip()!r}")
        if name in weights:
            raise WeightsError(f"block '{name}' has two weights")
        weights[name] = number
    return weights


def check_weight(value: float, *, of: str) -> None:
    """Raises unless a weight is 0 or more, and can be multiplied with vectors.

    Args:
        value: The weight.
        of: Whose weight it is, for error messages, such as `of block 'topic'`.

    Raises:
        WeightsError: It is negative, NaN, infinite, or too small or large for float32.
    """
    if not 0 <= value < float("inf"):
        raise WeightsError(f"the weight {of} must be finite and 0 or more, got {value}")
    if value and not _SMALLEST <= value <= _LARGEST:
        raise WeightsError(
            f"the weight {of} must be 0 or between {_SMALLEST:.0e} and {_LARGEST:.0e}, as "
            f"searching is in float32; got {value}"
        )


def check_some_weight(values: tuple[float, ...], *, layout: BlockLayout) -> None:
    """Raises `WeightsError` unless each weight is valid and one is above 0."""
    for block, value in zip(layout, values, strict=True):
        check_weight(value, of=f"of block '{block}'")
    if not any(values):
        raise WeightsError(
            f"at least one weight must be above 0; the blocks are {', '.join(layout)}"
        )


def read_number(value: Any, *, of: str) -> float:
    """Returns a weight as a float.

    Raises:
        WeightsError: It is no number.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError("a truth value")
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"the weight {of} must be a number, got {value!r:.60}") from error
