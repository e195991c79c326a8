"""EmbeddingStore: computed vectors on disk, so that no text is ever encoded twice.

One folder per encoder fingerprint, with three files::

    manifest.json   format version, fingerprint, dimension
    vectors.f32     rows of `dim` little-endian float32, appended only
    rows.bin        24 bytes per row: 16 of the text's sha256, 4 of the vector's CRC-32, 4 spare

A batch's vectors are written before its entries in `rows.bin`, and a row counts only once it is
whole in both files: a run killed at any moment loses the batch in flight and nothing else. Every
row is checked against its CRC when it is looked up; damaged rows count as missing, are named in
a warning and computed again.
"""

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from subspace.errors import StoreError

FORMAT_VERSION = 1
_ENTRY = np.dtype([("key", ">u8", (2,)), ("crc", "<u4"), ("spare", "<u4")])
_CHECK_ROWS = 4096

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)


class EmbeddingStore:
    """Vectors of one encoder on disk, looked up by text.

    Several processes may use one store at once: appending takes a file lock.

    Attributes:
        folder: Where the three files are.
        dim: Length of a vector.
    """

    def __init__(self, folder: Path, *, dim: int) -> None:
        """Maps what is stored; use `open` instead, which checks the manifest first."""
        self.folder = folder
        self.dim = dim
        self._lock = FileLock(folder / "lock")
        self._checked = np.zeros(0, dtype=bool)
        self._map(0)
        self._refresh()

    @classmethod
    def open(
        cls, root: Path | str, *, digest: str, fingerprint: Mapping[str, Any], dim: int
    ) -> "EmbeddingStore":
        """Opens the store of one encoder below `root`, or starts an empty one.

        Args:
            root: Folder that holds the stores of all encoders.
            digest: The fingerprint's digest; names the folder.
            fingerprint: What the vectors depend on, JSON-ready; kept beside them.
            dim: Length of a vector.

        Raises:
            StoreError: The folder cannot be used, or holds another encoder's vectors.
        """
        folder = Path(root) / digest[:16]
        manifest = {"format_version": FORMAT_VERSION, "dim": dim, "fingerprint": dict(fingerprint)}
        path = folder / "manifest.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                partial = folder / f"manifest.json.{os.getpid()}"
                partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
                partial.replace(path)
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"the embedding store {folder} cannot be opened: {error}") from error
        if found != manifest:
            raise StoreError(
                f"{path} describes other vectors than this encoder's (format version, dimension "
                "or fingerprint); remove that folder or choose another store"
            )
        return cls(folder, dim=dim)

    def __len__(self) -> int:
        """Number of rows on disk by now; a row that was computed again counts twice."""
        self._refresh()
        return len(self._entries)

    @property
    def vectors(self) -> Vectors:
        """All rows by now (rows, dim), memory-mapped and read-only."""
        self._refresh()
        return self._vectors

    def find(self, texts: Sequence[str]) -> Rows:
        """The row of each text, -1 where it is not stored or its row is damaged.

        Also sees what other processes have stored by now.
        """
        self._refresh()
        if not len(self._entries):
            return np.full(len(texts), -1, dtype=np.int64)
        keys = _keys(texts)
        # The last entry of equal keys: a row that was computed again replaces the damaged one.
        positions = np.searchsorted(self._sorted, keys[:, 0], side="right") - 1
        rows = self._order[np.maximum(positions, 0)]
        same = (positions >= 0) & (self._entries["key"][rows] == keys).all(axis=1)
        rows = np.where(same, rows, -1)
        return self._without_damaged(rows)

    def append(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Stores one batch; it is on disk, whole, when this returns.

        Raises:
            StoreError: The vectors have another shape or are not finite, or the disk refuses.
        """
        if vectors.shape != (len(texts), self.dim):
            raise StoreError(
                f"{len(texts)} texts need vectors of shape ({len(texts)}, {self.dim}), "
                f"got {vectors.shape}"
            )
        if not np.isfinite(vectors).all():
            raise StoreError("vectors must be finite; the encoder gave NaN or infinity")
        block = np.ascontiguousarray(vectors, dtype="<f4")
        entries = np.zeros(len(texts), dtype=_ENTRY)
        entries["key"] = _keys(texts)
        entries["crc"] = [zlib.crc32(row) for row in block]
        try:
            with self._lock:
                self._write(block.tobytes(), entries.tobytes())
        except OSError as error:
            raise StoreError(f"cannot write to {self.folder}: {error}") from error

    def read(self, rows: Rows) -> Vectors:
        """Copies rows (as `find` gives them) into memory.

        Raises:
            StoreError: A row is -1: its text is not stored.
        """
        if len(rows) and rows.min() < 0:
            raise StoreError(f"{int((rows < 0).sum())} of {len(rows)} texts are not stored")
        return np.asarray(self.vectors[rows])

    def _write(self, vectors: bytes, entries: bytes) -> None:
        """Appends after the last row that is whole in both files, over what a kill left."""
        row_bytes = 4 * self.dim
        with (
            _open_for_append(self._vectors_file) as vector_file,
            _open_for_append(self._rows_file) as row_file,
        ):
            whole = min(_size(vector_file) // row_bytes, _size(row_file) // _ENTRY.itemsize)
            for file, end, data in (
                (vector_file, whole * row_bytes, vectors),
                (row_file, whole * _ENTRY.itemsize, entries),
            ):
                os.ftruncate(file.fileno(), end)
                file.seek(end)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    @property
    def _vectors_file(self) -> Path:
        return self.folder / "vectors.f32"

    @property
    def _rows_file(self) -> Path:
        return self.folder / "rows.bin"

    def _refresh(self) -> None:
        """Maps the files anew if they have grown (or shrunk) since."""
        try:
            sizes = [
                file.stat().st_size if file.exists() else 0
                for file in (self._vectors_file, self._rows_file)
            ]
            count = min(sizes[0] // (4 * self.dim), sizes[1] // _ENTRY.itemsize)
            if count != len(self._entries):
                self._map(count)
        except OSError as error:
            raise StoreError(f"cannot read {self.folder}: {error}") from error

    def _map(self, count: int) -> None:
        """Maps the first `count` rows and sorts their keys for look-up."""
        self._vectors: Vectors
        if count:
            self._entries = np.fromfile(self._rows_file, dtype=_ENTRY, count=count)
            self._vectors = np.memmap(
                self._vectors_file, dtype="<f4", mode="r", shape=(count, self.dim)
            )
        else:  # an empty file cannot be mapped
            self._entries = np.zeros(0, dtype=_ENTRY)
            self._vectors = np.zeros((0, self.dim), dtype=np.float32)
        first = self._entries["key"][:, 0].astype(np.uint64)
        self._order = np.argsort(first, kind="stable")
        self._sorted = first[self._order]
        kept = self._checked[:count]
        self._checked = np.concatenate([kept, np.zeros(count - len(kept), dtype=bool)])

    def _without_damaged(self, rows: Rows) -> Rows:
        """Replaces rows whose bytes do not match their CRC by -1, and says how many."""
        unchecked = np.unique(rows[(rows >= 0) & ~self._checked[np.maximum(rows, 0)]])
        damaged: list[int] = []
        for start in range(0, len(unchecked), _CHECK_ROWS):
            part = unchecked[start : start + _CHECK_ROWS]
            crcs = self._entries["crc"][part]
            for row, vector, crc in zip(part, self._vectors[part], crcs, strict=True):
                if zlib.crc32(vector) != crc:
                    damaged.append(int(row))
        self._checked[unchecked] = True
        self._checked[damaged] = False
        if not damaged:
            return rows
        logger.warning(
            "%s: %d of %d rows are damaged (first: row %d); they are computed again",
            self._vectors_file,
            len(damaged),
            len(self._entries),
            damaged[0],
        )
        return np.where(np.isin(rows, damaged), -1, rows)


def _keys(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """The first 16 bytes of each text's sha256 as two numbers, (N, 2)."""
    joined = b"".join(hashlib.sha256(text.encode()).digest()[:16] for text in texts)
    return np.frombuffer(joined, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def _open_for_append(path: Path) -> Any:
    """Opens for reading and writing without truncating, creating the file if needed."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")


def _size(file: Any) -> int:
    return os.fstat(file.fileno()).st_size
