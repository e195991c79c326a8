"""The folder of an embedded index: the state before a save or the one after it, never between.

Files: `manifest.json` (format 4), and under a mark of their own `items-MARK.jsonl` (id, text and
metadata of each document), `vectors-MARK.npy` (float32 or float16, count x dim, unit blocks,
memory-mapped when read), files that only one engine has, and `changes-MARK.jsonl`, which holds what
was saved since the others were written and is read after them; see `changes_file`::

    format_version   4
    mark             16 digits in the names of the other files
    engine           name of the engine that searches it: "numpy", "faiss"
    settings         settings of that engine
    projection       digest of the model's projection, before it is centred
    centre           what the model's blocks were centred on, see `model.centre`; or null
    blocks           {"topic": 96, ...}: the layout, in order
    count            number of documents, without the changes
    sums             {"items.jsonl": "sha256:...", "vectors.npy": "crc32:..."}: every file but the
                     changes, which have sums in their lines
    own_sum          SHA-256 of all of the above

Format 3 had no file of changes, and format 2 no mark in the names; they are read, and replaced by a
save.

A writer holds the file `.lock`. A save appends to the changes. Once these are many, all is written
whole: new files beside the old ones, then the manifest is moved into its place, which is the one
step that counts, and then what it does not name is removed: the files before, and those of writers
that were killed. A reader takes no lock. If a file is not as it should be, it looks whether the
manifest is still the same: if not, it was overtaken by a writer and reads again. What it has read
tells it later, by a look at two files, whether anything was saved since (`FolderReader.news`).

The sums are checked whenever an index is opened, which makes opening a tenth slower (measured with
300,000 short texts and 384 dimensions; reading the items takes most of the time). A CRC is enough
to detect damage by a disk or a copy, and is faster than SHA-256 on the larger files.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt
from filelock import FileLock

from subspace.arrays import map_array
from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import IndexFolderError, MissingIndexError
from subspace.model.centre import Centre
from subspace.retrieval.engines import changes_file
from subspace.retrieval.engines.changes_file import Change, ChangesError, Kind, Position

FORMAT_VERSION = 4
_READ = (2, 3, FORMAT_VERSION)
MANIFEST, ITEMS, VECTORS, LOCK = "manifest.json", "items.jsonl", "vectors.npy", ".lock"
CHANGES = "changes.jsonl"
KINDS = ("float32", "float16")
_OWN_SUM = "own_sum"

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """Up to where a folder was read or written.

    Attributes:
        folder: The folder.
        manifest: SHA-256 of the manifest.
        stamp: What a look at the manifest's file tells: another one has another stamp.
        count: Number of documents without the changes.
        kind: Precision and dimensions of the vectors.
        changes: The file of changes; None in formats that have none.
        position: Up to where it was read: the end of a save.
        size: Its size then; larger than the position if a killed writer left something.
    """

    folder: Path
    manifest: str
    stamp: tuple[int, ...]
    count: int
    kind: Kind
    changes: Path | None
    position: Position = field(default_factory=Position)
    size: int = 0

    def at(self, folder: Path) -> "Seen":
        """Returns the same by another path to the folder, such as a link that was moved."""
        changes = None if self.changes is None else folder / self.changes.name
        return replace(self, folder=folder, changes=changes)

    @property
    def is_current(self) -> bool:
        """Whether nothing was saved since; takes a few microseconds."""
        if self.size != self.position.offset:
            return False
        try:
            if self.changes is not None and self.changes.stat().st_size != self.size:
                return False
            return stamp_of((self.folder / MANIFEST).stat()) == self.stamp
        except OSError:
            return False


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Stored:
    """The contents of an index folder.

    Attributes:
        documents: All documents, without the changes.
        vectors: Unit blocks (len(documents), layout.dim), float32 or float16, same order.
        layout: The blocks.
        projection_digest: Digest of the projection that made the vectors, before it was centred.
        engine: Name of the engine that searches the index.
        settings: Settings of the engine, JSON-ready.
        centre: What the model's blocks were centred on; None for its own mean.
        files: Where the engine's own files are, by name.
        changes: What was changed since, in order.
        seen: Up to where the folder was read; None before it is written.
    """

    documents: Sequence[Record]
    vectors: npt.NDArray[Any]
    layout: BlockLayout
    projection_digest: str
    engine: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    centre: Centre | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    seen: Seen | None = None


class FolderReader:
    """Reads a folder, and what is saved in it later."""

    def __init__(self, folder: Path, *, locked: bool = False) -> None:
        """Takes a folder, and whether its lock is held."""
        self._folder, self._locked = folder, locked

    def open(self, make: Callable[[Stored], T]) -> T:
        """Reads the index that the folder holds and makes something of it; see `open_folder`."""
        return _open_folder(self._folder, make, locked=self._locked)

    def news(self, seen: Seen) -> tuple[Sequence[Change], Seen] | None:
        """Reads what was saved since.

        Returns:
            The changes in order, and up to where the folder is read now; None if it was written
            anew and must be read as a whole.

        Raises:
            IndexFolderError: The folder is gone or damaged.
        """
        while True:
            found = read_manifest(self._folder)
            if found is None:
                raise IndexFolderError(
                    f"the index {self._folder} is gone; build it with `subspace index` and open it "
                    "again"
                )
            content, stamp = found
            if digest(content) != seen.manifest:
                return None
            here = replace(seen.at(self._folder), stamp=stamp)
            if here.changes is None:
                return (), here
            try:
                changes, position, size = _read_changes(here, locked=self._locked)
            except (OSError, ChangesError) as error:
                if _is_manifest(self._folder, content):
                    raise _damaged(self._folder, error) from error
                continue  # overtaken
            return changes, replace(here, position=position, size=size)


def open_folder(folder: Path | str, make: Callable[[Stored], T]) -> T:
    """Reads an index and makes something of it; again, if a writer replaced it meanwhile.

    Args:
        folder: The folder.
        make: What is done with the contents; may read the engine's own files.

    Raises:
        IndexFolderError: The index is missing, damaged, or of another format version.
    """
    return _open_folder(Path(folder), make, locked=False)


def _open_folder(folder: Path, make: Callable[[Stored], T], *, locked: bool) -> T:
    while True:
        found = read_manifest(folder)
        if found is None:
            raise MissingIndexError(f"there is no index {folder}; build one with `subspace index`")
        try:
            return make(_read(folder, *found, locked=locked))
        except IndexFolderError:
            if _is_manifest(folder, found[0]):
                raise  # not overtaken: it is so


def _read(folder: Path, content: bytes, stamp: tuple[int, ...], *, locked: bool) -> Stored:
    try:
        manifest = json.loads(content)
        _check_version(manifest, folder=folder)
        count, sums, mark = manifest["count"], dict(manifest["sums"]), manifest.get("mark")
        files = {name: folder / marked(name, mark) for name in sums}
        if {ITEMS, VECTORS} - set(sums):
            raise KeyError("sums")
        vectors = map_vectors(files[VECTORS])
        has_changes = manifest["format_version"] == FORMAT_VERSION
        stored = Stored(
            documents=_read_items(files[ITEMS]),
            vectors=vectors,
            layout=BlockLayout.from_widths(manifest["blocks"]),
            projection_digest=str(manifest["projection"]),
            engine=str(manifest["engine"]),
            settings=dict(manifest["settings"]),
            centre=Centre.from_json(manifest.get("centre")),
            files=files,
            seen=Seen(
                folder=folder,
                manifest=digest(content),
                stamp=stamp,
                count=count,
                kind=Kind(str(vectors.dtype), vectors.shape[1]),
                changes=folder / marked(CHANGES, mark) if has_changes else None,
            ),
        )
        _check_seal(manifest, folder=folder)
        changed = [path.name for name, path in files.items() if checksum(path) != sums[name]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder, error) from error
    _check_contents(stored, count=count, changed=changed, folder=folder)
    return _with_changes(stored, locked=locked)


def _with_changes(stored: Stored, *, locked: bool) -> Stored:
    """Reads the changes of contents that were just read."""
    seen = stored.seen
    if seen is None or seen.changes is None:
        return stored
    try:
        changes, position, size = _read_changes(seen, locked=locked)
    except (OSError, ChangesError) as error:
        raise _damaged(seen.folder, error) from error
    return replace(stored, changes=changes, seen=replace(seen, position=position, size=size))


def _read_changes(seen: Seen, *, locked: bool) -> tuple[Sequence[Change], Position, int]:
    """Reads the changes that follow; a second time alone if a writer may be at work just now.

    A reader beside a writer that replaces what a killed one left may see some of each.
    """
    assert seen.changes is not None
    try:
        return changes_file.read(seen.changes, at=seen.position, kind=seen.kind)
    except ChangesError:
        if locked:
            raise
    with ExitStack() as alone:
        with suppress(OSError):  # where nothing can be written, nobody writes
            alone.enter_context(FileLock(seen.folder / LOCK))
        return changes_file.read(seen.changes, at=seen.position, kind=seen.kind)


def _check_contents(stored: Stored, *, count: Any, changed: Sequence[str], folder: Path) -> None:
    """Raises unless the files hold what the manifest promises."""
    vectors = stored.vectors
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


def seal(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a manifest with a sum of its own, in place of the one that it may have."""
    content = {name: value for name, value in manifest.items() if name != _OWN_SUM}
    text = json.dumps(content, sort_keys=False)
    return {**content, _OWN_SUM: "sha256:" + hashlib.sha256(text.encode()).hexdigest()}


