"""`subspace index`: a set of documents, ready to be searched."""

import argparse
from pathlib import Path

from subspace.cli.arguments import Commands, add_checkpoint, add_store, open_encoder


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "index",
        help="build an index of texts to search in",
        description="Encodes texts, projects them to blocks and writes an index folder. Weights "
        "are given with each search, so an index never has to be built again for other weights.",
        epilog="example: subspace index --checkpoint checkpoints/demo "
        "--input data/factorial/records.jsonl --output runs/index",
    )
    add_checkpoint(parser)
    add_store(parser)
    parser.add_argument(
        "--input",
        required=True,
        metavar="F",
        help="JSONL with `id` (or `_id`), `text` and perhaps `title`, or a folder with a "
        "corpus.jsonl",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the index folder to write")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.checkpoint import load_checkpoint
    from subspace.retrieval import BlockIndex
    from subspace.retrieval_sets import read_documents

    BlockIndex.check_target(arguments.output)
    path = Path(arguments.input)
    documents = read_documents(path / "corpus.jsonl" if path.is_dir() else path)
    checkpoint = load_checkpoint(arguments.checkpoint)
    encoder = open_encoder(checkpoint, encoder=arguments.encoder, store=arguments.store)
    raw = encoder.encode([document.text for document in documents], progress=True)
    BlockIndex.build(documents, raw, projection=checkpoint.projection).save(arguments.output)
    print(f"{len(documents)} texts -> {arguments.output}")
