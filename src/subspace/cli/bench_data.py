"""The retrieval set that a bench reads, and its arguments."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subspace.retrieval_sets import RetrievalSet


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds `--data` and `--until`."""
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder in the BEIR layout")
    parser.add_argument(
        "--until",
        metavar="TEXT",
        help="read every document only up to this text, such as ' Steps:'",
    )


def read_data(arguments: argparse.Namespace) -> "RetrievalSet":
    """The retrieval set, its documents cut where the arguments say.

    Raises:
        RecordError: With every wrong line.
    """
    from subspace.retrieval_sets import read_retrieval_set

    data = read_retrieval_set(arguments.data)
    if not arguments.until:
        return data
    documents = tuple(replace(d, text=_cut(d.text, arguments.until)) for d in data.documents)
    return replace(data, documents=documents)


def _cut(text: str, end: str) -> str:
    """The text up to `end`; all of it, if nothing would be left."""
    return text.partition(end)[0].rstrip() or text
