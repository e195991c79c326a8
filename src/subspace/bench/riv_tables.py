"""The R/I/V bench as JSON, Markdown and a plot."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subspace.bench.riv import BANDIT, EXTRA, RELEVANCE, RivBench, Row
from subspace.evaluation.result_files import result_files
from subspace.retrieval.hits import Scope
from subspace.retrieval.presets import PRESETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS: tuple[tuple[Scope, str, float], ...] = (("item", "o", -0.12), ("block", "s", 0.12))
_WINDOW = 50


def write_riv(bench: RivBench, *, folder: Path) -> None:
    """Writes riv.json, riv.md and riv.png.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    content = {
        "tasks": bench.tasks,
        "documents": bench.documents,
        "orders": bench.orders,
        "notes": list(bench.notes),
        "rows": [row.as_json() for row in bench.rows],
    }
    with result_files(folder) as place:
        (place / "riv.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (place / "riv.md").write_text(riv_markdown(bench), encoding="utf-8")
        _draw(bench, path=place / "riv.png")


def riv_markdown(bench: RivBench) -> str:
    """Tables: every preset in both scopes, and what the bandit learned."""
    lines = [
        "# Recency, importance and relevance, replayed",
        "",
        *(line for note in bench.notes for line in (f"**Note:** {note}.", "")),
        f"{bench.tasks} tasks in {bench.orders} orders, {bench.documents} documents; the best five "
        "are used, each succeeds if it is relevant. Means with 95 % bootstrap intervals of tasks; "
        "*hit rate*: tasks with a relevant document among the five; *used*: how many different "
        "documents were ever among them.",
    ]
    for variant in _variants(bench):
        lines += ["", f"## {variant}", "", *_preset_table(bench, variant)]
        lines += ["", "![over time](riv.png)"] if variant == _variants(bench)[0] else []
    lines += ["", "## What the bandit learned", "", *_bandit_table(bench), ""]
    return "\n".join(lines) + "\n"


def _preset_table(bench: RivBench, variant: str) -> list[str]:
    alone = bench.find(variant, RELEVANCE)
    lines = [
        "| weights | item scope: nDCG@5 | MRR | hit rate | used | block scope: nDCG@5 | MRR "
        "| hit rate | used |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| {RELEVANCE} | {_cells(alone)} | {_cells(alone)} |",
    ]
    for name in (*PRESETS, *EXTRA):
        item = bench.find(variant, name, scope="item")
        block = bench.find(variant, name, scope="block")
        lines.append(f"| {name} | {_cells(item)} | {_cells(block)} |")
    return lines


def _cells(row: Row) -> str:
    (low, high), (worst, best) = row.interval(), row.interval("reciprocal_rank")
    least, most = row.interval("hit")
    return (
        f"{row.ndcg:.3f} ({low:.3f} to {high:.3f}) | {row.mrr:.3f} ({worst:.3f} to {best:.3f}) "
        f"| {row.hit_rate:.2f} ({least:.2f} to {most:.2f}) | {row.distinct:.0f}"
    )


def _bandit_table(bench: RivBench) -> list[str]:
    runs = bench.find(_variants(bench)[0], BANDIT).runs
    lines = [
        "| vectors | relevance alone | best fixed choice | bandit, all tasks | last third "
        f"| arms it has come to, as fixed choices (the most frequent of {len(runs)} replays) "
        "| share of the best fixed choice |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant in _variants(bench):
        alone = bench.find(variant, RELEVANCE)
        best = max(bench.fixed(variant), key=lambda row: row.ndcg)
        bandit = bench.find(variant, BANDIT)
        final = float(np.mean([bench.find(variant, arm).ndcg for arm in bandit.arms]))
        arms = ", ".join(f"{arm} {count}" for arm, count in Counter(bandit.arms).most_common(4))
        lines.append(
            f"| {variant} | {alone.ndcg:.3f} | {best.ndcg:.3f} ({best.policy}) | {bandit.ndcg:.3f} "
            f"| {bandit.late_ndcg:.3f} | {final:.3f} ({arms}) | {final / best.ndcg:.3f} |"
        )
    return lines


def _variants(bench: RivBench) -> list[str]:
    return list(dict.fromkeys(row.variant for row in bench.rows))


def _draw(bench: RivBench, *, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    variants = _variants(bench)
    figure = Figure(figsize=(5.5 * len(variants), 11), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(variants), squeeze=False, height_ratios=(1.5, 1, 1))
    for column, variant in enumerate(variants):
        _draw_presets(axes[0, column], bench, variant)
        _draw_time(axes[1, column], bench, variant)
        _draw_shown(axes[2, column], bench, variant)
    figure.suptitle(
        f"{bench.tasks} tasks replayed in {bench.orders} orders: what recency and importance do"
    )
    # No creation date or version in the file: the same numbers give the same bytes.
    figure.savefig(path, dpi=80, metadata={"Software": None})


def _draw_presets(axis: "Axes", bench: RivBench, variant: str) -> None:
    names = [*PRESETS, *EXTRA]
    alone = bench.find(variant, RELEVANCE).ndcg
    axis.axvline(alone, color="0.6", linestyle=":", label=f"{RELEVANCE}: {alone:.3f}")
    for scope, marker, shift in _MARKS:
        rows = [bench.find(variant, name, scope=scope) for name in names]
        means = np.array([row.ndcg for row in rows])
        bounds = np.array([row.interval() for row in rows])
        axis.errorbar(
            means,
            np.arange(len(names)) + shift,
            xerr=np.abs(bounds.T - means),
            fmt=marker,
            markersize=4,
            linewidth=1,
            label=f"{scope} scope",
        )
    axis.set_yticks(np.arange(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlim(0, None)
    axis.set_xlabel("nDCG@5")
    axis.set_title(variant, fontsize=11)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)


def _shown_rows(bench: RivBench, variant: str) -> list[tuple[str, Row]]:
    best = max(bench.fixed(variant), key=lambda row: row.ndcg)
    return [
        (RELEVANCE, bench.find(variant, RELEVANCE)),
        ("balanced, item scope", bench.find(variant, "balanced", scope="item")),
        ("balanced, block scope", bench.find(variant, "balanced")),
        (f"best fixed: {best.policy}", best),
        (BANDIT, bench.find(variant, BANDIT)),
    ]


def _draw_time(axis: "Axes", bench: RivBench, variant: str) -> None:
    window = min(_WINDOW, bench.tasks)
    for _, row in _shown_rows(bench, variant):
        running = np.convolve(row.over_time(), np.ones(window) / window, mode="valid")
        axis.plot(np.arange(len(running)) + window, running, linewidth=1.3)
    axis.set_ylim(0, None)
    axis.set_xlabel("task")
    axis.set_ylabel(f"nDCG@5, mean of the last {window}")


def _draw_shown(axis: "Axes", bench: RivBench, variant: str) -> None:
    for name, row in _shown_rows(bench, variant):
        shown = np.mean([run.shown for run in row.runs], axis=0)
        axis.plot(np.arange(len(shown)) + 1, shown, label=name, linewidth=1.3)
    axis.axhline(bench.documents, color="0.6", linestyle=":")
    axis.set_ylim(0, None)
    axis.set_xlabel("task")
    axis.set_ylabel("different documents used so far")
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
