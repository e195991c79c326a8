"""`subspace show`: prints texts of an index as they are kept."""

import argparse

from subspace.cli.arguments import Commands, add_index
from subspace.cli.records import as_json, show_metadata
from subspace.cli.terminal import one_line, print_json


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "show",
        help="show texts of an index as a whole",
        description="Prints id, metadata and text as the index keeps them. Needs no model.",
        epilog="example: subspace show --index runs/index slugs",
    )
    add_index(parser)
    parser.add_argument("ids", nargs="+", metavar="ID", help="ids of the texts")
    parser.add_argument("--json", action="store_true", help="print a JSON list for machines")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.retrieval import open_engine
    from subspace.retrieval.listing import get_records

    engine = open_engine(arguments.index)
    try:
        records = get_records(engine, arguments.ids)
    finally:
        engine.close()
    if arguments.json:
        print_json([as_json(record) for record in records])
        return
    for number, record in enumerate(records):
        print(f"{'' if number == 0 else chr(10)}id: {one_line(record.id)}")
        if record.metadata:
            print(f"metadata: {show_metadata(record)}")
        print("text:")
        for line in record.text.split("\n"):
            print(f"  {one_line(line)}".rstrip())
