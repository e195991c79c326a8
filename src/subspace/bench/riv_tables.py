"""Results of the bench of recency, importance and relevance as JSON, Markdown and a plot."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subspace.bench.riv_results import (
    BANDIT,
    BANDIT_WHOLE,
    EXTRA,
    RELEVANCE,
    RivBench,
    Row,
)
from subspace.evaluation.result_files import result_files, write_json
from subspace.model.markdown import table
from subspace.retrieval.hits import Scope
from subspace.retrieval.presets import PRESETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS: tuple[tuple[Scope, str, float], ...] = (("item", "o", -0.12), ("block", "s", 0.12))
_WINDOW = 50
_MEASURES = ("nDCG@5", "MRR", "hit rate", "used")


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
        "rows": [row.to_json() for row in bench.rows],
    }
    with result_files(folder) as place:
        write_json(content, place / "riv.json")
        (place / "riv.md").write_text(riv_markdown(bench), encoding="utf-8")
        _draw(bench, path=place / "riv.png")


def riv_markdown(bench: RivBench) -> str:
    """Writes tables of every policy in both scopes, and of the weights that the bandit learned."""
    lines = [
        "# Recency, importance and relevance, replayed",
        "",
        *(line for note in bench.notes for line in (f"**Note:** {note}.", "")),
        f"{bench.tasks} tasks in {bench.orders} orders, {bench.documents} documents. The best five "
        "documents of each task are used; a use succeeds if the document is relevant. Means with "
        "95 % bootstrap intervals over tasks. *Hit rate*: share of tasks with a relevant document "
        "among the five. *Used*: number of different documents used in a replay. Without `/BLOCK` "
        "all blocks have equal weights.",
    ]
    for number, space in enumerate(bench.spaces):
        lines += ["", f"## {space}", "", *_policy_table(bench, space)]
        lines += [] if number else ["", "![over time](riv.png)"]
    lines += ["", "## What the bandit learned", "", *_bandit_table(bench), ""]
    return "\n".join(lines) + "\n"


def _policy_table(bench: RivBench, space: str) -> list[str]:
    header = [f"{scope} scope: {_MEASURES[0]}" for scope, _, _ in _MARKS]
    names = ["weights", header[0], *_MEASURES[1:], header[1], *_MEASURES[1:]]
    return table(names, _policy_rows(bench, space))


def _policy_rows(bench: RivBench, space: str) -> Iterator[list[str]]:
    for row in bench.relevance(space):
        yield [row.policy, *_cells(row), *_cells(row)]
    for name in (*PRESETS, *EXTRA):
        rows = [bench.find(space, name, scope=scope) for scope, _, _ in _MARKS]
        yield [name, *(cell for row in rows for cell in _cells(row))]


def _cells(row: Row) -> list[str]:
    (low, high), (worst, best) = row.interval(), row.interval("reciprocal_rank")
    least, most = row.interval("hit")
    return [
        f"{row.ndcg:.3f} ({low:.3f} to {high:.3f})",
        f"{row.mrr:.3f} ({worst:.3f} to {best:.3f})",
        f"{row.hit_rate:.2f} ({least:.2f} to {most:.2f})",
        f"{row.distinct:.0f}",
    ]


def _bandit_table(bench: RivBench) -> list[str]:
    replays = len(bench.find(bench.spaces[0], BANDIT).runs)
    header = (
        "vectors",
        "feedback",
        "best relevance alone",
        "best fixed choice",
        "bandit, all tasks",
        "share of relevance alone",
        "last third",
        "share of the best fixed choice there",
        f"the arms it ended with (the most frequent of {replays} replays)",
    )
    told = ((BANDIT, "each hit"), (BANDIT_WHOLE, "the whole"))
    rows = [_bandit_row(bench, space, *one) for space in bench.spaces for one in told]
    return table(header, rows)


def _bandit_row(bench: RivBench, space: str, policy: str, feedback: str) -> list[str]:
    alone, best = _best(bench.relevance(space)), _best(bench.fixed(space))
    bandit = bench.find(space, policy)
    arms = ", ".join(f"{arm} {count}" for arm, count in Counter(bandit.arms).most_common(4))
    return [
        space,
        feedback,
        f"{alone.ndcg:.3f} ({alone.policy})",
        f"{best.ndcg:.3f} ({best.policy})",
        f"{bandit.ndcg:.3f}",
        _share(bandit.ndcg, alone.ndcg),
        f"{bandit.late_ndcg:.3f}",
        _share(bandit.late_ndcg, best.late_ndcg),
        arms,
    ]


def _share(value: float, of: float) -> str:
    return f"{value / of:.3f}" if of else "-"


def _best(rows: list[Row]) -> Row:
    return max(rows, key=lambda row: row.ndcg)


def _draw(bench: RivBench, *, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(bench.spaces), 11), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(bench.spaces), squeeze=False, height_ratios=(1.5, 1, 1))
    for column, space in enumerate(bench.spaces):
        _draw_presets(axes[0, column], bench, space)
        _draw_time(axes[1, column], bench, space)
        _draw_shown(axes[2, column], bench, space)
    figure.suptitle(
        f"{bench.tasks} tasks replayed in {bench.orders} orders: what recency and importance do"
    )
    # No creation date or version in the file: the same numbers give the same bytes.
    figure.savefig(path, dpi=80, metadata={"Software": None})


def _draw_presets(axis: "Axes", bench: RivBench, space: str) -> None:
    names = [*PRESETS, *EXTRA]
    alone = bench.find(space, RELEVANCE).ndcg
    axis.axvline(alone, color="0.6", linestyle=":", label=f"{RELEVANCE}: {alone:.3f}")
    for scope, marker, shift in _MARKS:
        rows = [bench.find(space, name, scope=scope) for name in names]
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
    axis.set_title(space, fontsize=11)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)


def _shown_rows(bench: RivBench, space: str) -> list[tuple[str, Row]]:
    alone, best = _best(bench.relevance(space)), _best(bench.fixed(space))
    return [
        (f"best {alone.policy}", alone),
        ("balanced, item scope", bench.find(space, "balanced", scope="item")),
        ("balanced, block scope", bench.find(space, "balanced")),
        (f"best fixed: {best.policy}", best),
        (BANDIT, bench.find(space, BANDIT)),
    ]


def _draw_time(axis: "Axes", bench: RivBench, space: str) -> None:
    window = min(_WINDOW, bench.tasks)
    for _, row in _shown_rows(bench, space):
        running = np.convolve(row.over_time(), np.ones(window) / window, mode="valid")
        axis.plot(np.arange(len(running)) + window, running, linewidth=1.3)
    axis.set_ylim(0, None)
    axis.set_xlabel("task")
    axis.set_ylabel(f"nDCG@5, mean of the last {window}")


def _draw_shown(axis: "Axes", bench: RivBench, space: str) -> None:
    for name, row in _shown_rows(bench, space):
        shown = np.mean([run.shown for run in row.runs], axis=0)
        axis.plot(np.arange(len(shown)) + 1, shown, label=name, linewidth=1.3)
    axis.axhline(bench.documents, color="0.6", linestyle=":")
    axis.set_ylim(0, None)
    axis.set_xlabel("task")
    axis.set_ylabel("different documents used so far")
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
