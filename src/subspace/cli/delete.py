"""`subspace delete`: removes texts from an index."""

import argparse
import sys

from subspace.cli.arguments import Commands, add_index
from subspace.cli.records import warn_of_files
from subspace.cli.terminal import short_id


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "delete",
        help="remove texts from an index",
        description="Removes texts from an index by id. An unknown id is an error, and then "
        "nothing is removed. Needs no model.",
        epilog="example: subspace delete --index runs/index slugs --missing-ok",
    )
    add_index(parser)
    parser.add_argument("ids", nargs="+", metavar="ID", help="ids of the texts")
    parser.add_argument(
        "--missing-ok", action="store_true", help="pass over ids that are not there, and say so"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.retrieval import BlockIndex
    from subspace.retrieval.engines import show_target
    from subspace.retrieval.listing import get_records

    ids = list(dict.fromkeys(arguments.ids))
    with BlockIndex.open(arguments.index) as blocks:
        if arguments.missing_ok:
            records = list(blocks.engine.fetch(ids).documents)
        else:
            records = get_records(blocks.engine, ids)
        blocks.delete([record.id for record in records])
        blocks.save()
    warn_of_files(records)
    there = {record.id for record in records}
    unknown = [short_id(name) for name in ids if name not in there]
    if unknown:
        print(f"not in the index: {', '.join(unknown)}", file=sys.stderr)
    print(f"{len(records)} deleted -> {show_target(arguments.index)}")
