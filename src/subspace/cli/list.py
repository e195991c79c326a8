"""`subspace list`: prints what an index holds, page by page."""

import argparse
from typing import TYPE_CHECKING

from subspace.cli.arguments import Commands, add_index, read_filters
from subspace.cli.records import as_json, show_metadata
from subspace.cli.terminal import print_json, short_id, shorten
from subspace.data.notes import IN_TEXT, file_of

if TYPE_CHECKING:
    from subspace.data import Record

# Width of lines for people.
_WIDTH = 100


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "list",
        help="list the texts of an index",
        description="Prints id, first words and metadata of the texts of an index, by rising id. "
        "Needs no model.",
        epilog="example: subspace list --index runs/index --where kind=tip --limit 20",
    )
    add_index(parser)
    parser.add_argument(
        "--where",
        action="append",
        metavar="NAME=VALUE",
        help="only texts with this metadata, as for `subspace search`",
    )
    parser.add_argument(
        "--limit", type=int, default=50, metavar="N", help="at most so many (default: %(default)s)"
    )
    parser.add_argument("--after", metavar="ID", help="begin after this id: the next page")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON for machines: `items`, and `next`, which is --after of the next page",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.retrieval import open_engine
    from subspace.retrieval.engines.engine import check_k
    from subspace.retrieval.listing import list_records

    limit = check_k(arguments.limit, name="--limit")
    engine = open_engine(arguments.index)
    try:
        found = list_records(
            engine,
            where=read_filters(arguments.where or []),
            after=arguments.after,
            limit=limit + 1,
        )
    finally:
        engine.close()
    page = found[:limit]
    following = page[-1].id if len(found) > limit else None
    if arguments.json:
        print_json({"items": [as_json(record) for record in page], "next": following})
        return
    for record in page:
        print(short_id(record.id))
        print(f"      {shorten(record.text, width=_WIDTH)}")
        metadata = show_metadata(record, without=IN_TEXT if _is_note(record) else ())
        if metadata:
            print(f"      {shorten(metadata, width=_WIDTH)}")
    if not page:
        print("no texts")
    if following is not None:
        print(f"there are more: --after {following!r}")


def _is_note(record: "Record") -> bool:
    return file_of(record.id, record.metadata) is not None
