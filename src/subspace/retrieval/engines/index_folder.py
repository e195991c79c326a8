"""The folder of an embedded index: the state before a save or the one after it, never between.

Files: `manifest.json` (format 3), and for each state, under a mark of its own, `items-MARK.jsonl`
(id, text and metadata of each document), `vectors-MARK.npy` (float32 or float16, count x dim, unit
blocks, memory-mapped when read) and files that only one engine has::

    format_version   3
    mark             16 digits in the names of the other files
    engine           name of the engine that searches it: "numpy", "faiss"
    settings         settings of that engine
    projection       digest of the model's projection, before it is centred
    centre           what the model's blocks were centred on, see `model.centre`; or null
    blocks           {"topic": 96, ...}: the layout, in order
    count            number of documents
    sums             {"items.jsonl": "sha256:...", "vectors.npy": "crc32:..."}: every other file

Files of the format before have no mark in their names; they are read, and replaced by a save.

A writer holds the file `.lock`, writes new files beside the old ones, moves the manifest into its
place, which is the one step that counts, and then removes what the manifest does not name: the
files of the state before, and those of writers that were killed. A reader takes no lock. If a file
is not as the manifest says, it looks whether the manifest is still the same: if not, it was
overtaken by a writer and reads again.

The sums are checked whenever an index is opened, which makes opening a tenth slower (measured with
300,000 short texts and 384 dimensions; reading the items takes most of the time). A CRC is enough
to detect damage by a disk or a copy, and is faster than SHA-256 on the larger files.
"""

import hashlib
import json
import os
import re
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import IndexFolderError
from subspace.files import check_writable, write_whole
from subspace.model.centre import Centre

FORMAT_VERSION = 3
_READ = (2, FORMAT_VERSION)
MANIFEST, ITEMS, VECTORS, LOCK = "manifest.json", "items.jsonl", "vectors.npy", ".lock"
KINDS = ("float32", "float16")
# What the names of the files of every index begin with.
_OF_ALL = tuple(Path(name).stem for name in (MANIFEST, ITEMS, VECTORS))
# Files of one state, and what a killed writer leaves of a manifest.
_MARKED = re.compile(r"[a-z]+-[0-9a-f]{16}\.[a-z0-9]+|\.manifest\.json\.[0-9a-f]{8}\.partial")

T = TypeVar("T")


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Stored:
    """The contents of an index folder.

    Attributes:
        documents: All documents.
        vectors: Unit blocks (len(documents), layout.dim), float32 or float16, same order.
        layout: The blocks.
        projection_digest: Digest of the projection that made the vectors, before it was centred.
        engine: Name of the engine that searches the index.
        settings: Settings of the engine, JSON-ready.
        centre: What the model's blocks were centred on; None for its own mean.
        state: Tells this state of the folder from every other; empty before it is written.
        files: Where the engine's own files are, by name.
    """

    documents: Sequence[Record]
    vectors: npt.NDArray[Any]
    layout: BlockLayout
    projection_digest: str
    engine: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    centre: Centre | None = None
    state: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)


def check_folder(folder: Path | str) -> None:
    """Raises unless an index can be written to `folder`. Call before long work; creates nothing.

    Raises:
        IndexFolderError: The folder holds something other than an index, or cannot be written.
    """
    try:
        check_writable(_resolve(folder))
    except OSError as error:
        raise _unwritable(folder, error) from error


