"""Packed attention: texts of several lengths in one row, none padded, none sees another.

A batch is the tokens of all its texts one after the other, so that every linear layer works on real
tokens alone. Attention goes text by text; texts of equal length stand together and share a
call. The models' own code runs unchanged: transformers lets the attention be chosen by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


# The name of this attention among those of transformers.
PACKED = "subspace-packed"

# Settings of a layer that change what a token attends to or how much; not done here.
_UNSUPPORTED = ("softcap", "s_aux", "head_mask")


class PackingUnsupportedError(Exception):
    """The model's attention does what packed attention does not do."""


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth
class Packing:
    """Where each text of a row begins, and what came before all of them.

    Attributes:
        runs: For texts of equal length that stand together: first token, number of texts, length.
        before: Keys and values (1, heads, tokens, width) of a common beginning, by layer.
        seen: Filled with the keys and values of this row, by layer, where it is not None.
    """

    runs: tuple[tuple[int, int, int], ...]
    before: dict[int, tuple["Tensor", "Tensor"]] = field(default_factory=dict)
    seen: dict[int, tuple["Tensor", "Tensor"]] | None = None


def check_sight(config: Any) -> None:
    """Refuses packing where tokens see a part of a long text only; short samples do not show it.

    Raises:
        PackingUnsupportedError: They do.
    """
    longest = getattr(config, "max_position_embeddings", 0) or 0
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if not getattr(config, "use_sliding_window", True):
        windows = windows[1:]
    if any(isinstance(window, int) and 0 < window < longest for window in windows):
        raise PackingUnsupportedError("its attention sees a part of a long text only")


def find_runs(lengths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """First token, number of texts and length of each run of texts of equal length."""
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.flatnonzero(np.diff(sizes, prepend=-1))
    counts = np.diff(np.append(starts, len(sizes)))
    tokens = np.cumsum(sizes) - sizes
    return tuple(
        (int(tokens[start]), int(count), int(sizes[start]))
        for start, count in zip(starts, counts, strict=True)
    )


def register() -> None:
    """Makes the attention known to transformers by its name; again does nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PACKED, _attend)
    AttentionMaskInterface.register(PACKED, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    """The runs say who sees whom."""


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
    """Attention of one layer: query (1, heads, tokens, width) to (1, tokens, heads, width)."""
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
    """(1, heads, tokens, width) to (texts, heads, length, width)."""
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
        # Every token sees all that came before the text, and what came before it in the text.
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
