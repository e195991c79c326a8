"""Documents as rows of Milvus, and the conditions that find them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from subspace.arrays import Vectors
from subspace.data.records import Record
from subspace.errors import EngineError
from subspace.retrieval.engines.engine import Where, check_where

Row = dict[str, Any]

# Milvus' own limit of a text and of a JSON value; and what is sent at once, as a server takes and
# sends messages of 64 MB.
TEXT_BYTES = 65_535
MESSAGE_BYTES = 16 << 20
DRAWS = 1 << 32
# The escapes that Milvus and milvus-lite both know; any other character stands for itself.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def to_row(document: Record, vector: Vectors) -> Row:
    """A row without its `seq`.

    Raises:
        EngineError: Milvus does not keep such a document.
    """
    _check_length("id", document.id, of=document)
    _check_length("text", document.text, of=document)
    metadata = dict(document.metadata)
    tags = " ".join(make_tag(name, value) for name, value in metadata.items())
    _check_length("metadata", json.dumps(metadata, ensure_ascii=False), of=document)
    _check_length("metadata", tags, of=document)
    return {
        "id": document.id,
        "draw": int(hash_text(document.id)[:8], 16),
        "tags": tags,
        "text": document.text,
        "metadata": metadata,
        "vector": vector.astype(np.float32, copy=False),
    }


def _check_length(name: str, text: str, *, of: Record) -> None:
    size = len(text.encode())
    if size > TEXT_BYTES:
        raise EngineError(
            f"the {name} of document '{of.id:.60}' takes {size:,} bytes and Milvus keeps "
            f"{TEXT_BYTES:,} at most; shorten or split it"
        )


def batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows in messages that a server takes."""
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
    """A list or an array, `count` at once."""
    for start in range(0, len(several), count):
        yield several[start : start + count]


def can_be_id(name: Any) -> bool:
    """Whether a document can have such an id; what a usage log names may be anything."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    try:
        return len(name.encode()) <= TEXT_BYTES
    except UnicodeEncodeError:
        return False


def id_in(ids: Sequence[str], *, negate: bool = False) -> str:
    """A condition; the client's own `ids=` does not escape them."""
    quoted = ", ".join(f'"{name.translate(_ESCAPES)}"' for name in ids)
    return f"id {'not in' if negate else 'in'} [{quoted}]"


def wanted_tags(where: Where | None) -> list[list[str]]:
    """For each name, the tags of the values that it may have."""
    return [
        [make_tag(name, value) for value in several] for name, several in check_where(where).items()
    ]


def has_tags(wanted: Sequence[Sequence[str]]) -> str:
    """A condition: one of the tags of each list; empty if any document will do."""
    conditions = [[f'tags like "%{tag}%"' for tag in several] for several in wanted]
    return " and ".join(f"({' or '.join(several)})" for several in conditions)


def make_tag(name: str, value: Any) -> str:
    """The same for the same name and equal values: 1 is 1.0, but neither True nor "1"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return hash_text(json.dumps([name, value]))


def hash_text(text: str) -> str:
    """16 bytes in hexadecimal."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
