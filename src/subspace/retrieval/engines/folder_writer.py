"""Writing the folder of an index; see `index_folder` for its files and what a save does."""

import json
import os
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from subspace.data.records import Record
from subspace.errors import IndexFolderError
from subspace.files import check_writable, write_whole
from subspace.outputs import naming_full_disks
from subspace.retrieval.engines import changes_file
from subspace.retrieval.engines.changes_file import Change, Kind
from subspace.retrieval.engines.index_folder import (
    CHANGES,
    FORMAT_VERSION,
    ITEMS,
    LOCK,
    MANIFEST,
    VECTORS,
    FolderReader,
    Seen,
    Stored,
    checksum,
    digest,
    map_vectors,
    marked,
    named_files,
    seal,
    stamp_of,
)

# What the names of the files of every index begin with.
_OF_ALL = tuple(Path(name).stem for name in (MANIFEST, ITEMS, VECTORS, CHANGES))
# Files of one state, and what a killed writer leaves of a manifest.
_MARKED = re.compile(r"[a-z]+-[0-9a-f]{16}\.[a-z0-9]+|\.manifest\.json\.[0-9a-f]{8}\.partial")


def check_folder(folder: Path | str) -> None:
    """Raises unless an index can be written to `folder`. Call before long work; creates nothing.

    Raises:
        IndexFolderError: The folder holds something other than an index, or cannot be written.
    """
    try:
        check_writable(_resolve(folder))
    except OSError as error:
        raise _unwritable(folder, error) from error


class FolderWriter(FolderReader):
    """A folder that no other process writes meanwhile; made by `writing`."""

    def __init__(self, folder: Path) -> None:
        """Takes a folder whose lock is held."""
        super().__init__(folder, locked=True)

    @property
    def is_empty(self) -> bool:
        """Whether the folder holds no index."""
        return not (self._folder / MANIFEST).is_file()

    def append(self, changes: Sequence[Change], *, seen: Seen) -> Seen:
        """Saves changes of the index that the folder holds, completely or not at all.

        Args:
            changes: The changes, in order.
            seen: Up to where the folder was read: to its end.

        Raises:
            OSError: The folder cannot be written.
        """
        assert seen.changes is not None
        position = changes_file.append(seen.changes, changes, at=seen.position)
        return replace(seen, position=position, size=position.offset)

    def write(
        self, stored: Stored, *, more: Mapping[str, Callable[[Path], None]] | None = None
    ) -> Seen:
        """Writes an index completely or not at all, without changes.

        Args:
            stored: Contents to write.
            more: Functions that write further files of the engine, by file name.

        Returns:
            The end of what is written.

        Raises:
            OSError: The folder cannot be written.
        """
        mark = uuid.uuid4().hex[:16]
        before = named_files(self._folder)
        try:
            vectors = self._folder / marked(VECTORS, mark)
            with naming_full_disks(vectors):
                np.save(vectors, stored.vectors)
            _write_items(self._folder / marked(ITEMS, mark), stored.documents)
            for name, write in (more or {}).items():
                write(self._folder / marked(name, mark))
            (self._folder / marked(CHANGES, mark)).touch()
            names = {VECTORS, ITEMS, *(more or {})}
            manifest = _make_manifest(self._folder, stored, names=names, mark=mark)
            _sync_names(self._folder)
            write_whole(self._folder / MANIFEST, manifest)
            _sync_names(self._folder)
        finally:
            self.clear(before)
        return Seen(
            folder=self._folder,
            manifest=digest(manifest),
            stamp=stamp_of((self._folder / MANIFEST).stat()),
            count=len(stored.documents),
            kind=Kind(str(stored.vectors.dtype), stored.layout.dim),
            changes=self._folder / marked(CHANGES, mark),
        )

    def map_vectors(self, seen: Seen) -> npt.NDArray[Any]:
        """Maps vectors that were just written into memory."""
        assert seen.changes is not None
        mark = seen.changes.stem.removeprefix(f"{Path(CHANGES).stem}-")
        return map_vectors(self._folder / marked(VECTORS, mark))

    def clear(self, before: Collection[str] = ()) -> None:
        """Removes the files that the manifest does not name, of earlier or of killed writers.

        Args:
            before: Names of the files of the state before.
        """
        kept = named_files(self._folder)
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
        target = Path(os.path.realpath(folder))
        if not (target / LOCK).exists():  # it would be made in a folder of something else
            _resolve(folder).mkdir(parents=True, exist_ok=True)
        with FileLock(target / LOCK):
            writer = FolderWriter(_resolve(target))
            yield writer
    except OSError as error:
        raise _unwritable(folder, error) from error


def _write_items(path: Path, documents: Sequence[Record]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for document in documents:
            item: dict[str, Any] = {"id": document.id, "text": document.text}
            if document.metadata:
                item["metadata"] = dict(document.metadata)
            stream.write(json.dumps(item, ensure_ascii=False) + "\n")


def _make_manifest(folder: Path, stored: Stored, *, names: set[str], mark: str) -> bytes:
    """Returns a manifest of files that are on disk."""
    files = {name: folder / marked(name, mark) for name in sorted(names)}
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
        "sums": {name: checksum(path) for name, path in files.items()},
    }
    return (json.dumps(seal(manifest), indent=1) + "\n").encode()


def _sync_names(folder: Path) -> None:
    """Waits until the names of the files in a folder are on disk, where a system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _resolve(folder: Path | str) -> Path:
    """Resolves symbolic links in `folder`.

    Raises:
        IndexFolderError: The folder holds something other than an index.
    """
    target = Path(os.path.realpath(folder))
    other = _find_other(target)
    if other is not None:
        raise IndexFolderError(
            f"{folder} is no index and no empty folder ({other}); choose another folder"
        )
    return target


def _find_other(folder: Path) -> str | None:
    """Names something that shows that a folder is not for an index; None if it is.

    A folder is for an index if it is missing, holds an index (other files beside it stay as they
    are), or holds nothing but hidden files and what a killed writer of an index left.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        return "it is a file"
    names = {path.name for path in folder.iterdir()}
    mine = {name for name in named_files(folder) if name.startswith(_OF_ALL)}
    if mine <= names:
        return None
    others = sorted(
        name
        for name in names
        if not (_MARKED.fullmatch(name) or (name.startswith(".") and (folder / name).is_file()))
    )
    return f"it holds {others[0]}" if others else None


def _unwritable(folder: Path | str, error: OSError) -> IndexFolderError:
    return IndexFolderError(f"cannot write the index {folder}: {error}")
