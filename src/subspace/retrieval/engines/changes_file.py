"""The changes of an index since its files were written whole: a file that grows at its end.

A save costs what was changed. Each line is a checksum, a space and JSON::

    1f0c93ab {"id": "a", "text": "...", "metadata": {...}, "vector": "base64"}    added or replaced
    8d02e1aa {"id": "b"}                                                          removed
    77aa0b1c {"saved": 2, "from": 0}                                              end of a save

A vector is the bytes of its numbers, little-endian, in the precision of the index. The last line of
a save tells how many changes it has and at which byte it begins: a reader takes whole saves only,
so a save is all there or not at all. The checksum is the CRC-32 of the line's JSON and of all lines
before it, so that no line can be missing, moved or twice.

What follows the last whole save was left by a writer that was killed, or by a power failure (which
may leave zeros): readers pass over it, and the next writer cuts it off. Anything else that is not
as it was written is damage.
"""

import base64
import json
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.data.records import Record

_DIGITS = 8  # of a checksum
_END = re.compile(rb'^[0-9a-f]{8} \{"saved": \d+, "from": (\d+)\}$', re.MULTILINE)
# Zeros in a row that no line holds and no single flipped bit makes.
_NEVER_WRITTEN = bytes(8)
# Where a line begins or ends, no single flipped bit makes even one: these are digits and "\n".
_ZERO = bytes(1)


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Change:
    """One document that was added, replaced or removed.

    Attributes:
        id: Its id.
        document: The document; None if it was removed.
        vector: Its vector (dim,) in the precision of the index; None if it was removed.
    """

    id: str
    document: Record | None = None
    vector: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Position:
    """A place between two saves of a file of changes.

    Attributes:
        offset: Number of bytes before it.
        checksum: CRC-32 of the lines before it.
        lines: Number of lines before it.
        changes: Number of changes before it.
    """

    offset: int = 0
    checksum: int = 0
    lines: int = 0
    changes: int = 0


@dataclass(frozen=True)
class Kind:
    """What the vectors of an index are.

    Attributes:
        dtype: `float32` or `float16`.
        dim: Number of dimensions.
    """

    dtype: str
    dim: int


class ChangesError(ValueError):
    """A file of changes is not as it was written."""


def append(path: Path, changes: Sequence[Change], *, at: Position) -> Position:
    """Appends one save, in place of what a killed writer left, and waits until it is on disk.

    If writing fails, readers see the save as a whole or not at all, and what is left of it is cut
    off by the next one.

    Args:
        path: The file; the caller is its only writer.
        changes: The changes, in the order in which they are to be made.
        at: Where the last whole save ends.

    Returns:
        Where this save ends.

    Raises:
        OSError: The file cannot be written.
    """
    content, after = encode(changes, at=at)
    with path.open("r+b", buffering=0) as stream:
        stream.truncate(at.offset)
        stream.seek(at.offset)
        left = memoryview(content)
        while left:
            left = left[stream.write(left) :]
        os.fsync(stream.fileno())
    return after


