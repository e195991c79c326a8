"""Single records on the command line: one given by options, metadata, and how one is shown."""

import argparse
import json
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from subspace.cli.terminal import one_line
from subspace.data.metadata import find_fault
from subspace.data.notes import file_of
from subspace.errors import ConfigError
from subspace.files import RepeatedKeyError, unique_keys

if TYPE_CHECKING:
    from subspace.data import Record

_log = logging.getLogger(__name__)


def add_record(parser: argparse.ArgumentParser) -> None:
    """Adds `--id`, `--text` and `--metadata`, which describe one record."""
    parser.add_argument("--id", metavar="ID", help="id of one text")
    parser.add_argument("--text", metavar="T", help="the text itself")
    parser.add_argument(
        "--metadata",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help='such as kind=tip, year=2024 or tags=["a","b"] (in double quotes a number is a text); '
        "or all in one JSON object; may be given again",
    )


def read_new_metadata(given: Sequence[str]) -> dict[str, Any]:
    """Reads `--metadata`: JSON objects, or NAME=VALUE where the value is JSON or else a text.

    Raises:
        ConfigError: An argument has neither form, a name is given twice, or a value cannot be kept.
    """
    found: dict[str, Any] = {}
    for text in given:
        for name, value in _read_one(text).items():
            fault = find_fault({name: value})
            if fault is not None:
                raise ConfigError(f"--metadata cannot keep {name!r:.60}: {fault}")
            if name in found:
                raise ConfigError(f"--metadata gives {name!r:.60} twice; a list is NAME=[...]")
            found[name] = value
    return found


def _read_one(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text, object_pairs_hook=unique_keys)
        except RepeatedKeyError as error:
            raise ConfigError(f"--metadata {error}") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"--metadata is not JSON: {error}") from error
        return dict(value)
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--metadata must read like NAME=VALUE or be a JSON object, got {text!r}")
    try:
        return {name.strip(): json.loads(value, parse_constant=str)}
    except (ValueError, RecursionError):
        return {name.strip(): value}


def warn_of_files(records: "Iterable[Record]") -> None:
    """Warns of records that came from a folder, as following it makes changes by hand undone."""
    files = [file for one in records if (file := file_of(one.id, one.metadata)) is not None]
    if files:
        shown = ", ".join(map(one_line, files[:3])) + (", ..." if len(files) > 3 else "")
        _log.warning(
            "came from a folder, and will be again as it is there when the folder is next read: %s",
            shown,
        )


def show_metadata(record: "Record", *, without: Sequence[str] = ()) -> str:
    """Returns the metadata as NAME=VALUE on one line, without some names."""
    return one_line(
        " ".join(
            f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            for name, value in record.metadata.items()
            if name not in without
        )
    )


def as_json(record: "Record") -> dict[str, Any]:
    """Returns what an index keeps of a record, JSON-ready; `subspace add --input` takes it."""
    return {"id": record.id, "text": record.text, "metadata": dict(record.metadata)}
