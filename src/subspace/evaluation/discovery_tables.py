"""Files of a discovery: JSON, Markdown and a plot."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from subspace.arrays import Floats
from subspace.data.records import Record
from subspace.evaluation.dimensions import SPLITS
from subspace.evaluation.discovery import SIGNIFICANT, Discovery, Finding
from subspace.evaluation.discovery_plot import draw_shares
from subspace.evaluation.rank_agreement import RankAgreement, mean_agreement, tops
from subspace.evaluation.result_files import result_files, write_json
from subspace.evaluation.retained_share import (
    BEST,
    LEARNED,
    PRINCIPAL,
    RANDOM,
    RetainedShare,
    counts,
)
from subspace.model.markdown import table

_SHOWN = (1, 8, 64)


def write_discovery(found: Discovery, *, folder: Path) -> None:
    """Writes discover.json, discover.md and discover.png.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    with result_files(folder) as place:
        write_json(_as_json(found), place / "discover.json")
        (place / "discover.md").write_text(discovery_markdown(found), encoding="utf-8")
        draw_shares(found, path=place / "discover.png")


def discovery_markdown(found: Discovery) -> str:
    """Writes a Markdown page: shares, best dimensions, stability, and the texts at both ends."""
    lines = [
        "# What single dimensions carry",
        "",
        f"{found.dim} dimensions, ranked by what a linear probe on each alone reads of a factor "
        "from training texts (cross-validated); every score below is on test texts (balanced "
        "accuracy, or Spearman's rank correlation for numbers).",
        "",
        "## How much the best dimensions hold",
        "",
        *held_table(found),
        "",
        *_about_held(found),
        "",
        "![share by number of dimensions](discover.png)",
        "",
        "## The best dimension",
        "",
        *_best_table(found),
        "",
        "## Does the ranking hold?",
        "",
        *_halves_table(found),
        *_pairs_table(found),
        "",
        "## Texts at both ends of the best dimension",
    ]
    for finding in found.findings:
        lines += ["", f"### {finding.factor} of {finding.source}: dimension {finding.best}", ""]
        lines += ["Highest:", "", *_texts(finding.highest, finding.factor), ""]
        lines += ["Lowest:", "", *_texts(finding.lowest, finding.factor)]
    if found.left_out:
        lines += ["", "## Left out", "", *(f"- {reason}" for reason in found.left_out)]
    return "\n".join(lines) + "\n"


def held_table(found: Discovery) -> list[str]:
    """Writes a Markdown table of the share that the first dimensions of every space retain."""
    shown = [k for k in _SHOWN if k in counts(found.dim)]
    columns = [f"{name} {k}" for name in ("best", "random", "principal") for k in shown]
    rows = []
    for finding in found.findings:
        cells = [
            _share(finding.find(space, k)) for space in (BEST, RANDOM, PRINCIPAL) for k in shown
        ]
        block = finding.block
        rows.append(
            [
                *(finding.factor, finding.source, f"{finding.full:.2f} ({finding.chance:.2f})"),
                *cells,
                _share(finding.find(LEARNED, 1)),
                f"{_share(block)} ({block.count})" if block else "-",
            ]
        )
    heads = ["factor", "source", "score of all (chance)", *columns]
    return table([*heads, "learned 1", "block (width)"], rows)


def _about_held(found: Discovery) -> list[str]:
    lines = [
        "Scores above chance, as shares of what the probe on all dimensions reaches; intervals are "
        "in discover.json. Random: mean of five choices. Learned: the first direction of a "
        "discriminant analysis. From one number a linear probe can tell two classes at most.",
    ]
    if any(finding.block for finding in found.findings):
        seen = ", ".join(found.trained_on) or "none of these sources"
        lines += ["", f"The blocks were fitted on training texts of {seen}."]
    return lines


def _best_table(found: Discovery) -> list[str]:
    first = tops(found.dim)[:1]
    rows = []
    for finding in found.findings:
        best = finding.best
        rows.append(
            [
                *(finding.factor, finding.source, str(len(finding.significant)), str(best)),
                f"{finding.scores[best]:.2f} ({finding.chance:.2f})",
                f"{finding.training.information[best]:.3f}",
                _p(finding.p[best]),
                f"{finding.length:+.2f}",
                *(f"{finding.training.stability.among_first[k][best]:.0%}" for k in first),
            ]
        )
    lines = table(
        [
            *("factor", "source", f"significant of {found.dim}", "best", "its score (chance)"),
            *("information (nats)", "p", "with length"),
            *(f"among the first {k} of half the texts" for k in first),
        ],
        rows,
    )
    return [
        *lines,
        "",
        "*p*: Kruskal-Wallis for classes, Spearman for numbers, allowing for groups, adjusted for "
        f"all {found.dim * len(found.findings)} comparisons (Benjamini-Yekutieli, which holds "
        f"however the dimensions depend on each other); significant below {SIGNIFICANT}. *With "
        "length*: rank correlation of the dimension with the number of words.",
    ]


