"""Results of the protocol bench as JSON, Markdown and a plot."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.bench.protocol_results import (
    MAIN,
    MEASURES,
    SAMPLE,
    ProtocolBench,
    Result,
    adjust,
)
from subspace.evaluation.result_files import result_files, write_json
from subspace.model.markdown import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Families whose protocols differ in size; the plot joins them by lines.
_SIZED = ("reductions", "late-interaction")
_HEAD = (
    *("protocol", "what gets a vector", "nDCG@5", "nDCG@10", "MRR", "recall@100"),
    *("difference", "bytes", "encode", "query"),
)
# A protocol is named in the plot if its nDCG exceeds that of all smaller ones by this much.
_STEP = 0.005


def write_protocols(bench: ProtocolBench, *, folder: Path) -> None:
    """Writes protocols.json, protocols.md and protocols.png.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    content = {
        "queries": bench.queries,
        "documents": bench.documents,
        "notes": list(bench.notes),
        "protocols": [
            _to_json(result, p) for result, p in zip(bench.results, _p_values(bench), strict=True)
        ],
    }
    with result_files(folder) as place:
        write_json(content, place / "protocols.json")
        (place / "protocols.md").write_text(protocols_markdown(bench), encoding="utf-8")
        _draw(bench, path=place / "protocols.png")


def protocols_markdown(bench: ProtocolBench) -> str:
    """Writes one table per family, each beginning with the single vector."""
    lines = [
        "# Protocols: what gets embedded, and how it is cut up",
        "",
        *(line for note in bench.notes for line in (f"**Note:** {note}.", "")),
        f"{bench.queries} queries, {bench.documents} documents; means with 95 % bootstrap "
        f"intervals over queries. *Difference*: {MAIN.replace('ndcg', 'nDCG')} minus that of the "
        "single vector, with the p-value of a paired randomisation test (9,999 sign flips over "
        f"queries), adjusted for {len(bench.results) - 1} comparisons (Benjamini and Hochberg). "
        "*Bytes*: all vectors of an item in float32, mean over items. *Encode* and *query*: "
        "wall-clock time divided by that of the single vector (the shortest of several turns). "
        f"Encode is the time to encode {SAMPLE} of the items afresh, without fitting and "
        "projecting; query is the time to score all items for all queries by an exact scan, "
        "without encoding queries and sorting.",
        "",
        "![quality against bytes](protocols.png)",
    ]
    rows = dict(zip(bench.results, _p_values(bench), strict=True))
    single = bench.results[0]
    for family in dict.fromkeys(result.family for result in bench.results):
        chosen = [r for r in bench.results if r.family == family and r is not single]
        if chosen or len(bench.results) == 1:
            shown = [_row(single, single, 1.0)]
            shown += [_row(result, single, rows[result]) for result in chosen]
            lines += ["", f"## {family}", "", *table(_HEAD, shown)]
    return "\n".join(lines) + "\n"


def _row(result: Result, single: Result, p: float) -> list[str]:
    cells = [result.name, result.about]
    for measure in MEASURES:
        low, high = result.interval(measure)
        cells.append(f"{result.mean(measure):.3f} ({low:.3f} to {high:.3f})")
    difference = result.mean(MAIN) - single.mean(MAIN)
    cells.append("-" if result is single else f"{difference:+.3f} (p {_format_p(p)})")
    cells += [f"{result.cost.bytes:,.0f}", _format_ratio(result.cost.encode)]
    return [*cells, _format_ratio(result.cost.query)]


def _format_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _format_ratio(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _p_values(bench: ProtocolBench) -> list[float]:
    """Returns adjusted p-values in the order of the results; 1 for the single vector itself."""
    single, *others = bench.results
    return [1.0, *adjust([other.p_value(single) for other in others]).tolist()]


def _to_json(result: Result, p: float) -> dict[str, Any]:
    return {
        **result.to_json(),
        "means": {measure: result.mean(measure) for measure in MEASURES},
        "intervals": {measure: result.interval(measure) for measure in MEASURES},
        f"p_{MAIN}_adjusted": p,
    }


def _draw(bench: ProtocolBench, *, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.axhline(bench.results[0].mean(MAIN), color="0.7", linestyle=":", linewidth=1)
    series: dict[str, list[Result]] = {}
    for result in bench.results:
        series.setdefault(_series(result), []).append(result)
    for number, (name, results) in enumerate(series.items()):
        _draw_series(axis, results, name=name, number=number)
    _label(axis, bench)
    axis.set_xscale("log")
    axis.margins(y=0.12)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("bytes per item (float32)")
    axis.set_ylabel("nDCG@10, 95 % intervals over queries")
    axis.set_title(f"{bench.queries} queries, {bench.documents} documents")
    axis.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=5)
    # No creation date or version in the file: the same numbers give the same bytes.
    figure.savefig(path, dpi=90, metadata={"Software": None})


def _series(result: Result) -> str:
    """Returns the name under which a result is plotted: kind of reduction, or else family."""
    return result.name.rpartition("-")[0] if result.family == "reductions" else result.family


def _draw_series(axis: "Axes", results: list[Result], *, name: str, number: int) -> None:
    results = sorted(results, key=lambda result: result.cost.bytes)
    means = np.array([result.mean(MAIN) for result in results])
    bounds = np.array([result.interval(MAIN) for result in results])
    axis.errorbar(
        [result.cost.bytes for result in results],
        means,
        yerr=np.abs(bounds.T - means),
        fmt=f"{'osD^v'[number % 5]}{'-' if results[0].family in _SIZED else ''}",
        markersize=5,
        linewidth=0.8,
        elinewidth=0.4,
        color=f"C{number}",
        label=name,
    )


def _label(axis: "Axes", bench: ProtocolBench) -> None:
    """Labels the single vectors, and every protocol clearly better than all smaller ones."""
    best = -np.inf
    single = bench.results[0]
    for result in sorted(bench.results, key=lambda r: (r.cost.bytes, -r.mean(MAIN))):
        if result.mean(MAIN) > best + _STEP or result is single:
            best = max(best, result.mean(MAIN))
            above = (result.cost.bytes, result.interval(MAIN)[1])
            _write(axis, result.name, at=above, shift=(0, 5), rotation=25)
        elif result.family == single.family:
            _write(axis, result.name, at=(result.cost.bytes, result.mean(MAIN)), shift=(6, -3))


def _write(
    axis: "Axes",
    text: str,
    *,
    at: tuple[float, float],
    shift: tuple[float, float],
    rotation: float = 0,
) -> None:
    from matplotlib.patheffects import withStroke

    axis.annotate(
        text,
        at,
        xytext=shift,
        textcoords="offset points",
        fontsize=8,
        rotation=rotation,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )
