"""`subspace search`: the best documents under a weight per block."""

import argparse
import gc
import json
from dataclasses import asdict

from subspace.cli.arguments import Commands, add_checkpoint


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "search",
        help="search an index with a weight per block",
        description="Prints the best texts for a query, each with its score and what every block "
        "adds to it. A block that --weights does not name counts 0; without --weights every "
        "block counts the same.",
        epilog="example: subspace search --checkpoint checkpoints/demo --index runs/index "
        '--query "how do I prune roses" --weights topic=0.7,complexity=0.3',
    )
    add_checkpoint(parser)
    parser.add_argument("--index", required=True, metavar="DIR", help="folder of the index")
    parser.add_argument("--query", required=True, metavar="TEXT", help="what to search for")
    parser.add_argument("--weights", metavar="B=W,...", help="such as topic=0.7,style=0.1")
    parser.add_argument("-k", type=int, default=5, help="how many hits (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    # Importing the encoder makes millions of objects that stay. Collecting garbage in between
    # finds none and costs a quarter of a cold start; another at exit costs as much again.
    gc.disable()
    try:
        _search(arguments)
    finally:
        gc.freeze()
        gc.enable()


def _search(arguments: argparse.Namespace) -> None:
    from subspace.retrieval import BlockWeights, Searcher

    searcher = Searcher.open(arguments.checkpoint, arguments.index, encoder_model=arguments.encoder)
    layout = searcher.index.layout
    weights = (
        BlockWeights.equal(layout)
        if arguments.weights is None
        else BlockWeights.parse(arguments.weights, layout=layout)
    )
    hits = searcher.search(arguments.query, weights=weights, k=arguments.k)
    if arguments.json:
        result = {
            "query": arguments.query,
            "weights": weights.as_dict(),
            "hits": [asdict(hit) for hit in hits],
        }
        print(json.dumps(result, ensure_ascii=False, indent=1))
        return
    named = " ".join(f"{name}={value:.2f}" for name, value in weights.as_dict().items())
    print(f"query: {arguments.query}\nweights: {named}")
    for rank, hit in enumerate(hits, start=1):
        parts = " ".join(f"{name} {part:+.3f}" for name, part in hit.parts.items())
        print(f"{rank:2d}. {hit.score:+.4f}  [{parts}]  {hit.id}\n      {_shorten(hit.text)}")


def _shorten(text: str, *, width: int = 110) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
