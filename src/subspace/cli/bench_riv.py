"""`subspace bench riv`: compares mixes of recency, importance and relevance on replayed queries."""

import argparse

from subspace.cli.arguments import Commands, add_checkpoint, add_store, make_folder
from subspace.cli.bench_data import add_data


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the bench's arguments."""
    parser = commands.add_parser(
        "riv",
        help="recency, importance and relevance, replayed",
        description="Replays the queries as tasks in several orders. For each task it searches, "
        "uses the best five documents, and logs whether each is relevant; later tasks are searched "
        "with this log. Compares every preset in item and in block scope, and a bandit that "
        "chooses presets and blocks, on the raw embedding and on the checkpoint's blocks. Writes "
        "riv.json, riv.md and riv.png.",
        epilog="example: subspace bench riv --data my/skills --checkpoint minilm --output runs/riv",
    )
    add_checkpoint(parser)
    add_store(parser)
    add_data(parser)
    parser.add_argument(
        "--orders", type=int, default=5, metavar="N", help="orders of tasks (default: %(default)s)"
    )
    parser.add_argument(
        "--half-life",
        type=float,
        default=50.0,
        metavar="STEPS",
        help="number of tasks after which a use counts half in a block (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of orders and bandits")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the tables")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.bench.riv import bench_riv
    from subspace.bench.riv_tables import riv_markdown
    from subspace.model import load

    output = make_folder(arguments.output)
    bench = bench_riv(
        arguments.data,
        output,
        model=load(arguments.checkpoint, encoder=arguments.encoder),
        store=arguments.store,
        until=arguments.until,
        orders=arguments.orders,
        half_life=arguments.half_life,
        seed=arguments.seed,
        progress=True,
    )
    print(riv_markdown(bench), end="")
    print(f"bench -> {output}/riv.md")
