"""Resumable labelling: keeps every label in a file, and continues an interrupted run from it.

The first line of the file identifies the annotator and the texts. If the annotator, its `identity`
or the texts differ, the file is started anew.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.labelling.annotator import Annotator, Factors


def annotate(
    annotator: Annotator, records: Sequence[Record], *, partial: Path, progress: bool = False
) -> list[Factors]:
    """Labels texts, except those whose labels are already in `partial`.

    Args:
        annotator: Labels the texts.
        records: The texts to label.
        partial: File that keeps the labels. The caller removes it once they are elsewhere.
        progress: Whether to show a progress bar.

    Returns:
        The labels of each text, in order.

    Raises:
        ConfigError: The file cannot be read or written.
    """
    header = {
        "origin": annotator.origin,
        "identity": annotator.identity,
        "factors": list(annotator.factors),
        "sha256": _digest(records),
    }
    try:
        done, length = _read(partial, header=header, records=records)
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("r+b" if length else "wb") as stream:
            stream.truncate(length)  # the last line may be half written
            stream.seek(length)
            if not length:
                stream.write(_line(header))
            rest = records[len(done) :]
            found = annotator.annotate(rest, progress=progress)
            for record, factors in zip(rest, found, strict=True):
                stream.write(_line({"id": record.id, "factors": dict(factors)}))
                stream.flush()
                done.append(factors)
    except OSError as error:
        raise ConfigError(f"cannot keep labels in {partial}: {error}") from error
    return done


def _read(
    partial: Path, *, header: Mapping[str, Any], records: Sequence[Record]
) -> tuple[list[Factors], int]:
    """Reads the labels of the first texts; returns them and the number of bytes of whole lines."""
    content = partial.read_bytes() if partial.exists() else b""
    first, *lines = content.splitlines(keepends=True) or [b""]
    if _parse(first) != header:
        return [], 0
    done: list[Factors] = []
    length = len(first)
    for record, line in zip(records, lines, strict=False):
        value = _parse(line)
        if value.get("id") != record.id:
            break
        done.append(value["factors"])
        length += len(line)
    return done, length


def _parse(line: bytes) -> dict[str, Any]:
    """Reads the JSON object of a line; returns an empty one if there is none or it is cut off."""
    if not line.endswith(b"\n"):
        return {}
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _digest(records: Sequence[Record]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps([record.id, record.text]).encode())
    return digest.hexdigest()
