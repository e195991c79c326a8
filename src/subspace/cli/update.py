"""`subspace update`: replaces text or metadata of texts in an index."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from subspace.cli.add import read_given
from subspace.cli.arguments import Commands, add_checkpoint, add_index
from subspace.cli.records import add_record, read_new_metadata, warn_of_files
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.data import Record
    from subspace.retrieval import Index


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "update",
        help="replace text or metadata in an index",
        description="Replaces texts of an index, or sets their metadata. Only a text that changes "
        "is encoded. An unknown id is an error, and then nothing is changed.",
        epilog="example: subspace update --checkpoint minilm --index runs/index --id slugs "
        "--metadata checked=true --unset kind",
    )
    add_checkpoint(parser)
    add_index(parser)
    parser.add_argument(
        "--input",
        metavar="F",
        help="JSONL as for `subspace add`: text and metadata of each line replace what is there",
    )
    add_record(parser)
    parser.add_argument(
        "--unset",
        action="append",
        default=[],
        metavar="NAME",
        help="metadata to remove; what is neither set nor removed stays; may be given again",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.model import load
    from subspace.retrieval import Index
    from subspace.retrieval.engines import show_target

    given = read_given(arguments) if arguments.input is not None else None
    if given is not None and arguments.unset:
        raise ConfigError("--unset goes with --id, not with --input")
    model = load(arguments.checkpoint, encoder=arguments.encoder)
    with Index.open(arguments.index, model) as index:
        records = given if given is not None else [_changed(arguments, index)]
        before = index.get([record.id for record in records])
        index.update(records)
    warn_of_files(before)
    print(f"{_count(before, records)} -> {show_target(arguments.index)}")


def _changed(arguments: argparse.Namespace, index: "Index") -> "Record":
    """Returns a record of the index with the text and metadata that the arguments give."""
    metadata = read_new_metadata(arguments.metadata)
    if arguments.id is None:
        raise ConfigError("give --input, or --id with --text, --metadata or --unset")
    if arguments.text is None and not metadata and not arguments.unset:
        raise ConfigError("say what to change: --text, --metadata or --unset")
    (record,) = index.get([arguments.id])
    missing = [name for name in arguments.unset if name not in record.metadata]
    if missing:
        raise ConfigError(f"--unset: '{record.id}' has no metadata {missing[0]!r:.60}")
    kept = {name: one for name, one in record.metadata.items() if name not in arguments.unset}
    text = record.text if arguments.text is None else arguments.text
    return replace(record, text=text, metadata={**kept, **metadata})


def _count(before: "Sequence[Record]", after: "Sequence[Record]") -> str:
    encoded = sum(old.text != new.text for old, new in zip(before, after, strict=True))
    return f"{len(after)} updated ({encoded} encoded)"
