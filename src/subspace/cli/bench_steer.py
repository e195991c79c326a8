"""`subspace bench steer`: measures how far weights move the hits, compared with baselines."""

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
        "steer",
        help="how far a weight moves the hits, beside what costs nothing",
        description="Writes steering.json, .md and .png: how far the hits of a query "
        "move toward what is asked for at the price of 5 and 10 % of the relevance, for the blocks "
        "of a checkpoint, solved again without each source, and for baselines in the same run: the "
        "encoder's early layers, counting, a ridge on the raw layers, and a fit inside the source.",
        epilog="example: subspace bench steer --checkpoint minilm --data data/factorial "
        "--output runs/steer",
    )
    add_checkpoint(parser)
    add_store(parser)
    add_sources(parser)
    add_kin(parser)
    parser.add_argument(
        "--as-it-is",
        action="store_true",
        help="measure the checkpoint as it is, also on sources that it was fitted on",
    )
    parser.add_argument(
        "--queries", type=int, default=150, metavar="N", help="per source (default: %(default)s)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the results")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.bench.steer import bench_steer
    from subspace.data import read_sources
    from subspace.evaluation.steering_tables import steering_means
    from subspace.model import load
    from subspace.model.markdown import table

    output = make_folder(arguments.output)
    sources = read_sources(arguments.data, exclude=arguments.exclude)
    rows = bench_steer(
        load(arguments.checkpoint, encoder=arguments.encoder),
        sources,
        kin=[group.split(",") for group in arguments.kin],
        solve_again=not arguments.as_it_is,
        queries=arguments.queries,
        store=arguments.store,
        output=output,
        progress=True,
    )
    means = steering_means(rows)
    print("\n".join(table(means["head"], means["rows"])))
    print(f"curves and sources -> {output}/steering.md")
