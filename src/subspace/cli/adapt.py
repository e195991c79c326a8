"""`subspace adapt`: adapts a checkpoint's search to queries, and to documents that answer them."""

import argparse
from pathlib import Path

from subspace.cli.arguments import Commands, add_checkpoint, add_store


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "adapt",
        help="learn from queries, and from documents that answer them",
        description="Writes a checkpoint whose search is adapted to queries and documents of your "
        "own: both are centred on their own means, and with judgements, directions in which a "
        "query and its relevant documents differ are held down. Takes seconds. Other blocks stay "
        "as they are. Where the set has splits, queries of the split 'train' alone are learned "
        "from, so that the gain can be measured on the others.",
        epilog="example: subspace adapt --checkpoint minilm --pairs my/skills "
        "--output checkpoints/mine",
    )
    add_checkpoint(parser)
    add_store(parser)
    parser.add_argument(
        "--pairs",
        required=True,
        metavar="DIR",
        help="a folder with corpus.jsonl, queries.jsonl and, if there are any, judgements in "
        "qrels.tsv or qrels/*.tsv (the layout of BEIR)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the new checkpoint")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.data.retrieval_sets import read_retrieval_set
    from subspace.fitting import adapt
    from subspace.model import load
    from subspace.model.checkpoint_folder import check_target

    folder = Path(arguments.pairs)
    data = read_retrieval_set(folder, judged=False)
    model = load(arguments.checkpoint, encoder=arguments.encoder)
    check_target(arguments.output)  # before the work that it is the target of
    name = folder.resolve().name
    adapted = adapt(model, data, name=name, store=arguments.store, progress=True)
    adapted.save(arguments.output)
    queries = [query for query in data.queries if data.split(query) == "train"]
    judged = sum(bool(data.relevant(query)) for query in queries)
    print(f"{len(queries)} queries, {judged} with judgements, {len(data.documents)} documents")
    gone = ", ".join(factor for factor in model.heads if factor not in adapted.heads)
    if gone:
        print(f"it predicts no labels of {gone} any more")
    print(f"checkpoint -> {arguments.output}; build indexes again with it")
