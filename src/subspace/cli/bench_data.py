"""The retrieval set that a bench reads, and its arguments."""

import argparse
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from subspace.cli.unseen_queries import keep_unseen

if TYPE_CHECKING:
    from subspace.data.retrieval_sets import RetrievalSet
    from subspace.model import Checkpoint

_log = logging.getLogger(__name__)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds `--data` and `--until`."""
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder in the BEIR layout")
    parser.add_argument(
        "--until",
        metavar="TEXT",
        help="read every document only up to this text, such as ' Steps:'",
    )


def read_data(
    arguments: argparse.Namespace, *, checkpoint: "Checkpoint"
) -> "tuple[RetrievalSet, tuple[str, ...]]":
    """The retrieval set, its documents cut where the arguments say, and what to say of it.

    Queries that the checkpoint learned from are left out.

    Raises:
        RecordError: With every wrong line.
    """
    from subspace.data.retrieval_sets import read_retrieval_set

    data = read_retrieval_set(arguments.data)
    data, warning = keep_unseen(data, checkpoint, name=arguments.data)
    notes = (warning,) if warning else ()
    for note in notes:
        _log.warning(note)
    if not arguments.until:
        return data, notes
    documents = tuple(replace(d, text=_cut(d.text, arguments.until)) for d in data.documents)
    return replace(data, documents=documents), notes


def _cut(text: str, end: str) -> str:
    """The text up to `end`; all of it, if nothing would be left."""
    return text.partition(end)[0].rstrip() or text
