"""`subspace probe`: measures a model on labelled texts and retrieval sets."""

import argparse

from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_kin,
    add_sources,
    add_store,
    make_folder,
)


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "probe",
        help="measure whether blocks move hits, what they hold, and what search loses",
        description="Writes separation.json, .md, .png and .html: how far a weight moves the hits "
        "next to what costs nothing, what probes read of every factor from every block, and how "
        "search compares with the raw encoder. Sources that the model was fitted on are measured "
        "with the projection solved again without them (cross-corpus); all others as they are. "
        "Retrieval sets among the data (BEIR layout) are searched with the default weights.",
        epilog="example: subspace probe --checkpoint checkpoints/demo --data data/factorial "
        "--output runs/report",
    )
    add_checkpoint(parser)
    add_store(parser)
    add_sources(parser)
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
    add_kin(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the report")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.data import find_retrieval_sets, read_retrieval_set, read_sources
    from subspace.evaluation import evaluate
    from subspace.model import load

    output = make_folder(arguments.output)
    sources = read_sources(arguments.data, exclude=arguments.exclude)
    model = load(arguments.checkpoint, encoder=arguments.encoder)
    found = find_retrieval_sets(arguments.data)
    report = evaluate(
        model,
        [record for records in sources.values() for record in records],
        retrieval_sets={name: read_retrieval_set(folder) for name, folder in found.items()},
        cross_corpus=not arguments.no_cross_corpus,
        kin=[group.split(",") for group in arguments.kin],
        seeds=arguments.seeds,
        store=arguments.store,
        progress=True,
    )
    report.save(output)
    print(report)
    print(f"report -> {arguments.output}/separation.html")
