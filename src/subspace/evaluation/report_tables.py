"""The report as files: JSON for machines, Markdown, PNG and HTML for people."""

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from subspace.evaluation.heat_maps import PROBE_TITLES, draw_heat_maps
from subspace.evaluation.probes import PROBES
from subspace.evaluation.report import CROSS_CORPUS, IN_CORPUS, Report
from subspace.evaluation.result_files import result_files, write_json
from subspace.evaluation.separation import ALL_LAYERS, RAW, Matrix, Reading
from subspace.evaluation.steering_tables import steering_by_source, steering_means
from subspace.model.markdown import table

FILES = ("separation.json", "separation.md", "separation.png", "separation.html")

Cell = str | float
Table = dict[str, Any]


def write_report(report: Report, *, folder: Path) -> None:
    """Writes separation.json, .png, .md and .html: whole, or not at all.

    Args:
        report: The measurements.
        folder: The folder to write to; made if it does not exist.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    with result_files(folder) as place:
        write_json(report.to_json(), place / "separation.json")
        draw_heat_maps(report, path=place / "separation.png")
        picture = base64.b64encode((place / "separation.png").read_bytes()).decode()
        (place / "separation.md").write_text(to_markdown(report), encoding="utf-8")
        (place / "separation.html").write_text(to_html(report, picture=picture), encoding="utf-8")


def write_html(report: Report, path: Path) -> None:
    """Writes the report as one page that needs no other file: whole, or not at all.

    Raises:
        ConfigError: The file cannot be written.
    """
    with result_files(path.parent) as place:
        picture = place / f"{path.stem}.heat-maps.png"
        draw_heat_maps(report, path=picture)
        encoded = base64.b64encode(picture.read_bytes()).decode()
        picture.unlink()
        (place / path.name).write_text(to_html(report, picture=encoded), encoding="utf-8")


def to_markdown(report: Report) -> str:
    """Writes the whole report as one Markdown page."""
    return _environment().get_template("report.md.jinja").render(_context(report))


def to_html(report: Report, *, picture: str) -> str:
    """Writes the whole report as one HTML page that needs no other file.

    Args:
        report: The measurements.
        picture: The heat maps, a PNG in base64.
    """
    context = _context(report)
    return _environment().get_template("report.html.jinja").render(context, picture=picture)


def summary(report: Report) -> str:
    """Summarises a report for a terminal: steering, base retrieval, matrix and selectivity."""
    steering = steering_means(report.steering)
    lines = table(steering["head"], steering["rows"]) if report.steering else []
    if any(row.in_corpus for row in report.steering):
        lines.append("`*`: blocks that were fitted on these texts")
    for base in report.base:
        lines.append(
            f"search in {base.name}: nDCG@10 {base.ndcg:.3f}, raw encoder {base.raw_ndcg:.3f}"
        )
    lines += [*([""] if lines else []), _separation_summary(report)]
    lines += [f"not measured: {reason}" for reason in report.left_out]
    lines += [f"warning: {warning}" for warning in report.warnings]
    return "\n".join(lines)


def _separation_summary(report: Report) -> str:
    model = next((m for m in (CROSS_CORPUS, IN_CORPUS) if report.matrix(m).blocks), None)
    if model is None:
        return "no block could be probed"
    shown = matrix_table(report.matrix(model), title="")
    width = len(shown["head"])
    scores = scores_table(report)
    lines = [
        f"{model}, linear probe, confounds controlled; shares of the raw embedding's score above "
        "chance:",
        "",
        "| " + " | ".join(shown["head"]) + " |",
        "|" + "---|" * width,
        "| raw embedding | " + "1.00 | " * (width - 3) + "- | - |",
        *("| " + " | ".join(cell.strip("*") for cell in row) + " |" for row in shown["rows"]),
        "",
    ]
    lines += [
        f"The scores themselves, of which these are shares ({scores['note']}):",
        "",
        *table(scores["head"], scores["rows"]),
        "",
    ]
    for row in headline(report)["rows"]:
        lines.append("{}, confounds {}, {}: selectivity {} ({})".format(*row))
    return "\n".join(lines)


def headline(report: Report) -> Table:
    """Returns a table of selectivity, retention and leakage by model, condition and probe."""
    rows: list[list[Cell]] = []
    for model in (CROSS_CORPUS, IN_CORPUS):
        for controlled in (True, False):
            for probe in PROBES:
                matrix = report.matrix(model, probe=probe, controlled=controlled)
                if np.isnan(matrix.selectivity()):
                    continue
                low, high = matrix.selectivity_interval()
                seeds = [matrix.selectivity(values) for values in matrix.by_seed]
                rows.append(
                    [
                        model,
                        "controlled" if controlled else "as they are",
                        PROBE_TITLES[probe],
                        f"{matrix.selectivity():.2f}",
                        f"{low:.2f} to {high:.2f}",
                        f"{np.std(seeds):.3f}",
                        f"{matrix.mean_retention():.2f}",
                        f"{matrix.mean_leakage():.2f}",
                    ]
                )
    return _table(
        "Selectivity",
        [
            "blocks",
            "confounds",
            "probe",
            "selectivity",
            "95 % interval",
            "sd over seeds",
            "own factor",
            "leakage",
        ],
        rows,
    )


def scores_table(report: Report) -> Table:
    """Returns the linear probe's scores in each factor's own block, beside chance and baselines.

    Every cell is the mean over sources; the interval is the mean of the sources' intervals.
    """
    readings = [r for r in report.readings if r.probe == "linear" and r.controlled]
    models = [m for m in report.models if m not in (RAW, ALL_LAYERS)]
    spaces = [(m, None) for m in (RAW, ALL_LAYERS) if m in report.models] + [
        (m, "own") for m in models
    ]
    rows: list[list[Cell]] = []
    for factor in (block for block in report.blocks if any(r.factor == block for r in readings)):
        of_factor = [r for r in readings if r.factor == factor]
        chance = float(np.mean([r.chance for r in of_factor if r.model == RAW]))
        cells: list[Cell] = [factor, f"{chance:.2f}"]
        for model, own in spaces:
            found = [r for r in of_factor if r.model == model and (not own or r.block == factor)]
            cells.append(_score_cell(found) if found else "-")
        rows.append(cells)
    return _table(
        "Scores in the factor's own block",
        ["factor", "chance", *(model for model, _ in spaces)],
        rows,
    ) | {
        "note": "balanced accuracy for categories, rank correlation for numbers; 95 % interval "
        "over test texts, confounds controlled"
    }


def _score_cell(readings: Sequence[Reading]) -> str:
    score, low, high = (
        float(np.mean([getattr(reading, name) for reading in readings]))
        for name in ("score", "low", "high")
    )
    return f"{score:.2f} ({low:.2f} to {high:.2f})"


def matrix_table(matrix: Matrix, *, title: str) -> Table:
    """Returns a block x factor matrix as a table; the factor that names a block is bold."""
    retention, leakage = matrix.retention(), matrix.leakage()
    rows: list[list[Cell]] = []
    for block, values in zip(matrix.blocks, matrix.values, strict=True):
        cells = [
            f"**{_number(value)}**" if factor == block else _number(value)
            for factor, value in zip(matrix.factors, values, strict=True)
        ]
        rows.append(
            [
                block,
                *cells,
                _number(retention.get(block, np.nan)),
                _number(leakage.get(block, np.nan)) if block in retention else "-",
            ]
        )
    return _table(title, ["block", *matrix.factors, "own", "mean leakage"], rows)


def _context(report: Report) -> dict[str, Any]:
    return {
        "report": report,
        "headline": headline(report),
        "steering": [steering_means(report.steering), steering_by_source(report.steering)],
        "matrices": _matrices(report),
        "baselines": _baselines(report),
        "tables": [
            table
            for table in (
                scores_table(report),
                _swaps(report),
                _precisions(report),
                _base(report),
                _disentanglement(report),
                _geometry(report),
                _controls(report),
                _confounds(report),
            )
            if table["rows"]
        ],
        "by_source": _by_source(report),
    }


def _matrices(report: Report) -> list[Table]:
    tables = []
    for model in (CROSS_CORPUS, IN_CORPUS):
        for probe in PROBES:
            matrix = report.matrix(model, probe=probe)
            if matrix.blocks:
                tables.append(
                    matrix_table(matrix, title=f"{model.capitalize()}, {PROBE_TITLES[probe]}")
                )
    return tables


def _baselines(report: Report) -> Table:
    rows: list[list[Cell]] = [["majority class, or a constant", "-", "-", "0.00", "0.00", "0.00"]]
    rows.append([f"{RAW} embedding", "-", "-", "0.00", "1.00", "1.00"])
    for model in report.models:
        if model == RAW:
            continue
        for probe in ("linear", "neighbours"):
            matrix = report.matrix(model, probe=probe)
            if matrix.retention():
                own = matrix.retention()
                rest = matrix.selectivity(), matrix.mean_retention(), matrix.mean_leakage()
            elif model == ALL_LAYERS and matrix.blocks:
                # Without blocks, retention and leakage are the same, so selectivity is 0.
                own = dict(zip(matrix.factors, matrix.values[0], strict=True))
                own = {factor: own[factor] for factor in report.blocks if factor in own}
                held = float(np.mean(list(own.values()) or [np.nan]))
                rest = 0.0, held, held
            else:
                continue
            values = ", ".join(f"{value:.2f}" for value in own.values())
            rows.append([model, PROBE_TITLES[probe], values, *map(_number, rest)])
    table = _table(
        "Beside the baselines",
        ["model", "probe", "own factor by block", "selectivity", "own factor", "leakage"],
        rows,
    )
    table["note"] = (
        "PCA, LDA and a closed form are fitted on the training texts of the corpora that the "
        "checkpoint was fitted on, and are to be compared with the in-corpus rows. All layers are "
        "the input of the projection."
    )
    return table


def _swaps(report: Report) -> Table:
    keys = dict.fromkeys((swap.source, swap.factor, swap.model) for swap in report.swaps)
    rows: list[list[Cell]] = []
    for source, factor, model in keys:
        found = {
            swap.block: swap
            for swap in report.swaps
            if (swap.source, swap.factor, swap.model) == (source, factor, model)
        }
        triples = next(iter(found.values())).triples
        own = [f"{found[block].accuracy:.3f}" if block in found else "-" for block in report.blocks]
        shown = own if model != RAW else [f"{found[''].accuracy:.3f}"] + ["" for _ in own[1:]]
        rows.append([source, factor, model, str(triples), *shown])
    table = _table("Swap accuracy", ["source", "factor", "model", "triples", *report.blocks], rows)
    table["note"] = (
        "How often a block puts the text with the same label and other content before the text "
        "with the same content and another label. For `raw` there is one number, in the first "
        "column."
    )
    return table


def _precisions(report: Report) -> Table:
    keys = dict.fromkeys((p.source, p.factor, p.model) for p in report.precisions)
    rows: list[list[Cell]] = []
    raw = {(p.source, p.factor): p for p in report.precisions if p.model == RAW}
    for source, factor, model in keys:
        if model not in (IN_CORPUS, CROSS_CORPUS):
            continue
        found = {
            p.block: p
            for p in report.precisions
            if (p.source, p.factor, p.model) == (source, factor, model)
        }
        base = raw[source, factor]
        cells = [f"{found[b].precision:.2f}" if b in found else "-" for b in report.blocks]
        rows.append([source, factor, model, f"{base.chance:.2f}", f"{base.precision:.2f}", *cells])
    table = _table(
        "Retrieval by block: precision@10",
        ["source", "factor", "model", "chance", RAW, *report.blocks],
        rows,
    )
    table["note"] = "Share of the ten nearest test texts that have the query's label or level."
    return table


def _base(report: Report) -> Table:
    rows: list[list[Cell]] = [
        [
            base.name,
            str(base.queries),
            f"{base.raw_ndcg:.3f}",
            f"{base.ndcg:.3f}",
            _number(base.relative, digits=3),
            _number(base.correlation),
            *(f"{base.by_block[block]:.3f}" for block in report.blocks),
        ]
        for base in report.base
    ]
    return _table(
        "Base retrieval at the default weights",
        [
            "set",
            "queries",
            "raw nDCG@10",
            "nDCG@10",
            "relative",
            "correlation of cosines",
            *(f"{block} alone" for block in report.blocks),
        ],
        rows,
    )


def _disentanglement(report: Report) -> Table:
    found = report.disentanglement
    rows: list[list[Cell]] = []
    if found:
        for name in dict.fromkeys([*found.blocks, *found.factors]):
            rows.append(
                [
                    name,
                    _number(found.disentanglement.get(name, np.nan)),
                    _number(found.completeness.get(name, np.nan)),
                    _number(found.mig.get(name, np.nan)),
                    _number(found.sap.get(name, np.nan)),
                ]
            )
    return _table(
        "DCI, MIG and SAP with blocks as latents",
        ["block or factor", "disentanglement", "completeness", "MIG", "SAP"],
        rows,
    )


def _geometry(report: Report) -> Table:
    rows: list[list[Cell]] = [
        [
            block,
            f"{part.effective_rank:.1f}",
            f"{part.energy:.3f}",
            f"{part.score_mean:.3f}",
            f"{part.score_spread:.4f}",
            _number(report.source_probe.get(block, np.nan)),
        ]
        for block, part in report.geometry.items()
    ]
    table = _table(
        "Geometry",
        ["block", "effective rank", "energy", "mean score", "score spread", "source probe"],
        rows,
    )
    if RAW in report.source_probe:
        table["note"] = (
            f"Source probe: balanced accuracy for the corpus of a text; the raw embedding has "
            f"{report.source_probe[RAW]:.2f}."
        )
    return table


def _controls(report: Report) -> Table:
    rows: list[list[Cell]] = []
    for probe in PROBES:
        for model in (RAW, IN_CORPUS):
            chosen = [
                r
                for r in report.readings
                if (r.model, r.probe) == (model, probe)
                and r.control is not None
                and (model == RAW or r.block == r.factor)
            ]
            if chosen:
                scores = np.mean([reading.score for reading in chosen])
                control = np.mean([r.control for r in chosen if r.control is not None])
                rows.append(
                    [
                        PROBE_TITLES[probe],
                        RAW if model == RAW else "own block",
                        f"{scores:.2f}",
                        f"{control:.2f}",
                        f"{scores - control:.2f}",
                    ]
                )
    table = _table(
        "Control labels",
        ["probe", "read from", "score", "score on control labels", "difference"],
        rows,
    )
    table["note"] = (
        "Control labels are random, but the same for texts with the same first word (Hewitt and "
        "Liang): what a probe gets on them it has memorised."
    )
    return table


def _confounds(report: Report) -> Table:
    rows: list[list[Cell]] = []
    for name, strength in report.lengths.items():
        source, factor = name.split("/", 1)
        tied = [
            f"{tie.other} {tie.strength:.2f}"
            for tie in report.ties
            if (tie.source, tie.factor) == (source, factor)
        ]
        rows.append([source, factor, f"{strength:.2f}", ", ".join(tied) or "-"])
    table = _table("Confounds", ["source", "factor", "association with length", "tied to"], rows)
    table["note"] = (
        "Controlled figures have length (its logarithm, linear and squared) regressed out of the "
        "vectors, and read tied factors within levels of each other."
    )
    return table


def _by_source(report: Report) -> Table:
    rows: list[list[Cell]] = []
    models = [m for m in (CROSS_CORPUS, IN_CORPUS) if m in report.models]
    keys = dict.fromkeys(
        (r.source, r.factor, r.model, r.probe) for r in report.readings if r.model in models
    )
    for source, factor, model, probe in keys:
        found = {
            r.block: r
            for r in report.readings
            if (r.source, r.factor, r.model, r.probe) == (source, factor, model, probe)
            and r.controlled
        }
        if not found:
            continue
        rows.append(
            [
                source,
                factor,
                model,
                PROBE_TITLES[probe],
                *(_with_interval(found.get(block)) for block in report.blocks),
            ]
        )
    return _table("By source", ["source", "factor", "model", "probe", *report.blocks], rows)


def _with_interval(reading: Any) -> str:
    if reading is None:
        return "-"
    low, high = np.nanquantile(reading.replicates, [0.025, 0.975])
    return f"{reading.relative:.2f} ({low:.2f}-{high:.2f})"


def _table(title: str, head: Sequence[str], rows: Iterable[list[Cell]]) -> Table:
    return {"title": title, "head": list(head), "rows": list(rows), "note": ""}


def _number(value: float, *, digits: int = 2) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("subspace.evaluation", "templates"),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.jinja",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = lambda cell: str(cell).strip("*")
    environment.filters["shade"] = _shade
    return environment


def _shade(cell: Cell) -> str:
    """Returns the CSS background of a cell by its share in [0, 1]; empty if it is no number."""
    text = str(cell).strip("*")
    try:
        value = min(max(float(text), 0.0), 1.0)
    except ValueError:
        return ""
    return f"background: rgba(33, 113, 181, {0.75 * value:.2f})"
