"""Documents as rows of Milvus, and filter expressions that select them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from subspace.arrays import Vectors
from subspace.data.metadata import Value, is_scalar
from subspace.data.records import Record
from subspace.errors import EngineError
from subspace.retrieval.engines.filters import Condition, members

Row = dict[str, Any]

# Milvus's limit on the size of a text and of a JSON value.
TEXT_BYTES = 65_535
# Size of one message: a server accepts and sends up to 64 MB.
MESSAGE_BYTES = 16 << 20
# Name under which metadata are one text; see `_pack`.
_PACKED = "$json"
# Number of values of the field `draw`.
DRAWS = 1 << 32
# The escapes that both Milvus and milvus-lite know; other characters need none.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def to_row(document: Record, vector: Vectors) -> Row:
    """Makes the row of a document, without its `seq`.

    Raises:
        EngineError: The id, text or metadata is longer than Milvus allows.
    """
    check_lengths(document)
    metadata = dict(document.metadata)
    return {
        "id": document.id,
        "draw": int(hash_text(document.id)[:8], 16),
        "tags": _tags(document),
        "text": document.text,
        "metadata": _pack(metadata),
        "vector": vector.astype(np.float32, copy=False),
    }


def check_lengths(document: Record) -> None:
    """Raises `EngineError` if the id, text or metadata is longer than Milvus allows."""
    _check_length("id", document.id, of=document)
    _check_length("text", document.text, of=document)
    packed = _pack(dict(document.metadata))
    _check_length("metadata", json.dumps(packed, ensure_ascii=False), of=document)
    _check_length("metadata", _tags(document), of=document)


def _tags(document: Record) -> str:
    return " ".join(
        make_tag(name, one)
        for name, value in document.metadata.items()
        for one in members(value)
        if is_scalar(one)
    )


def unpack(stored: Mapping[str, Any]) -> dict[str, Value]:
    """Returns the metadata of a document from the field of its row."""
    if set(stored) == {_PACKED}:
        return dict(json.loads(stored[_PACKED]))
    return dict(stored)


def _pack(metadata: Mapping[str, Value]) -> dict[str, Any]:
    """Writes metadata as one text if it holds more than texts, floats and ints of 64 bits.

    Milvus refuses larger ints, at any depth.
    """
    flat = all(
        is_scalar(value) and (not isinstance(value, int) or -(2**63) <= value < 2**63)
        for value in metadata.values()
    )
    if flat and _PACKED not in metadata:
        return dict(metadata)
    return {_PACKED: json.dumps(metadata, ensure_ascii=False)}


def _check_length(name: str, text: str, *, of: Record) -> None:
    size = len(text.encode())
    if size > TEXT_BYTES:
        raise EngineError(
            f"the {name} of document '{of.id:.60}' takes {size:,} bytes and Milvus keeps "
            f"{TEXT_BYTES:,} at most; shorten or split it"
        )


def batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yields rows in batches that a server accepts in one message."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        texts = sum(len(row[name].encode()) for name in ("id", "tags", "text"))
        takes = texts + len(json.dumps(row["metadata"])) + row["vector"].nbytes
        if batch and size + takes > MESSAGE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += takes
    if batch:
        yield batch


def sliced(several: Any, count: int) -> Iterator[Any]:
    """Yields slices of a list or an array, of `count` entries each."""
    for start in range(0, len(several), count):
        yield several[start : start + count]


def can_be_id(name: Any) -> bool:
    """Tells whether a document can have this id; ids from a usage log may be anything."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    try:
        return len(name.encode()) <= TEXT_BYTES
    except UnicodeEncodeError:
        return False


def id_in(ids: Sequence[str], *, negate: bool = False) -> str:
    """Writes a condition on the id; the client's own option `ids=` does not escape ids."""
    quoted = ", ".join(f'"{name.translate(_ESCAPES)}"' for name in ids)
    return f"id {'not in' if negate else 'in'} [{quoted}]"


def wanted_tags(conditions: Sequence[Condition]) -> list[list[str]]:
    """Returns, for each condition that names values, the tags of these values."""
    return [
        [make_tag(condition.name, value) for value in condition.values]
        for condition in conditions
        if condition.values
    ]


def has_tags(wanted: Sequence[Sequence[str]]) -> str:
    """Writes the condition that a document has a tag of each list; empty without lists."""
    conditions = [[f'tags like "%{tag}%"' for tag in several] for several in wanted]
    return " and ".join(f"({' or '.join(several)})" for several in conditions)


def make_tag(name: str, value: Any) -> str:
    """Hashes a name and a value of metadata; 1 and 1.0 have the same tag, True and "1" others."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return hash_text(json.dumps([name, value]))


def hash_text(text: str) -> str:
    """Hashes a text to 16 bytes in hexadecimal."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
