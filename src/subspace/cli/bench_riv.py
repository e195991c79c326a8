"""`subspace bench riv`: recency, importance and relevance, replayed."""

import argparse
from dataclasses import replace

from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_store,
    make_folder,
    open_encoder,
)
from subspace.cli.bench_data import add_data, read_data


def add_riv(benches: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the bench's arguments."""
    parser = benches.add_parser(
        "riv",
        help="recency, importance and relevance, replayed",
        description="Replays the queries as tasks, in several orders: search, use the best five, "
        "log whether each is relevant, go on. Every preset in item and in block scope, and the "
        "bandit over presets and blocks; on the raw embedding, on the checkpoint's blocks, and "
        "with a block learned from the judgements of other folds beside them. Writes riv.json, "
        "riv.md and riv.png.",
        epilog="example: subspace bench riv --data my/skills --checkpoint checkpoints/minilm "
        "--output runs/riv",
    )
    add_checkpoint(parser)
    add_store(parser)
    add_data(parser)
    parser.add_argument(
        "--orders", type=int, default=5, metavar="N", help="orders of tasks (default: %(default)s)"
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=5,
        metavar="N",
        help="folds for the block learned from judgements; 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--half-life",
        type=float,
        default=50.0,
        metavar="STEPS",
        help="after how many tasks a use counts half in a block (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of orders, folds and bandits")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the tables")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.bench.riv import check_options, run_riv
    from subspace.bench.riv_tables import riv_markdown, write_riv
    from subspace.bench.spaces import check_folds, make_variants, relevance_matrix
    from subspace.model import load_checkpoint

    check_options(arguments.orders)
    output = make_folder(arguments.output)
    checkpoint = load_checkpoint(arguments.checkpoint)
    data, notes = read_data(arguments, checkpoint=checkpoint)
    relevant = relevance_matrix(data)
    check_folds(arguments.folds, queries=len(relevant))
    encoder = open_encoder(checkpoint, encoder=arguments.encoder, store=arguments.store)
    variants = make_variants(
        documents=encoder.encode([d.text for d in data.documents], progress=True),
        queries=encoder.encode(list(data.queries.values()), kind="query", progress=True),
        relevant=relevant,
        projection=checkpoint.projection,
        raw=checkpoint.fingerprint.last_layer,
        folds=arguments.folds,
        seed=arguments.seed,
    )
    bench = run_riv(
        variants,
        relevant=relevant,
        orders=arguments.orders,
        seed=arguments.seed,
        half_life=arguments.half_life,
        progress=True,
    )
    bench = replace(bench, notes=notes)
    write_riv(bench, folder=output)
    print(riv_markdown(bench), end="")
    print(f"bench -> {output}/riv.md")