def read(path: Path, *, at: Position, kind: Kind) -> tuple[list[Change], Position, int]:
    """Reads the whole saves that follow a position.

    Returns:
        Their changes in order, where the last whole save ends, and the size of the file.

    Raises:
        OSError: The file cannot be read.
        ChangesError: It is damaged; the message names file and line.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size < at.offset:
            raise ChangesError(
                f"{path.name} has {size} bytes, it had {at.offset}; if an earlier copy was put in "
                "its place, open the index again"
            )
        stream.seek(at.offset)
        content = stream.read()
    try:
        changes, after = decode(content, at=at, kind=kind)
    except ChangesError as error:
        raise ChangesError(f"{path.name}:{error}") from error
    return changes, after, at.offset + len(content)


def encode(changes: Sequence[Change], *, at: Position) -> tuple[bytes, Position]:
    """Returns the lines of one save that follows a position, and where it ends."""
    checksum, lines = at.checksum, []
    for value in [*map(_to_json, changes), {"saved": len(changes), "from": at.offset}]:
        text = json.dumps(value, ensure_ascii=False).encode()
        checksum = zlib.crc32(text, checksum)
        lines.append(b"%08x %b\n" % (checksum, text))
    content = b"".join(lines)
    return content, Position(
        offset=at.offset + len(content),
        checksum=checksum,
        lines=at.lines + len(lines),
        changes=at.changes + len(changes),
    )


def decode(content: bytes, *, at: Position, kind: Kind) -> tuple[list[Change], Position]:
    """Reads the whole saves in what follows a position.

    Returns:
        Their changes in order, and where the last whole save ends.

    Raises:
        ChangesError: A line is damaged; the message begins with its number.
    """
    done, changes, waiting = at, list[Change](), list[Change]()
    start, checksum, number = 0, at.checksum, at.lines
    while (end := content.find(b"\n", start)) >= 0:
        number += 1
        line = content[start:end]
        found = _check(line, after=checksum)
        torn = content.startswith(_ZERO, start) and at.offset + start == done.offset
        if found is None and _is_unfinished(content[start:], save=done.offset, torn=torn):
            return changes, done
        if found is None:
            raise ChangesError(f"{number} is not as it was written")
        start, checksum = end + 1, found
        try:
            value = json.loads(line[_DIGITS + 1 :])
            if "saved" not in value:
                waiting.append(_from_json(value, kind=kind))
                continue
            if value != {"saved": len(waiting), "from": done.offset}:
                raise ValueError("it ends another save")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ChangesError(f"{number} is no change: {error!r}") from error
        changes += waiting
        done = Position(at.offset + start, checksum, number, done.changes + len(waiting))
        waiting = []
    # A whole line without an end of line: that was changed. A zero in its place was never written.
    if _check(content[start:-1], after=checksum) is not None and not content.endswith(_ZERO):
        raise ChangesError(f"{number + 1} is not as it was written")
    return changes, done


def _check(line: bytes, *, after: int) -> int | None:
    """Returns the checksum of a line; None if it is not the one that the line begins with."""
    checksum = zlib.crc32(memoryview(line)[_DIGITS + 1 :], after)
    return checksum if line.startswith(b"%08x " % checksum) else None


def _is_unfinished(rest: bytes, *, save: int, torn: bool) -> bool:
    """Tells whether what follows is a save that a power failure kept from the disk.

    It has zeros where it was not written, and there is no later save, which would have waited until
    this one was on disk.

    Args:
        rest: What follows, from the first line that is wrong.
        save: At which byte the save begins.
        torn: Whether the save begins with a zero: if it begins a few bytes before the end of a page
            of the disk, and that page was not written, there are only these few zeros.
    """
    return (torn or _NEVER_WRITTEN in rest) and all(
        int(end[1]) <= save for end in _END.finditer(rest)
    )


def _to_json(change: Change) -> dict[str, Any]:
    document, vector = change.document, change.vector
    if document is None or vector is None:
        return {"id": change.id}
    value: dict[str, Any] = {"id": document.id, "text": document.text}
    if document.metadata:
        value["metadata"] = dict(document.metadata)
    numbers = vector.astype(vector.dtype.newbyteorder("<"), copy=False).tobytes()
    return {**value, "vector": base64.b64encode(numbers).decode()}


def _from_json(value: Any, *, kind: Kind) -> Change:
    name = value["id"]
    if not isinstance(name, str):
        raise TypeError("an id is a text")
    if "vector" not in value:
        return Change(name)
    numbers = base64.b64decode(value["vector"])  # the checksum says that it is as it was
    vector = np.frombuffer(numbers, dtype=np.dtype(kind.dtype).newbyteorder("<"))
    if len(vector) != kind.dim:
        raise ValueError(f"a vector of {len(vector)} dimensions, not {kind.dim}")
    document = Record(id=name, text=value["text"], metadata=dict(value.get("metadata", {})))
    return Change(name, document, vector)


def collapse(changes: Sequence[Change]) -> tuple[list[str], list[Change]]:
    """Returns which documents to remove and which to add or replace then, each id once.

    Made in this order, they give what the changes give one after the other: who was removed and
    added again comes at the end.
    """
    removed: dict[str, None] = {}
    added: dict[str, Change] = {}
    for change in changes:
        if change.document is None:
            removed[change.id] = None
            added.pop(change.id, None)
        else:
            added[change.id] = change
    return list(removed), list(added.values())
