"""`subspace bench protocols`: compares what is embedded, and how texts are cut into pieces."""

import argparse

from subspace.cli.arguments import Commands, add_checkpoint, add_store, make_folder
from subspace.cli.bench_data import add_data


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the bench's arguments."""
    parser = commands.add_parser(
        "protocols",
        help="what gets embedded, and how it is cut up",
        description="Searches a retrieval set under every protocol: one vector per item, of more "
        "or less of its text (single); the best piece (chunks); document, paragraph and sentence "
        "together (hierarchical); a vector per token (late-interaction); fewer dimensions "
        "(reductions); the checkpoint's blocks, alone and together (factored); blocks of pieces "
        "(factored-chunked). Writes protocols.json, protocols.md and protocols.png. Results are "
        "kept under parts/, so an interrupted bench continues where it stopped.",
        epilog="example: subspace bench protocols --data my/skills --checkpoint minilm "
        "--output runs/protocols --protocols chunks,late-interaction,pca-128",
    )
    add_checkpoint(parser)
    add_store(parser)
    add_data(parser)
    parser.add_argument(
        "--protocols",
        metavar="NAMES",
        help="protocols or families, with commas between; reductions (pca, random, truncate, "
        "learned) to any size, such as pca-48 (default: all)",
    )
    parser.add_argument(
        "--weights",
        metavar="BLOCKS",
        help="weights of blocks, such as topic=0.7,style=0.1 (default: the checkpoint's)",
    )
    parser.add_argument(
        "--levels",
        metavar="WEIGHTS",
        help="weights of the hierarchical protocol's levels, such as "
        "document=0.5,paragraph=0.3,sentence=0.2 (default: equal)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the tables")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.bench.protocol_run import bench_protocols
    from subspace.bench.protocol_tables import protocols_markdown
    from subspace.model import load

    output = make_folder(arguments.output)
    bench = bench_protocols(
        arguments.data,
        output,
        model=load(arguments.checkpoint, encoder=arguments.encoder),
        store=arguments.store,
        names=arguments.protocols,
        until=arguments.until,
        weights=arguments.weights,
        levels=arguments.levels,
        progress=True,
    )
    print(protocols_markdown(bench), end="")
    print(f"bench -> {output}/protocols.md")