def _check_seal(manifest: Mapping[str, Any], *, folder: Path) -> None:
    """Raises unless a manifest is as it was written; formats 2 and 3 have no sum."""
    if manifest["format_version"] == FORMAT_VERSION and dict(manifest) != seal(manifest):
        raise IndexFolderError(
            f"the index {folder} is damaged: {MANIFEST} was changed after it was written; build it "
            "again"
        )


def map_vectors(path: Path) -> npt.NDArray[Any]:
    """Maps a .npy file of vectors into memory; unlike np.load, refuses every other format.

    Raises:
        ValueError: The file holds no matrix of numbers.
    """
    mapped = map_array(path)
    if mapped.dtype.hasobject or mapped.ndim != 2:
        raise ValueError(f"{path.name} holds no vectors")
    return mapped


def _read_items(path: Path) -> list[Record]:
    with path.open(encoding="utf-8") as stream:
        items = [json.loads(line) for line in stream]
    return [
        Record(id=item["id"], text=item["text"], metadata=dict(item.get("metadata", {})))
        for item in items
    ]


def read_manifest(folder: Path) -> tuple[bytes, tuple[int, ...]] | None:
    """Reads the manifest and the stamp of its file; returns None if there is none."""
    try:
        with (folder / MANIFEST).open("rb") as stream:
            return stream.read(), stamp_of(os.fstat(stream.fileno()))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise IndexFolderError(f"the index {folder} cannot be read: {error}") from error


