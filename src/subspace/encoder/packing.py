"""Packed attention: several texts in one row without padding, none of which sees another.

A batch holds the tokens of all its texts one after the other, so that linear layers never compute
padding. Attention is computed text by text; neighbouring texts of equal length share one call. The
models' own code runs unchanged, since transformers selects the attention function by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


# The name under which transformers knows this attention.
PACKED = "subspace-packed"

# Options of an attention layer that packed attention does not implement.
_UNSUPPORTED = ("softcap", "s_aux", "head_mask")


class PackingUnsupportedError(Exception):
    """The model's attention has a feature that packed attention does not implement."""


@dataclass(frozen=True, eq=False)  # == on tensors gives no single bool
class Packing:
    """Where each text of a row begins, and the beginning that all of them share, if any.

    Layers are identified by the `id` of their attention module.

    Attributes:
        runs: (first token, number of texts, length) of each run of texts of equal length.
        before: Keys and values (1, heads, tokens, width) of the shared beginning, by layer.
        seen: Receives the keys and values of this row, by layer; None records nothing.
    """

    runs: tuple[tuple[int, int, int], ...]
    before: dict[int, tuple["Tensor", "Tensor"]] = field(default_factory=dict)
    seen: dict[int, tuple["Tensor", "Tensor"]] | None = None


def check_sight(config: Any) -> None:
    """Raises if attention sees only a window of a long text, which short samples do not show.

    Raises:
        PackingUnsupportedError: The attention is limited to a window.
    """
    longest = getattr(config, "max_position_embeddings", 0) or 0
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if not getattr(config, "use_sliding_window", True):
        windows = windows[1:]
    if any(isinstance(window, int) and 0 < window < longest for window in windows):
        raise PackingUnsupportedError("its attention sees a part of a long text only")


def find_runs(lengths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Returns (first token, number of texts, length) of each run of texts of equal length."""
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.flatnonzero(np.diff(sizes, prepend=-1))
    counts = np.diff(np.append(starts, len(sizes)))
    tokens = np.cumsum(sizes) - sizes
    return tuple(
        (int(tokens[start]), int(count), int(sizes[start]))
        for start, count in zip(starts, counts, strict=True)
    )


def register() -> None:
    """Registers this attention with transformers under `PACKED`; may be repeated."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PACKED, _attend)
    AttentionMaskInterface.register(PACKED, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    """Returns no mask, since the runs already separate the texts."""


def _attend(
    module: Any,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: "Tensor | None",  # noqa: ARG001 (the interface's signature)
    *,
    packing: Packing,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple["Tensor", None]:
    """Computes one layer's attention: (1, heads, tokens, width) to (1, tokens, heads, width)."""
    for name in _UNSUPPORTED:
        if options.get(name) is not None:
            raise PackingUnsupportedError(f"its attention has {name}")
    window = options.get("sliding_window")
    if window is not None and max(length for _, _, length in packing.runs) > window:
        raise PackingUnsupportedError("its attention has sliding_window")
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    layer = id(module)
    if packing.seen is not None:
        packing.seen[layer] = key, value
    found = query.new_empty((query.shape[2], query.shape[1], value.shape[3]))
    for start, count, length in packing.runs:
        tokens = slice(start, start + count * length)
        part = _attend_run(
            *(_cut(states, tokens, count) for states in (query, key, value)),
            before=packing.before.get(layer),
            scale=scaling,
            causal=causal,
        )
        found[tokens].view(count, length, *found.shape[1:]).copy_(part.transpose(1, 2))
    return found[None], None


def _cut(states: "Tensor", tokens: slice, count: int) -> "Tensor":
    """Cuts out one run: (1, heads, tokens, width) to (texts, heads, length, width)."""
    rows = states[0, :, tokens]
    heads, length, width = rows.shape
    return rows.reshape(heads, count, length // count, width).transpose(0, 1)


def _attend_run(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    *,
    before: tuple["Tensor", "Tensor"] | None,
    scale: float | None,
    causal: bool,
) -> "Tensor":
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    length, mask = query.shape[2], None
    if before is not None:
        key, value = (
            torch.cat([earlier.expand(len(query), -1, -1, -1), states], dim=2)
            for earlier, states in zip(before, (key, value), strict=True)
        )
        width = key.shape[2]
        # Every token sees the whole shared beginning, and its own text up to itself.
        mask = torch.ones(length, width, dtype=torch.bool, device=query.device)
        mask = mask.tril(diagonal=width - length)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=causal and mask is None and length > 1,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
