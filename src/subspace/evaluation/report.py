"""The separation report: JSON for machines, Markdown and a heat map for people."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from subspace.evaluation.separation import RAW, Separation

_EXPLANATION = (
    "Each number is a linear probe's score above chance on test texts, relative to the same probe "
    "on the raw embedding (= 1.00). The diagonal is what a block retains of its own factor; "
    "everything else is leakage."
)


def write_report(separation: Separation, *, folder: Path, about: Mapping[str, Any]) -> None:
    """Writes `separation.json`, `separation.md` and `separation.png`.

    Args:
        separation: What was measured.
        folder: Where to; made if missing.
        about: What was measured on: checkpoint, encoder, data; goes into the JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = {"about": dict(about), **separation.to_json()}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "separation.json").write_text(text + "\n", encoding="utf-8")
    (folder / "separation.md").write_text(to_markdown(separation), encoding="utf-8")
    draw_heat_map(separation, path=folder / "separation.png")


def matrix_lines(separation: Separation) -> list[str]:
    """The block x factor matrix as the lines of a Markdown table."""
    lines = [
        "| block \\ factor | " + " | ".join(separation.factors) + " | own | mean leakage |",
        "|---|" + "---|" * (len(separation.factors) + 2),
        "| raw embedding | " + " | ".join("1.00" for _ in separation.factors) + " | | |",
    ]
    retention, leakage = separation.retention(), separation.leakage()
    for block, row in zip(separation.blocks, separation.matrix(), strict=True):
        cells = [_cell(value) for value in row]
        own = _cell(retention.get(block, np.nan))
        lines.append(
            f"| {block} | {' | '.join(cells)} | {own} | {_cell(leakage.get(block, np.nan))} |"
        )
    return lines


def to_markdown(separation: Separation) -> str:
    """The whole report as one Markdown page."""
    lines = ["# Separation", "", _EXPLANATION, "", *matrix_lines(separation), ""]
    selectivity = _cell(separation.selectivity())
    lines.append(f"Selectivity (mean of retention minus leakage): {selectivity}")
    lines += ["", "## By source", ""]
    spaces = [RAW, *separation.blocks]
    lines.append("| source | factor | measure | chance | " + " | ".join(spaces) + " |")
    lines.append("|---|---|---|---|" + "---|" * len(spaces))
    by_probe: dict[tuple[str, str], dict[str, Any]] = {}
    for reading in separation.readings:
        by_probe.setdefault((reading.source, reading.factor), {})[reading.space] = reading
    for (source, factor), readings in by_probe.items():
        chance = readings[RAW].chance
        measure = "balanced accuracy" if chance else "Spearman"
        scores = " | ".join(f"{readings[space].score:.3f}" for space in spaces)
        lines.append(f"| {source} | {factor} | {measure} | {chance:.3f} | {scores} |")
    if separation.left_out:
        lines += ["", "Left out:", "", *(f"- {reason}" for reason in separation.left_out)]
    return "\n".join(lines) + "\n"


def draw_heat_map(separation: Separation, *, path: Path) -> None:
    """Draws the block x factor matrix to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matrix = separation.matrix()
    if not matrix.size:  # nothing could be read: an empty picture that says so
        matrix = np.full((len(separation.blocks), 1), np.nan)
    figure = Figure(figsize=(2.2 + 1.2 * matrix.shape[1], 1.6 + 0.7 * matrix.shape[0]))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(np.nan_to_num(matrix), vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_xticks(range(matrix.shape[1]), separation.factors or ("nothing could be read",))
    axes.set_yticks(range(len(separation.blocks)), separation.blocks)
    axes.set_xlabel("factor that a linear probe reads")
    axes.set_ylabel("block")
    axes.set_title("Share of the raw embedding's score, test texts")
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if value > 0.6 else "black"
        axes.text(column, row, _cell(value), ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axes)
    figure.tight_layout()
    # No creation date or version in the file: the same numbers give the same bytes.
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"
