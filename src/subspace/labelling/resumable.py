"""Annotating so that nothing done is lost: line by line into a file, from where it stopped.

The first line of the file says whose labels of which texts it holds; a file of other texts or of
another annotator (another `identity` is one) is started anew.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subspace.data.retrieval_sets import Document
from subspace.errors import ConfigError
from subspace.labelling.annotator import Annotation, Annotator


def annotate(
    annotator: Annotator, documents: Sequence[Document], *, partial: Path, progress: bool = False
) -> list[Annotation]:
    """One annotation per document, in order; those that `partial` holds are not made again.

    Args:
        annotator: What labels.
        documents: What to label.
        partial: The file; the caller removes it once the labels are elsewhere.
        progress: Shows a bar.

    Raises:
        ConfigError: The file cannot be read or written.
    """
    header = {
        "origin": annotator.origin,
        "identity": annotator.identity,
        "factors": list(annotator.factors),
        "sha256": _digest(documents),
    }
    try:
        done, length = _read(partial, header=header, documents=documents)
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("r+b" if length else "wb") as stream:
            stream.truncate(length)  # half a line may have been written last
            stream.seek(length)
            if not length:
                stream.write(_line(header))
            for annotation in annotator.annotate(documents[len(done) :], progress=progress):
                stream.write(_line({"id": annotation.id, "factors": dict(annotation.factors)}))
                stream.flush()
                done.append(annotation)
    except OSError as error:
        raise ConfigError(f"cannot keep labels in {partial}: {error}") from error
    return done


def _read(
    partial: Path, *, header: Mapping[str, Any], documents: Sequence[Document]
) -> tuple[list[Annotation], int]:
    """What the file holds of these documents, and how many bytes of it are sound."""
    if not partial.exists():
        return [], 0
    done: list[Annotation] = []
    length = 0
    with partial.open("rb") as stream:
        for number, line in enumerate(stream):
            value = _parse(line)
            if number == 0 and value != header:
                return [], 0
            if number > 0:
                if number > len(documents) or value.get("id") != documents[number - 1].id:
                    break
                done.append(Annotation(id=value["id"], factors=value["factors"]))
            length += len(line)
    return done, length


def _parse(line: bytes) -> dict[str, Any]:
    """The object of a whole line; nothing if it was cut off."""
    if not line.endswith(b"\n"):
        return {}
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _digest(documents: Sequence[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(json.dumps([document.id, document.text]).encode())
    return digest.hexdigest()