class FolderWriter:
    """A folder that no other process writes meanwhile; made by `writing`."""

    def __init__(self, folder: Path) -> None:
        """Takes a folder whose lock is held."""
        self._folder = folder

    @property
    def state(self) -> str | None:
        """The state that the folder is in; None without an index."""
        manifest = _read_manifest(self._folder)
        return None if manifest is None else _digest(manifest)

    def read(self) -> Stored:
        """Reads the index that the folder holds; raises as `read_folder`."""
        return read_folder(self._folder)

    def write(
        self, stored: Stored, *, more: Mapping[str, Callable[[Path], None]] | None = None
    ) -> str:
        """Writes an index completely or not at all, and returns its state.

        Args:
            stored: Contents to write.
            more: Functions that write further files of the engine, by file name.

        Raises:
            OSError: The folder cannot be written.
        """
        mark = uuid.uuid4().hex[:16]
        before = _named(self._folder)
        try:
            np.save(self._folder / _marked(VECTORS, mark), stored.vectors)
            _write_items(self._folder / _marked(ITEMS, mark), stored.documents)
            for name, write in (more or {}).items():
                write(self._folder / _marked(name, mark))
            names = {VECTORS, ITEMS, *(more or {})}
            manifest = _make_manifest(self._folder, stored, names=names, mark=mark)
            write_whole(self._folder / MANIFEST, manifest)
        finally:
            self.clear(before)
        return _digest(manifest)

    def clear(self, before: Collection[str] = ()) -> None:
        """Removes the files that the manifest does not name, of earlier or of killed writers.

        Args:
            before: Names of the files of the state before.
        """
        kept = _named(self._folder)
        for path in self._folder.iterdir():
            if path.name not in kept and (_MARKED.fullmatch(path.name) or path.name in before):
                with suppress(OSError):
                    path.unlink()


@contextmanager
def writing(folder: Path | str) -> Iterator[FolderWriter]:
    """Locks a folder for a writer; waits until others have finished.

    Args:
        folder: The folder, made if it is missing; a symbolic link is followed.

    Raises:
        IndexFolderError: The folder holds something other than an index, or cannot be written.
    """
    try:
        target = _resolve(folder)
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(target / LOCK):
            writer = FolderWriter(_resolve(target))
            yield writer
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_folder(
    folder: Path | str, stored: Stored, *, more: Mapping[str, Callable[[Path], None]] | None = None
) -> str:
    """Writes an index in place of what is there; see `FolderWriter.write` and `writing`."""
    with writing(folder) as writer:
        return writer.write(stored, more=more)


def read_folder(folder: Path | str) -> Stored:
    """Reads an index; its vectors are memory-mapped and read-only.

    Raises:
        IndexFolderError: The index is missing, damaged, or of another format version.
    """
    return open_folder(folder, lambda stored: stored)


def open_folder(folder: Path | str, make: Callable[[Stored], T]) -> T:
    """Reads an index and makes something of it; again, if a writer replaced it meanwhile.

    Args:
        folder: The folder.
        make: What is done with the contents; may read the engine's own files.

    Raises:
        IndexFolderError: The index is missing, damaged, or of another format version.
    """
    folder = Path(folder)
    while True:
        manifest = _read_manifest(folder)
        if manifest is None:
            raise IndexFolderError(f"there is no index {folder}; build one with `subspace index`")
        try:
            return make(_read(folder, manifest))
        except IndexFolderError:
            if _read_manifest(folder) in (manifest, None):
                raise  # not overtaken: it is so


