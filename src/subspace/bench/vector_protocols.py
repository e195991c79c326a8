"""Protocols that cut the vector: fewer dimensions, trained blocks, blocks of pieces of text."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from subspace.arrays import Vectors
from subspace.bench.protocol import Level, Protocol, Setting
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
    """Every reduction to the usual sizes that the encoder, the blocks and the documents allow."""
    found = []
    for kind in REDUCTIONS:
        least, most = _limits(kind, setting)
        found += [make_reduction(kind, k, setting) for k in SIZES if least <= k <= most]
    return found


def left_out(setting: Setting) -> list[str]:
    """Principal components in usual sizes that the embedding has, but too few documents for."""
    _, most = _limits("pca", setting)
    return [f"pca-{k}" for k in SIZES if most < k <= setting.dim]


def make_reduction(kind: str, k: int, setting: Setting) -> Protocol:
    """One of `REDUCTIONS` to `k` dimensions.

    Raises:
        ConfigError: There are not so many dimensions, or too few documents to fit them on.
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
        layout = setting.projection.layout
        level = _block_level(setting, layout.names, kept=share_dimensions(layout, k=k))
        return Protocol(
            name, "reductions", f"{about}, {_say(setting)}", (level,), _settings(setting)
        )
    fits: Mapping[str, Callable[[Vectors], Reduce]] = {
        "pca": partial(fit_pca, k=k),
        "random": partial(fit_random, k=k),
        "truncate": lambda _: partial(truncate, k=k),
    }
    level = Level(WHOLE, reduced_view(setting.raw, fits[kind]))
    return Protocol(name, "reductions", about, (level,))


def list_factored(setting: Setting) -> list[Protocol]:
    """Each block alone, all of them at equal and at chosen weights, and cut to a part of each."""
    layout, equal = setting.projection.layout, replace(setting, weights=None)
    alone = replace(setting, weights=dict.fromkeys(layout, 1.0))
    plans = [
        (f"factored-only-{name}", f"block {name} alone", alone, _block_level(alone, (name,)))
        for name in layout
    ]
    for name, chosen in (("factored-equal", equal), ("factored-weights", setting)):
        if chosen.weights or chosen is equal:
            level = _block_level(chosen, layout.names)
            plans.append((name, f"all blocks, {_say(chosen)}", chosen, level))
    for part, by in PARTS.items():
        level = _block_level(setting, layout.names, kept=divide_widths(layout, by=by))
        about = f"leading {part} of every block, {_say(setting)}"
        plans.append((f"factored-{part}", about, setting, level))
    return [Protocol(n, "factored", about, (lv,), _settings(s)) for n, about, s, lv in plans]


def list_factored_chunked(setting: Setting) -> list[Protocol]:
    """One block of the best sentence and the others of the whole text; every block so.

    A block that does not count is left out: its best sentence changes nothing.
    """
    layout = setting.projection.layout
    counted = [name for name in layout if setting.block_weights[name] > 0]
    plans: list[tuple[str, tuple[str, ...], str]] = [
        (name, (name,), f"block {name} of the best sentence, the rest whole") for name in counted
    ]
    plans.append(("all", layout.names, "every block of its best sentence"))
    found = []
    for name, chunked, about in plans:
        rest = tuple(block for block in layout if block not in chunked)
        # A level for each block: the best sentence in one need not be the best in another.
        levels = [_block_level(setting, (block,), reading=SENTENCES) for block in chunked]
        levels += [_block_level(setting, rest)] if rest else []
        found.append(
            Protocol(
                f"factored-chunked-{name}",
                "factored-chunked",
                f"{about}, {_say(setting)}",
                tuple(levels),
                _settings(setting),
            )
        )
    return found


def _limits(kind: str, setting: Setting) -> tuple[int, int]:
    layout = setting.projection.layout
    if kind == "learned":
        return len(layout), layout.dim
    return 1, min(setting.dim, setting.documents) if kind == "pca" else setting.dim


def _block_level(
    setting: Setting,
    names: tuple[str, ...],
    *,
    kept: BlockLayout | None = None,
    reading: Pieces = WHOLE,
) -> Level:
    view = blocks_view(setting.projection, names=names, weights=setting.block_weights, kept=kept)
    return Level(reading, view)


def _say(setting: Setting) -> str:
    if setting.weights is None:
        return "equal weights"
    return " ".join(f"{name}={weight:g}" for name, weight in setting.weights.items() if weight)


def _settings(setting: Setting) -> Mapping[str, Mapping[str, float]]:
    return {"weights": dict(setting.block_weights)}
