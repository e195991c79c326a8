"""`subspace probe`: the separation report."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_store,
    make_folder,
    open_encoder,
)
from subspace.cli.unseen_queries import keep_unseen
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.data.retrieval_sets import RetrievalSet
    from subspace.encoder.cached_encoder import CachedEncoder
    from subspace.evaluation import BaseRetrieval
    from subspace.fitting.stored_sources import StoredSource
    from subspace.model import Checkpoint
    from subspace.model.projection import Projection


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "probe",
        help="measure what every block holds of every factor",
        description="Writes separation.json, separation.md, separation.png and separation.html: "
        "what linear probes, nearest neighbours and a small network read of every factor from "
        "every block, relative to the raw embedding. Sources that the checkpoint was trained on "
        "are read in-corpus and, with the projection solved again without them, cross-corpus; "
        "all others are cross-corpus as they are. Retrieval sets among the data (BEIR layout) "
        "are searched with all blocks at equal weights.",
        epilog="example: subspace probe --checkpoint checkpoints/demo --data data/factorial "
        "--output runs/report",
    )
    add_checkpoint(parser)
    add_store(parser)
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="DIR",
        help="files or folders of labelled JSONL, or a folder of such folders",
    )
    parser.add_argument(
        "--exclude", nargs="*", default=[], metavar="NAME", help="sources to leave out"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        metavar="N",
        help="samples of training texts, and initialisations (default: %(default)s)",
    )
    parser.add_argument(
        "--no-cross-corpus",
        action="store_true",
        help="do not solve again without each source",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the report")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.data.records import read_records
    from subspace.data.retrieval_sets import find_retrieval_sets, read_retrieval_set
    from subspace.evaluation import EmbeddedSource, measure_report, summary, write_report
    from subspace.fitting.stored_sources import store_sources
    from subspace.model import load_checkpoint
    from subspace.model.projection import digest_projection

    if arguments.seeds < 1:
        raise ConfigError(f"--seeds must be 1 or more, got {arguments.seeds}")
    output = make_folder(arguments.output)
    records = read_records(arguments.data, exclude=arguments.exclude)
    checkpoint = load_checkpoint(arguments.checkpoint)
    encoder = open_encoder(checkpoint, encoder=arguments.encoder, store=arguments.store)
    stored = store_sources(
        records,
        encoder=encoder,
        origin_weights=checkpoint.training.get("origin_weights"),
        progress=True,
    )
    seen, warnings = _match_sources(checkpoint, stored)
    cross_corpus, baselines = _compare(
        checkpoint,
        {name: stored[name] for name in seen},
        encoder=encoder,
        warnings=warnings,
        leave_out=not arguments.no_cross_corpus,
    )
    searched = {}
    for name, folder in find_retrieval_sets(arguments.data).items():
        data, warning = keep_unseen(read_retrieval_set(folder), checkpoint, name=name)
        searched[name] = data
        warnings += [warning] if warning else []
    report = measure_report(
        checkpoint.projection,
        sources={
            name: EmbeddedSource(
                records=source.records,
                labels=source.labels,
                x=encoder.store.read(source.rows),
            )
            for name, source in stored.items()
        },
        raw=checkpoint.fingerprint.last_layer,
        seen=seen,
        cross_corpus=cross_corpus,
        baselines=baselines,
        base=[
            _search(checkpoint, name=name, data=data, encoder=encoder)
            for name, data in searched.items()
        ],
        about={
            "checkpoint": checkpoint.manifest(),
            "projection": digest_projection(checkpoint.projection),
            "data": {name: source.sha256 for name, source in stored.items()},
        },
        warnings=warnings,
        seeds=arguments.seeds,
        progress=True,
    )
    write_report(report, folder=output)
    print(summary(report))
    for reason in report.left_out:
        print(f"left out: {reason}")
    for warning in report.warnings:
        print(f"warning: {warning}")
    print(f"report -> {arguments.output}/separation.html")


def _match_sources(
    checkpoint: "Checkpoint", stored: "Mapping[str, StoredSource]"
) -> tuple[list[str], list[str]]:
    """Names of the sources that the checkpoint was trained on, and what is odd about them."""
    trained = checkpoint.data_sha256
    seen, warnings = [], []
    for name, source in stored.items():
        if source.sha256 in trained.values():
            seen.append(name)
        elif name in trained:
            seen.append(name)
            warnings.append(
                f"source '{name}' is not what the checkpoint was trained on under that name: "
                "texts it was trained on may be among the test texts"
            )
    return seen, warnings


def _compare(
    checkpoint: "Checkpoint",
    seen: "Mapping[str, StoredSource]",
    *,
    encoder: "CachedEncoder",
    warnings: list[str],
    leave_out: bool,
) -> "tuple[dict[str, Projection], dict[str, Projection]]":
    """The projections solved without each source, and the baselines."""
    from subspace.evaluation import baselines as baseline
    from subspace.evaluation.cross_corpus import leave_one_out
    from subspace.fitting.closed_form import ClosedForm, solve_closed_form
    from subspace.fitting.pair_blocks import factor_layout
    from subspace.fitting.stored_sources import training_statistics
    from subspace.fitting.weak.weak_moments import WeakSupervision

    raw = checkpoint.fingerprint.last_layer
    layout = factor_layout(checkpoint.projection.layout) or checkpoint.projection.layout
    models = {
        "random rotation": baseline.random_rotation(
            layout=layout, raw=raw, dim=checkpoint.projection.input_dim
        )
    }
    settings = checkpoint.training.get("closed_form")
    weak = WeakSupervision(**checkpoint.training.get("weak", {}))
    collected = {
        name: training_statistics(source, encoder=encoder, weak=weak, progress=True)
        for name, source in seen.items()
    }
    statistics = {name: part for name, part in collected.items() if part is not None}
    if not statistics:
        return {}, models
    models["PCA"] = baseline.principal_components(statistics, layout=layout, raw=raw)
    labelled = {factor for part in statistics.values() for factor in part.factors}
    if set(layout) & labelled:
        models["LDA without guard"] = baseline.unguarded_lda(statistics, layout=layout, raw=raw)
    if not isinstance(settings, dict):
        warnings.append(
            "the checkpoint does not say how it was solved, so it cannot be solved again without "
            "a source: train it again for cross-corpus figures"
        )
        return {}, models
    closed_form = ClosedForm(**settings)
    trained = checkpoint.training.get("solver") != "closed_form"
    if trained:
        models["closed form"] = solve_closed_form(
            statistics, layout=layout, settings=closed_form, raw=raw
        ).projection
    if not leave_out or len(statistics) < 2:
        return {}, models
    missing = len(checkpoint.data_sha256) - len(statistics)
    if missing:
        warnings.append(
            f"{missing} of the {len(checkpoint.data_sha256)} sources that the checkpoint was "
            "trained on are not given: cross-corpus projections are solved from the others alone"
        )
    if trained:
        warnings.append(
            "cross-corpus figures are of the closed form with the checkpoint's settings: training "
            "again without each source would take hours"
        )
    return (
        leave_one_out(statistics, layout=layout, settings=closed_form, raw=raw, progress=True),
        models,
    )


def _search(
    checkpoint: "Checkpoint", *, name: str, data: "RetrievalSet", encoder: "CachedEncoder"
) -> "BaseRetrieval":
    from subspace.evaluation import measure_base_retrieval

    return measure_base_retrieval(
        checkpoint.projection,
        name=name,
        data=data,
        documents=encoder.encode([document.text for document in data.documents], progress=True),
        queries=encoder.encode(list(data.queries.values()), kind="query", progress=True),
        raw=checkpoint.fingerprint.last_layer,
    )
