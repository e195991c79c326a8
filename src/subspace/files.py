"""JSONL with every wrong line named: what records and retrieval sets are read through."""

import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace.errors import ConfigError, RecordError


@dataclass(frozen=True)
class Line:
    """One JSON object of a file and where it stands.

    Attributes:
        value: The object.
        where: `file:line`.
        number: The line, from 1.
        offset: Bytes of the (unpacked) file before it.
    """

    value: Mapping[str, Any]
    where: str
    number: int
    offset: int


class Problems:
    """Collects what is wrong, line by line, so that all of it can be reported at once."""

    def __init__(self) -> None:
        """Starts with nothing wrong."""
        self._messages: list[str] = []

    def add(self, where: str, message: str) -> None:
        """Notes one problem at `where` (`file:line`, or a file or folder)."""
        self._messages.append(f"{where}: {message}")

    def __len__(self) -> int:
        """Number of problems noted so far."""
        return len(self._messages)

    def raise_if_any(self) -> None:
        """Raises `RecordError` with every problem noted, or returns."""
        if self._messages:
            raise RecordError(self._messages)


def read_lines(
    path: Path, *, problems: Problems, start: tuple[int, int] = (0, 1)
) -> Iterator[Line]:
    """Yields the JSON objects of a JSONL file, plain or gzipped; notes lines that are none.

    Args:
        path: The file.
        problems: Where to note what is wrong.
        start: Offset and number of the line to begin with, as a `Line` says them.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as stream:
            offset = stream.seek(start[0])
            for number, raw in enumerate(stream, start=start[1]):
                where, begins = f"{path}:{number}", offset
                offset += len(raw)
                if not raw.strip():
                    continue
                value = _parse(raw, where=where, problems=problems)
                if value is not None:
                    yield Line(value=value, where=where, number=number, offset=begins)
    except (OSError, EOFError, zlib.error) as error:  # missing, unreadable or damaged (gzip)
        problems.add(str(path), f"cannot be read: {error}")


def write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON objects as JSONL, gzipped if the name ends in `.gz`: whole, or not at all.

    Raises:
        ConfigError: The file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened(partial, "wt", encoding="utf-8") as stream:
            stream.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error}") from error


def read_text(value: Mapping[str, Any], key: str, *, where: str, problems: Problems) -> str | None:
    """The text under `key`, checked so that a tokenizer can take it; notes what is wrong."""
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        problems.add(where, f"'{key}' must be a text that is not empty, got {text!r:.60}")
        return None
    if "\0" in text:
        problems.add(where, f"'{key}' contains a NUL character")
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        problems.add(where, f"'{key}' contains half a surrogate pair, which is not a character")
        return None
    return text


def _parse(raw: bytes, *, where: str, problems: Problems) -> Mapping[str, Any] | None:
    try:
        value = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        problems.add(where, f"is not UTF-8 ({error.reason} at byte {error.start})")
        return None
    except (json.JSONDecodeError, RecursionError) as error:
        problems.add(where, f"is not JSON ({error})")
        return None
    if not isinstance(value, dict):
        problems.add(where, f"must be a JSON object, got {type(value).__name__}")
        return None
    return value
