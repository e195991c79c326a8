"""`subspace add`: encodes texts and adds them to an index."""

import argparse
from typing import TYPE_CHECKING

from subspace.cli.arguments import Commands, add_checkpoint, add_index
from subspace.cli.records import add_record, read_new_metadata, warn_of_files
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.data import Record


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "add",
        help="add texts to an index",
        description="Encodes texts and adds all of them to an index, or none if one is refused. "
        "Texts with the same ids are replaced.",
        epilog="example: subspace add --checkpoint minilm --index runs/index --id slugs "
        "--text 'Copper keeps slugs away.' --metadata kind=tip",
    )
    add_checkpoint(parser)
    add_index(parser)
    parser.add_argument(
        "--input",
        metavar="F",
        help="JSONL with `id` (or `_id`), `text` and perhaps `title`, `metadata` and `factors`",
    )
    add_record(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    records = read_given(arguments)
    from subspace.model import load
    from subspace.retrieval import Index
    from subspace.retrieval.engines import show_target

    model = load(arguments.checkpoint, encoder=arguments.encoder)
    with Index.open(arguments.index, model) as index:
        before = index.blocks.engine.fetch([record.id for record in records]).documents
        index.add(records)
    warn_of_files(before)
    replaced = len(before)
    print(f"{len(records) - replaced} added, {replaced} replaced -> {show_target(arguments.index)}")


def read_given(arguments: argparse.Namespace) -> "list[Record]":
    """Reads the records of --input, or the one of --id, --text and --metadata.

    Raises:
        ConfigError: Neither or both are given, or metadata cannot be read.
        RecordError: Lines of the file are invalid.
    """
    from subspace.data import Record, read_documents

    alone = (arguments.id, arguments.text)
    if arguments.input is not None:
        if any(one is not None for one in alone) or arguments.metadata:
            raise ConfigError("give --input, or --id and --text, not both")
        return list(read_documents(arguments.input))
    if None in alone:
        raise ConfigError("give --input, or --id and --text")
    metadata = read_new_metadata(arguments.metadata)
    return [Record(id=arguments.id, text=arguments.text, metadata=metadata)]