def _is_manifest(folder: Path, content: bytes) -> bool:
    """Tells whether the manifest is still this one, or gone."""
    found = read_manifest(folder)
    return found is None or found[0] == content


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """Returns what a look at a file tells: a file that is moved into its place has another one."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def digest(manifest: bytes) -> str:
    """Returns the SHA-256 of a manifest."""
    return hashlib.sha256(manifest).hexdigest()


def _damaged(folder: Path, error: Exception) -> IndexFolderError:
    said = str(error) if isinstance(error, OSError | ChangesError) else repr(error)
    return IndexFolderError(f"the index {folder} is damaged: {said}")


def marked(name: str, mark: str | None) -> str:
    """Returns the name of a file in a state: `items.jsonl` and a mark give `items-MARK.jsonl`."""
    return name if mark is None else f"{Path(name).stem}-{mark}{Path(name).suffix}"


def named_files(folder: Path) -> set[str]:
    """Returns the names of the manifest and of the files that it names."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        mark, sums = manifest.get("mark"), manifest.get("sums", {})
        more = {CHANGES} if manifest.get("format_version") == FORMAT_VERSION else set()
        return {MANIFEST, *(marked(name, mark) for name in {ITEMS, VECTORS, *sums, *more})}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {MANIFEST, ITEMS, VECTORS}


def checksum(path: Path) -> str:
    """Returns the sum of a file that the manifest records: SHA-256 of texts, CRC-32 of numbers."""
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
