"""EmbeddingStore: computed vectors on disk, so that no text is encoded twice.

Each encoder fingerprint has a folder with three files::

    manifest.json   format version, fingerprint, dimension, dtype unless it is float32
    vectors.f32     rows of `dim` little-endian float32 (vectors.f16: float16), appended only
    rows.bin        24 bytes per row: 16 of the text's SHA-256, 4 of the vector's CRC-32, and 4 of a
                    checksum over vector and key (0 in rows of earlier versions)

A batch's vectors are written before its entries in `rows.bin`, and a row counts only once it is
complete in both files: a killed run loses at most the batch that it was writing. Every row is
verified with its checksum when it is looked up. Damaged or missing rows are reported in a warning
and computed again.

Ten million vectors of 1,024 numbers take 41 GB (20 GB in float16) and 240 MB of entries, all
memory-mapped. A process holds 13 bytes per row in memory: half of its key, its row number, and
whether it was verified.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from subspace.arrays import Ints, Vectors
from subspace.encoder.key_index import KeyIndex, hash_texts
from subspace.encoder.store_entries import ENTRY, are_valid, make_entries
from subspace.errors import StoreError
from subspace.files import write_whole

FORMAT_VERSION = 1
_FILES = {"float32": "vectors.f32", "float16": "vectors.f16"}
# Rows per step: 2 MiB at 1,024 dimensions, which fits in the processor's cache.
_STEP = 512

StoreDtype = Literal["float32", "float16"]

logger = logging.getLogger(__name__)


class EmbeddingStore:
    """Vectors of one encoder on disk, looked up by text.

    Several processes may use one store at once: appending takes a file lock. Threads may share one
    object: they read one after another.

    Attributes:
        folder: Holds the three files.
        dim: Length of a vector.
        dtype: Precision of the stored numbers.
    """

    def __init__(self, folder: Path, *, dim: int, dtype: StoreDtype = "float32") -> None:
        """Maps the stored files; use `open` instead, which checks the manifest first."""
        self.folder = folder
        self.dim = dim
        self.dtype = dtype
        self._kept = np.dtype(dtype).newbyteorder("<")
        self._lock = FileLock(folder / "lock")
        self._reading = threading.RLock()
        self._sizes = (0, 0)
        self._index, self._checked = KeyIndex(), np.zeros(0, dtype=bool)
        self._map(0)
        self._refresh()

    @classmethod
    def open(
        cls,
        root: Path | str,
        *,
        digest: str,
        fingerprint: Mapping[str, Any],
        dim: int,
        dtype: StoreDtype | None = None,
    ) -> "EmbeddingStore":
        """Opens the store of one encoder below `root`, or starts an empty one.

        Args:
            root: Folder that holds the stores of all encoders.
            digest: The fingerprint's digest; its first 16 digits name the folder.
            fingerprint: Everything that determines the vectors, JSON-ready; kept in the manifest.
            dim: Length of a vector.
            dtype: Precision of the stored numbers: float16 takes half the bytes and changes each
                number by up to 1/2048 of itself. None for that of an existing store, or float32
                for a new one.

        Raises:
            StoreError: The folder cannot be used, or holds vectors of another encoder or precision.
        """
        folder = Path(root) / digest[:16]
        manifest = {"format_version": FORMAT_VERSION, "dim": dim, "fingerprint": dict(fingerprint)}
        # Left out for float32: manifests of earlier versions do not name it.
        new = {"dtype": dtype} if dtype == "float16" else {}
        path = folder / "manifest.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_whole(path, (json.dumps({**manifest, **new}, indent=1) + "\n").encode())
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"the embedding store {folder} cannot be opened: {error}") from error
        stored = found.pop("dtype", "float32") if isinstance(found, dict) else None
        if found != manifest or stored not in _FILES:
            raise StoreError(
                f"{path} describes other vectors than this encoder's (format version, dimension "
                "or fingerprint); remove that folder or choose another store"
            )
        if dtype not in (None, stored):
            raise StoreError(f"{path} keeps {stored}, not {dtype}; choose another store for that")
        return cls(folder, dim=dim, dtype=stored)

    def __len__(self) -> int:
        """Counts the rows on disk; a row that was computed again counts twice."""
        with self._reading:
            self._refresh()
            return len(self._entries)

    @property
    def vectors(self) -> Vectors:
        """All rows on disk (rows, dim), memory-mapped and read-only, in the store's dtype."""
        with self._reading:
            self._refresh()
            return self._vectors

    def find(self, texts: Sequence[str]) -> Ints:
        """Returns the row of each text (N,), -1 where it is not stored or its row is damaged.

        Includes rows that other processes have stored meanwhile.
        """
        with self._reading:
            return self._without_damaged(self._locate(texts))

    def fetch(self, texts: Sequence[str]) -> Vectors | None:
        """Reads the vectors (N, dim) as float32; None unless all are stored and undamaged.

        Gives the same as `find` and `read`, but reads every byte only once.
        """
        with self._reading:
            rows = self._locate(texts)
            if (rows < 0).any():
                return None
            copied = np.empty((len(rows), self.dim), dtype=np.float32)
            for part, block in self._blocks(rows, into=copied):
                if not are_valid(block, self._entries[rows[part]]).all():
                    return None
            return copied

    def _locate(self, texts: Sequence[str]) -> Ints:
        """Returns the row of each text (N,), damaged or not, and -1 where it is not stored."""
        self._refresh()
        keys = hash_texts(texts)
        # The last row of equal keys: a vector that was computed again replaces a damaged one.
        rows = self._index.find(keys[:, 0])
        known = np.flatnonzero(rows >= 0)
        other = (self._entries["key"][rows[known]] != keys[known]).any(axis=1)
        rows[known[other]] = -1
        return rows

    def append(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Stores one batch; it is completely on disk when this returns.

        Raises:
            StoreError: The vectors have the wrong shape or are not finite, or writing fails.
        """
        if vectors.shape != (len(texts), self.dim):
            raise StoreError(
                f"{len(texts)} texts need vectors of shape ({len(texts)}, {self.dim}), "
                f"got {vectors.shape}"
            )
        with np.errstate(over="ignore"):  # too large for float16: infinite, refused
            block = np.ascontiguousarray(vectors, dtype=self._kept)
        if not np.isfinite(block).all():
            raise StoreError(
                f"vectors must be finite in {self.dtype}; the encoder gave NaN, infinity or more"
            )
        entries = make_entries(texts, block)
        try:
            with self._lock:
                self._write(block.tobytes(), entries.tobytes())
        except OSError as error:
            raise StoreError(f"cannot write to {self.folder}: {error}") from error

    def read(self, rows: Ints) -> Vectors:
        """Reads rows, as `find` returns them, as float32 (N, dim).

        Raises:
            StoreError: A row is -1, because its text is not stored.
        """
        if len(rows) and rows.min() < 0:
            raise StoreError(f"{int((rows < 0).sum())} of {len(rows)} texts are not stored")
        copied = np.empty((len(rows), self.dim), dtype=np.float32)
        with self._reading:
            self._refresh()
            for _ in self._blocks(rows, into=copied):
                pass
        return copied

    def _blocks(
        self, rows: Ints, *, into: Vectors | None = None
    ) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Reads vectors in steps; yields the slice of `rows` and its vectors in the store's dtype.

        Copies them to `into` as well, if given. The next step may overwrite the yielded vectors.
        """
        if not len(rows):  # there may be no file yet
            return
        spare = np.empty((min(_STEP, len(rows)), self.dim), dtype=self._kept)
        with self._vectors_file.open("rb", buffering=0) as file:
            for start in range(0, len(rows), _STEP):
                part = slice(start, min(start + _STEP, len(rows)))
                block = spare[: part.stop - start]
                if into is not None and into.dtype == self._kept:
                    block = into[part]
                self._fill(block, file, rows[part])
                if into is not None and into.dtype != self._kept:
                    into[part] = block
                yield part, block

    def _fill(self, block: npt.NDArray[Any], file: Any, rows: Ints) -> None:
        """Reads rows (M,) of `file` into `block` (M, dim), consecutive rows in one call.

        Does not use the memory map: mapping a page that is used once takes longer than copying
        it, and the page would count as this process's memory.
        """
        ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        start = 0
        for end in ends:
            file.seek(int(rows[start]) * self._row_bytes)
            if file.readinto(block[start:end]) < (end - start) * self._row_bytes:
                raise StoreError(f"{self._vectors_file} was cut short while it was read")
            start = end

    def _write(self, vectors: bytes, entries: bytes) -> None:
        """Appends after the last row that is complete in both files; overwrites the rest."""
        with (
            _open_for_append(self._vectors_file) as vector_file,
            _open_for_append(self._rows_file) as row_file,
        ):
            sizes = os.fstat(row_file.fileno()).st_size, os.fstat(vector_file.fileno()).st_size
            entry_count, vector_count = self._counts(sizes)
            whole = min(entry_count, vector_count)
            if vector_count > whole:
                logger.warning(
                    "%s: the last %d vectors have no entry in %s (a run was killed, the disk "
                    "was full, or that file was cut short); they are overwritten",
                    self._vectors_file,
                    vector_count - whole,
                    self._rows_file.name,
                )
            # Entries are cut first, so that none can ever refer to another text's vector.
            os.ftruncate(row_file.fileno(), whole * ENTRY.itemsize)
            for file, row_bytes, data in (
                (vector_file, self._row_bytes, vectors),
                (row_file, ENTRY.itemsize, entries),
            ):
                os.ftruncate(file.fileno(), whole * row_bytes)
                file.seek(whole * row_bytes)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    @property
    def _vectors_file(self) -> Path:
        return self.folder / _FILES[self.dtype]

    @property
    def _rows_file(self) -> Path:
        return self.folder / "rows.bin"

    @property
    def _row_bytes(self) -> int:
        return self._kept.itemsize * self.dim

    def _counts(self, sizes: tuple[int, int]) -> tuple[int, int]:
        """Counts the complete entries and the complete vectors in files of these sizes."""
        return sizes[0] // ENTRY.itemsize, sizes[1] // self._row_bytes

    def _refresh(self) -> None:
        """Maps the files again if their sizes have changed."""
        try:
            # Entries first: a process that appends meanwhile writes vectors before entries.
            sizes = _size(self._rows_file), _size(self._vectors_file)
            if sizes == self._sizes:
                return
            entries, vectors = self._counts(sizes)
            if entries > vectors:
                logger.warning(
                    "%s is cut short: it holds %d of %d rows; the others are computed again",
                    self._vectors_file,
                    vectors,
                    entries,
                )
            self._map(min(entries, vectors))
            self._sizes = sizes
        except OSError as error:
            raise StoreError(f"cannot read {self.folder}: {error}") from error

    def _map(self, count: int) -> None:
        """Maps the first `count` rows and indexes their keys."""
        self._entries: npt.NDArray[np.void]
        self._vectors: npt.NDArray[Any]
        if count:
            # A plain array, since every step of a check slices it, and slices of a memmap are slow.
            self._entries = np.asarray(
                np.memmap(self._rows_file, dtype=ENTRY, mode="r", shape=count)
            )
            self._vectors = np.memmap(
                self._vectors_file, dtype=self._kept, mode="r", shape=(count, self.dim)
            )
        else:  # an empty file cannot be mapped
            self._entries = np.zeros(0, dtype=ENTRY)
            self._vectors = np.zeros((0, self.dim), dtype=self._kept)
        if count < len(self._index):
            self._index, self._checked = KeyIndex(), np.zeros(0, dtype=bool)
        new = self._entries[len(self._index) :]
        self._index.extend(new["key"][:, 0].astype(np.uint64))
        self._checked = np.concatenate([self._checked, np.zeros(len(new), dtype=bool)])

    def _without_damaged(self, rows: Ints) -> Ints:
        """Replaces damaged rows by -1, and logs how many there are."""
        known = rows[rows >= 0]
        # Not np.unique, which hashes: sorting is quick, since rows are mostly in order already.
        ordered = np.sort(known[~self._checked[known]])
        unchecked = ordered[np.diff(ordered, prepend=-1) != 0]
        whole = np.zeros(len(unchecked), dtype=bool)
        for part, block in self._blocks(unchecked):
            whole[part] = are_valid(block, self._entries[unchecked[part]])
        self._checked[unchecked] = whole
        damaged = unchecked[~whole]
        if not len(damaged):
            return rows
        logger.warning(
            "%s: %d of %d rows are damaged (first: row %d); they are computed again",
            self._vectors_file,
            len(damaged),
            len(self._entries),
            damaged[0],
        )
        return np.where(np.isin(rows, damaged), -1, rows)


def _open_for_append(path: Path) -> Any:
    """Opens for reading and writing without truncating, creating the file if needed."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
