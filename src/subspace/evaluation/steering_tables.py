"""Tables and curves of steering, for reports and `subspace bench steer`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.evaluation.result_files import result_files, write_json
from subspace.evaluation.steering import KEPT
from subspace.evaluation.steering_run import BLOCKS, CEILING, SteeringRow
from subspace.model.markdown import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABOUT = """\
Queries are texts of a source, candidates all its other texts but parallel versions. Blocks were
fitted without the source that they are measured on, except where there is a `*`. *Toward* is how
far the ten hits move toward more or less of a number, in standard deviations of its labels (length
regressed out); *alike* is what the share of hits of the query's own class gains, over one minus
chance. Both where 90 % of the relevance is kept, as the raw encoder judges it. *Taste*: after 5
rated pairs, how often an unseen pair is ordered as the user likes (chance 0.50). *Off target*: how
far the length of the hits and other numeric labels move there, the one that moves most. Intervals
are of queries and texts that are both drawn again (pigeonhole bootstrap)."""


def steering_means(rows: Sequence[SteeringRow]) -> dict[str, Any]:
    """Makes the table of means over sources, with one row per factor and contender."""
    cells = []
    for factor, contender in dict.fromkeys((row.factor, row.contender) for row in rows):
        own = [row for row in rows if (row.factor, row.contender) == (factor, contender)]
        gains = [np.mean([row.curve.at(kept) for row in own]) for kept in KEPT]
        taste = [row.taste[5] for row in own if 5 in row.taste]
        cells.append(
            [
                factor,
                own[0].kind,
                contender,
                f"{len(own)} `*`" if any(row.in_corpus for row in own) else str(len(own)),
                *(f"{gain:.3f}" for gain in gains),
                f"{np.mean(taste):.2f}" if taste else "-",
                _off_target(own),
            ]
        )
    return {
        "title": "Steering: how far a weight moves the hits",
        "head": [
            "factor",
            "asked for",
            "contender",
            "sources",
            *(f"gain at {kept:.0%} kept" for kept in KEPT),
            "taste",
            "off target",
        ],
        "rows": cells,
        "note": " ".join(_ABOUT.split()),
    }


def _off_target(rows: Sequence[SteeringRow]) -> str:
    """Returns the mean over sources of the other label that moves most, and its name."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, moved in row.curve.off_target_at(0.90).items():
            found.setdefault(name, []).append(moved)
    means = {name: float(np.mean(moved)) for name, moved in found.items()}
    if not means:
        return "-"
    name = max(means, key=lambda one: abs(means[one]))
    return f"{name} {means[name]:+.2f}"


def steering_by_source(rows: Sequence[SteeringRow]) -> dict[str, Any]:
    """Makes the table by source, with intervals."""
    cells = []
    for row in rows:
        low, high = row.curve.interval(0.90)
        taste = " / ".join(f"{value:.2f}" for value in row.taste.values())
        cells.append(
            [
                f"{row.source} `*`" if row.in_corpus else row.source,
                row.factor,
                row.contender,
                f"{row.curve.at(0.95):.3f}",
                f"{row.curve.at(0.90):.3f} ({low:.3f} to {high:.3f})",
                taste or "-",
            ]
        )
    head = ["source", "factor", "contender", "gain at 95 %", "gain at 90 % (95 % interval)"]
    return {
        "title": "Steering by source",
        "head": [*head, "taste after 5 / 20"],
        "rows": cells,
        "note": "",
    }


def steering_markdown(rows: Sequence[SteeringRow], *, examples: str = "") -> str:
    """Writes a Markdown page: means, results by source, and examples if given."""
    parts = [f"# Steering\n\n{_ABOUT}\n"]
    for one in (steering_means(rows), steering_by_source(rows)):
        parts.append(f"## {one['title']}\n")
        parts.append("\n".join(table(one["head"], one["rows"])) + "\n")
    return "\n".join([*parts, *([examples] if examples else [])])


def write_steering(
    rows: Sequence[SteeringRow], *, folder: Path, examples: str = "", about: Any = None
) -> None:
    """Writes steering.json, .md and .png: whole, or not at all.

    Args:
        rows: The measurements.
        folder: The folder to write to; made if it does not exist.
        examples: Markdown with the hits of some queries, before and after steering.
        about: Model, data and settings, JSON-ready.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    with result_files(folder) as place:
        content = {"about": about or {}, "rows": [row.to_json() for row in rows]}
        write_json(content, place / "steering.json")
        page = steering_markdown(rows, examples=examples)
        (place / "steering.md").write_text(page, encoding="utf-8")
        draw_steering(rows, path=place / "steering.png")


def draw_steering(rows: Sequence[SteeringRow], *, path: Path) -> None:
    """Draws gain against relevance kept to a PNG: a panel per factor, a line per contender."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    factors = list(dict.fromkeys(row.factor for row in rows))
    figure = Figure(figsize=(4.6 * len(factors), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, factor in zip(
        figure.subplots(1, len(factors), squeeze=False)[0], factors, strict=True
    ):
        _draw_factor(axes, [row for row in rows if row.factor == factor])
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_factor(axes: "Axes", rows: Sequence[SteeringRow]) -> None:
    for contender in dict.fromkeys(row.contender for row in rows):
        own = [row.curve for row in rows if row.contender == contender]
        kept, gained = _mean(curve.kept for curve in own), _mean(curve.gained for curve in own)
        shown = kept > 0.6
        axes.plot(
            kept[shown],
            gained[shown],
            label=contender,
            linewidth=2.4 if contender == BLOCKS else 1.2,
            linestyle=":" if contender == CEILING else "-",
        )
    axes.axvline(0.9, color="0.8", linewidth=0.8)
    axes.invert_xaxis()
    axes.set_title(f"{rows[0].factor} ({len({row.source for row in rows})} sources)", fontsize=10)
    axes.set_xlabel("relevance kept")
    axes.set_ylabel(
        "hits move (sd of the label)" if rows[0].kind == "toward" else "hits of the query's class"
    )
    axes.legend(fontsize=8, frameon=False)


def _mean(curves: Iterable[Any]) -> Any:
    return np.mean(list(curves), axis=0)