def _read(folder: Path, content: bytes) -> Stored:
    try:
        manifest = json.loads(content)
        _check_version(manifest, folder=folder)
        count, sums = manifest["count"], dict(manifest["sums"])
        files = {name: folder / _marked(name, manifest.get("mark")) for name in sums}
        if {ITEMS, VECTORS} - set(sums):
            raise KeyError("sums")
        vectors = _map(files[VECTORS])
        stored = Stored(
            documents=_read_items(files[ITEMS]),
            vectors=vectors,
            layout=BlockLayout.from_widths(manifest["blocks"]),
            projection_digest=str(manifest["projection"]),
            engine=str(manifest["engine"]),
            settings=dict(manifest["settings"]),
            centre=Centre.from_json(manifest.get("centre")),
            state=_digest(content),
            files=files,
        )
        changed = [path.name for name, path in files.items() if _sum(path) != sums[name]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = str(error) if isinstance(error, OSError) else repr(error)  # OSErrors name the file
        raise IndexFolderError(f"the index {folder} is damaged: {said}") from error
    if vectors.shape != (count, stored.layout.dim) or len(stored.documents) != count:
        raise IndexFolderError(
            f"the index {folder} is damaged: {count} documents are promised, there are "
            f"{len(stored.documents)} and vectors of shape {vectors.shape}"
        )
    if str(vectors.dtype) not in KINDS:
        raise IndexFolderError(
            f"the index {folder} is damaged: its vectors are {vectors.dtype}, not one of "
            f"{', '.join(KINDS)}"
        )
    if changed:
        raise IndexFolderError(
            f"the index {folder} is damaged: {MANIFEST} was written for other content of "
            f"{' and '.join(changed)}; build it again"
        )
    return stored


def _map(path: Path) -> npt.NDArray[Any]:
    """Maps a .npy file of vectors into memory; unlike np.load, refuses every other format.

    Raises:
        ValueError: The file holds no matrix of numbers.
    """
    mapped = np.lib.format.open_memmap(path, mode="r")
    if mapped.dtype.hasobject or mapped.ndim != 2:
        raise ValueError(f"{path.name} holds no vectors")
    return mapped


def _write_items(path: Path, documents: Sequence[Record]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for document in documents:
            item: dict[str, Any] = {"id": document.id, "text": document.text}
            if document.metadata:
                item["metadata"] = dict(document.metadata)
            stream.write(json.dumps(item, ensure_ascii=False) + "\n")


def _read_items(path: Path) -> list[Record]:
    with path.open(encoding="utf-8") as stream:
        items = [json.loads(line) for line in stream]
    return [
        Record(id=item["id"], text=item["text"], metadata=dict(item.get("metadata", {})))
        for item in items
    ]


def _make_manifest(folder: Path, stored: Stored, *, names: set[str], mark: str) -> bytes:
    """Returns a manifest of files that are on disk."""
    files = {name: folder / _marked(name, mark) for name in sorted(names)}
    for path in files.values():
        with path.open("r+b") as stream:
            os.fsync(stream.fileno())
    manifest = {
        "format_version": FORMAT_VERSION,
        "mark": mark,
        "engine": stored.engine,
        "settings": dict(stored.settings),
        "projection": stored.projection_digest,
        "centre": None if stored.centre is None else stored.centre.to_json(),
        "blocks": stored.layout.to_widths(),
        "count": len(stored.documents),
        "sums": {name: _sum(path) for name, path in files.items()},
    }
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _read_manifest(folder: Path) -> bytes | None:
    """Reads the manifest; returns None if there is none."""
    try:
        return (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise IndexFolderError(f"the index {folder} cannot be read: {error}") from error


def _digest(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()


def _marked(name: str, mark: str | None) -> str:
    """Returns the name of a file in a state: `items.jsonl` and a mark give `items-MARK.jsonl`."""
    return name if mark is None else f"{Path(name).stem}-{mark}{Path(name).suffix}"


def _named(folder: Path) -> set[str]:
    """Returns the names of the manifest and of the files that it names."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        mark, sums = manifest.get("mark"), manifest.get("sums", {})
        return {MANIFEST, *(_marked(name, mark) for name in {ITEMS, VECTORS, *sums})}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {MANIFEST, ITEMS, VECTORS}


def _resolve(folder: Path | str) -> Path:
    """Resolves symbolic links in `folder`.

    Raises:
        IndexFolderError: The folder holds something other than an index.
    """
    target = Path(os.path.realpath(folder))
    if not _is_free(target):
        raise IndexFolderError(f"{folder} is no index and no empty folder; choose another folder")
    return target


def _is_free(folder: Path) -> bool:
    """Tells whether a folder is missing, empty, or holds the files of an index and no others."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()} - {LOCK}
    if all(_MARKED.fullmatch(name) for name in names):
        return True  # it is empty, or its first writer was killed
    mine = {name for name in _named(folder) if name.startswith(_OF_ALL)}
    return mine <= names and all(_MARKED.fullmatch(name) for name in names - _named(folder))


def _unwritable(folder: Path | str, error: OSError) -> IndexFolderError:
    return IndexFolderError(f"cannot write the index {folder}: {error}")


def _sum(path: Path) -> str:
    if path.suffix == Path(ITEMS).suffix:
        with path.open("rb") as stream:
            return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
    crc = 0
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return f"crc32:{crc:08x}"


def _check_version(manifest: Any, *, folder: Path) -> None:
    if "source" in manifest:
        raise IndexFolderError(
            f"{folder} holds shards of `subspace embed`, not an index; make one of them with "
            "`subspace index --shards`"
        )
    found = manifest.get("format_version")
    if found not in _READ:
        raise IndexFolderError(
            f"the index {folder} has format version {found!r}, this version of subspace reads "
            f"{FORMAT_VERSION}; build it again"
        )
