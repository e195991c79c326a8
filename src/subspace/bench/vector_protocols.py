"""Protocols that differ in the vector: fewer dimensions, blocks, or blocks of sentences."""

from collections.abc import Callable, Mapping
from functools import partial

from subspace.arrays import Vectors
from subspace.bench.protocol import Protocol, Setting, VectorLevel
from subspace.bench.readings import Pieces
from subspace.bench.reductions import (
    Reduce,
    divide_widths,
    fit_pca,
    fit_random,
    share_dimensions,
    truncate,
)
from subspace.bench.text_protocols import SENTENCES, WHOLE
from subspace.bench.views import blocks_view, reduced_view
from subspace.blocks import BlockLayout
from subspace.errors import ConfigError

SIZES = (32, 64, 128, 256, 512, 1024)
PARTS = {"half": 2, "quarter": 4, "eighth": 8}
REDUCTIONS = {
    "pca": "principal components",
    "random": "random projection",
    "truncate": "leading dimensions",
    "learned": "leading dimensions of every block",
}


def list_reductions(setting: Setting) -> list[Protocol]:
    """Lists all reductions to those of `SIZES` that the setting allows."""
    found = []
    for kind in REDUCTIONS:
        least, most = _limits(kind, setting)
        found += [make_reduction(kind, k, setting) for k in SIZES if least <= k <= most]
    return found


def left_out(setting: Setting) -> list[str]:
    """Lists names of reductions by principal components that need more documents."""
    _, most = _limits("pca", setting)
    return [f"pca-{k}" for k in SIZES if most < k <= setting.dim]


def make_reduction(kind: str, k: int, setting: Setting) -> Protocol:
    """Makes one of `REDUCTIONS`, to `k` dimensions.

    Raises:
        ConfigError: `k` is out of range for the embedding, the blocks or the documents.
    """
    least, most = _limits(kind, setting)
    if not least <= k <= most:
        why = {
            "learned": f"the checkpoint has {least} blocks of {most} dimensions in all",
            "pca": f"the raw embedding has {setting.dim} dimensions, and {setting.documents} "
            "documents are there to fit them on",
        }.get(kind, f"the raw embedding has {setting.dim} dimensions")
        raise ConfigError(f"--protocols: {kind}-{k}: {why}; give {least} to {most}")
    name, about = f"{kind}-{k}", f"{REDUCTIONS[kind]}, {k} dimensions"
    if kind == "learned":
        kept = share_dimensions(setting.layout, k=k)
        about = f"{about}, {_describe(setting.block_weights)}"
        weights = setting.scale(setting.block_weights)
        return _factored(name, about, setting, weights=weights, kept=kept, family="reductions")
    fits: Mapping[str, Callable[[Vectors], Reduce]] = {
        "pca": partial(fit_pca, k=k),
        "random": partial(fit_random, k=k),
        "truncate": lambda _: partial(truncate, k=k),
    }
    level = VectorLevel(WHOLE, reduced_view(setting.raw, fits[kind]))
    return Protocol(name, "reductions", about, (level,))


def list_factored(setting: Setting) -> list[Protocol]:
    """Lists protocols of each block alone, of all blocks, and of the leading part of all blocks.

    All blocks are listed at equal and at the chosen weights; their parts at the chosen weights.
    """
    layout, chosen = setting.layout, setting.block_weights
    found = [
        _factored(f"factored-only-{name}", f"block {name} alone", setting, weights={name: 1.0})
        for name in layout
    ]
    for name, weights in (("equal", dict.fromkeys(layout, 1 / len(layout))), ("weights", chosen)):
        about = f"all blocks, {_describe(weights)}"
        found.append(_factored(f"factored-{name}", about, setting, weights=setting.scale(weights)))
    for part, by in PARTS.items():
        about = f"leading {part} of every block, {_describe(chosen)}"
        kept = divide_widths(layout, by=by)
        found.append(
            _factored(f"factored-{part}", about, setting, weights=setting.scale(chosen), kept=kept)
        )
    return found


def list_factored_chunked(setting: Setting) -> list[Protocol]:
    """Lists protocols that take one block, or every block, from the best sentence.

    The other blocks come from the whole text. Blocks of weight 0 are left out, as their best
    sentence changes no score.
    """
    layout, weights = setting.layout, setting.scale(setting.block_weights)
    plans: list[tuple[str, tuple[str, ...], str]] = [
        (name, (name,), f"block {name} of the best sentence, the rest whole")
        for name in layout
        if weights[name] > 0
    ]
    plans.append(("all", layout.names, "every block of its best sentence"))
    found = []
    for name, chunked, about in plans:
        rest = tuple(block for block in layout if block not in chunked)
        # One level per block, as each block can have another best sentence.
        levels = [_block_level(setting, (b,), weights=weights, reading=SENTENCES) for b in chunked]
        levels += [_block_level(setting, rest, weights=weights)] if rest else []
        found.append(
            Protocol(
                f"factored-chunked-{name}",
                "factored-chunked",
                f"{about}, {_describe(setting.block_weights)}",
                tuple(levels),
                {"weights": weights},
            )
        )
    return found


def _limits(kind: str, setting: Setting) -> tuple[int, int]:
    """Returns the least and the largest number of dimensions of a reduction."""
    if kind == "learned":
        return len(setting.layout), setting.layout.dim
    return 1, min(setting.dim, setting.documents) if kind == "pca" else setting.dim


def _factored(
    name: str,
    about: str,
    setting: Setting,
    *,
    weights: Mapping[str, float],
    kept: BlockLayout | None = None,
    family: str = "factored",
) -> Protocol:
    """Makes a protocol of the blocks in `weights` from the whole text."""
    level = _block_level(setting, tuple(weights), weights=weights, kept=kept)
    return Protocol(name, family, about, (level,), {"weights": dict(weights)})


def _block_level(
    setting: Setting,
    names: tuple[str, ...],
    *,
    weights: Mapping[str, float],
    kept: BlockLayout | None = None,
    reading: Pieces = WHOLE,
) -> VectorLevel:
    view = blocks_view(setting.model, names=names, weights=weights, kept=kept)
    return VectorLevel(reading, view)


def _describe(weights: Mapping[str, float]) -> str:
    if len(set(weights.values())) == 1:
        return "equal weights"
    return " ".join(f"{name}={weight:g}" for name, weight in weights.items() if weight)