def _halves_table(found: Discovery) -> list[str]:
    rows = []
    for finding in found.findings:
        halves, by_information = (
            finding.training.stability.halves,
            finding.training.information_halves,
        )
        rows.append(
            [
                *(finding.factor, finding.source, f"{halves.correlation:+.2f}"),
                *_shared_cells(halves),
                f"{by_information.correlation:+.2f}",
            ]
        )
    heads = ["factor", "source", "rank correlation", *_shared_heads(found)]
    return [
        f"Between two halves of the training texts, groups kept together, mean of {SPLITS} ways to "
        "halve them; beside it the same by mutual information (one way), which ranks nothing here:",
        "",
        *table([*heads, "by mutual information"], rows),
    ]


def _pairs_table(found: Discovery) -> list[str]:
    by_factor: dict[str, list[RankAgreement]] = {}
    for pair in found.pairs():
        by_factor.setdefault(pair.factor, []).append(pair.agreement)
    unlike = found.unlike()
    if unlike:
        by_factor["different factors"] = unlike
    if not by_factor:
        return []
    rows = []
    for factor, agreements in by_factor.items():
        mean, each = mean_agreement(agreements), [a.correlation for a in agreements]
        correlation = f"{mean.correlation:+.2f} ({min(each):+.2f} to {max(each):+.2f})"
        rows.append([factor, str(len(agreements)), correlation, *_shared_cells(mean)])
    heads = ["factor", "pairs", "rank correlation (lowest to highest)", *_shared_heads(found)]
    return [
        "",
        "Between sources, mean of all pairs. Sources agree on a factor only as far as they agree "
        "more than sources of different factors do:",
        "",
        *table(heads, rows),
    ]


def _shared_heads(found: Discovery) -> list[str]:
    dim = found.dim
    return [f"of the first {k} shared (chance {k * k / dim:.1f})" for k in tops(dim)]


def _shared_cells(agreement: RankAgreement) -> list[str]:
    return [f"{count:.1f}" for count in agreement.shared.values()]


def _p(p: float) -> str:
    return f"{p:.0e}" if p > 0 else "< 1e-300"


def _share(held: RetainedShare) -> str:
    return "-" if math.isnan(held.share) else f"{held.share:.2f}"


def _texts(records: Sequence[Record], factor: str) -> list[str]:
    return [f"- *{_line(str(r.factors[factor]))}*: {_line(r.text)}" for r in records]


def _line(text: str, *, width: int = 110) -> str:
    """Returns a text as one line of at most `width` characters, with Markdown signs escaped."""
    line = " ".join(text.split())
    line = line if len(line) <= width else line[: width - 1].rstrip() + "…"
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#$~" else sign for sign in line)


def _as_json(found: Discovery) -> dict[str, Any]:
    unlike = found.unlike()
    return {
        "dimensions": found.dim,
        "findings": [_finding_json(finding) for finding in found.findings],
        "pairs": [
            {"factor": p.factor, "sources": p.sources, **_agreement_json(p.agreement)}
            for p in found.pairs()
        ],
        "different_factors": _agreement_json(mean_agreement(unlike)) if unlike else None,
        "blocks_trained_on": found.trained_on,
        "left_out": found.left_out,
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    stability = finding.training.stability
    ends = {"highest": finding.highest, "lowest": finding.lowest}
    return {
        "factor": finding.factor,
        "source": finding.source,
        "texts": finding.texts,
        "chance": finding.chance,
        "score": finding.full,
        "ranking": finding.order.tolist(),
        "cross_validated": _rounded(finding.training.score),
        "mutual_information": _rounded(finding.training.information),
        "p": [float(f"{p:.4g}") for p in finding.p],
        "test": _rounded(finding.scores),
        "best_with_length": finding.length,
        "halves": _agreement_json(stability.halves),
        "halves_by_information": _agreement_json(finding.training.information_halves),
        "among_first": {k: _rounded(v) for k, v in stability.among_first.items()},
        "held": [_held_json(held) for held in finding.held],
        **{
            end: [{"id": r.id, "label": r.factors[finding.factor], "text": r.text} for r in records]
            for end, records in ends.items()
        },
    }


def _held_json(held: RetainedShare) -> dict[str, Any]:
    shares = {"share": held.share, "low": held.low, "high": held.high}
    known = {name: None if math.isnan(value) else value for name, value in shares.items()}
    return {"space": held.space, "count": held.count, "score": held.score, **known}


def _agreement_json(agreement: RankAgreement) -> dict[str, Any]:
    return {"correlation": agreement.correlation, "shared": dict(agreement.shared)}


def _rounded(values: Floats) -> list[float]:
    return [float(value) for value in np.round(values, 5)]
