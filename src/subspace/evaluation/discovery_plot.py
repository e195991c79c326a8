"""Plot of a discovery: the retained share of each factor by number of dimensions."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subspace.evaluation.discovery import Discovery, Finding
from subspace.evaluation.retained_share import (
    BEST,
    BLOCK,
    LEARNED,
    PRINCIPAL,
    RANDOM,
    SPACES,
    counts,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_STYLES = {
    BEST: ("tab:blue", "-", "o"),
    LEARNED: ("tab:green", "-", "^"),
    PRINCIPAL: ("tab:orange", "--", "s"),
    RANDOM: ("0.5", ":", "."),
}


def draw_shares(found: Discovery, *, path: Path) -> None:
    """Draws the retained shares to a PNG, one panel per factor.

    Lines are means over sources; thin lines show the best dimensions of each source.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(2, len(found.factors))
    rows = math.ceil(len(found.factors) / columns)
    figure = Figure(figsize=(max(5.2 * columns, 7), 3.6 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    drawn: dict[str, Artist] = {}
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis, factor in zip(axes, found.factors, strict=False):
        _draw_factor(axis, [f for f in found.findings if f.factor == factor], dim=found.dim)
        axis.set_title(factor, fontsize=11)
        lines, names = axis.get_legend_handles_labels()
        drawn.update(zip(names, lines, strict=True))
    for axis in axes[len(found.factors) :]:
        axis.set_axis_off()
    figure.legend(
        list(drawn.values()), list(drawn), loc="outside lower center", ncols=3, fontsize=9
    )
    figure.suptitle("Share of a factor that so many dimensions hold (mean over sources)")
    # Leaves out the version of the software, so that the same numbers give the same bytes.
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _draw_factor(axis: "Axes", findings: Sequence[Finding], *, dim: int) -> None:
    ks = counts(dim)
    for space in SPACES:
        shares = np.array([[f.find(space, k).share for k in ks] for f in findings])
        sound = shares[~np.isnan(shares).any(axis=1)]
        if not len(sound):
            continue
        colour, line, marker = _STYLES[space]
        axis.plot(
            *(ks, sound.mean(axis=0)), color=colour, linestyle=line, marker=marker, label=space
        )
        if space == BEST:
            axis.plot(ks, sound.T, color=colour, linewidth=0.6, alpha=0.5)
            axis.plot([], [], color=colour, linewidth=0.6, alpha=0.5, label="each source")
    blocks = [f.block for f in findings if f.block and not math.isnan(f.block.share)]
    if blocks:
        mean = np.mean([block.share for block in blocks])
        axis.plot(blocks[0].count, mean, "*", color="tab:red", markersize=13, label=BLOCK)
    axis.axhline(1, color="0.8", linewidth=0.8, zorder=0)
    axis.set_xscale("log", base=2)
    axis.set_xticks(ks, [str(k) for k in ks], fontsize=8)
    axis.set_xlabel("dimensions")
    axis.set_ylabel("share of all dimensions' score")
