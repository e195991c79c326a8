"""DocumentFile: a JSONL file of texts, read in parts, since memory may not hold all of it."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from subspace.data.records import Record
from subspace.data.retrieval_sets import iterate_documents, warn_of_empty
from subspace.errors import RecordError
from subspace.files import Problems, is_gzipped


@dataclass(frozen=True)
class Part:
    """Consecutive texts of a file.

    Attributes:
        offset: Number of bytes before its first line.
        line: Number of its first line, from 1.
        texts: Number of texts.
        digest: Hash of their ids and texts.
    """

    offset: int
    line: int
    texts: int
    digest: str


@dataclass(frozen=True)
class DocumentFile:
    """A file of texts, divided into parts.

    Attributes:
        path: The file.
        parts: Its parts in order.
    """

    path: Path
    parts: tuple[Part, ...]

    @classmethod
    def scan(cls, path: Path, *, texts_per_part: int, progress: bool = False) -> Self:
        """Reads the whole file once, checks every line and divides it into parts.

        Takes 16 bytes of memory per text.

        Args:
            path: JSONL, not gzipped.
            texts_per_part: Number of texts per part; the last may have fewer.
            progress: Whether to show a progress bar.

        Raises:
            RecordError: The file is gzipped, empty or unreadable, or has invalid lines or repeated
                ids; lists all of them.
        """
        if is_gzipped(path):
            raise RecordError([f"{path}: a gzipped file cannot be read in parts; unpack it first"])
        problems = Problems()
        empty: list[str] = []
        lines = iterate_documents(path, problems=problems, empty=empty)
        seen = array("Q")
        parts = []
        with tqdm(desc="reading", unit="text", disable=not progress or None) as bar:
            while found := list(islice(lines, texts_per_part)):
                first = found[0][0]
                documents = [document for _, document in found]
                seen.extend(_short(document.id) for document in documents)
                parts.append(Part(first.offset, first.number, len(found), _digest(documents)))
                bar.update(len(found))
        if not parts and not len(problems):
            problems.add(str(path), "holds no texts")
        keys = np.sort(np.frombuffer(seen, dtype=np.uint64))
        repeated = set(keys[1:][keys[1:] == keys[:-1]].tolist())
        if repeated:
            _name_repeated(path, repeated, problems=problems)
        problems.raise_if_any()
        warn_of_empty(path, empty)
        return cls(path, tuple(parts))

    @property
    def texts(self) -> int:
        """Number of texts of all parts."""
        return sum(part.texts for part in self.parts)

    def read(self, number: int) -> list[Record]:
        """Reads the texts of one part.

        Raises:
            RecordError: They have changed since the file was scanned.
        """
        part = self.parts[number]
        problems = Problems()
        lines = iterate_documents(
            self.path, problems=problems, empty=[], start=(part.offset, part.line)
        )
        documents = [document for _, document in islice(lines, part.texts)]
        problems.raise_if_any()
        if _digest(documents) != part.digest:
            raise RecordError([f"{self.path}:{part.line}: was changed after it had been scanned"])
        return documents

    def to_json(self) -> dict[str, Any]:
        """Returns path and parts as JSON-ready values."""
        return {"path": str(self.path), "parts": [asdict(part) for part in self.parts]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Builds a `DocumentFile` from what `to_json` returned."""
        return cls(Path(value["path"]), tuple(Part(**part) for part in value["parts"]))


def _short(document_id: str) -> int:
    return int.from_bytes(sha256(document_id.encode()).digest()[:8])


def _digest(documents: list[Record]) -> str:
    digest = sha256()
    for document in documents:
        for text in (document.id, document.text):
            digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:32]


def _name_repeated(path: Path, keys: set[int], *, problems: Problems) -> None:
    """Adds a problem for every line with the id of an earlier line."""
    first_seen: dict[str, str] = {}
    for where, document_id in _ids(path):
        if _short(document_id) not in keys:
            continue
        if document_id in first_seen:
            problems.add(where, f"id '{document_id}' is used before, at {first_seen[document_id]}")
        first_seen.setdefault(document_id, where)


def _ids(path: Path) -> Iterator[tuple[str, str]]:
    for line, document in iterate_documents(path, problems=Problems(), empty=[]):
        yield line.where, document.id
