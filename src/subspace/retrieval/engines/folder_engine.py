"""FolderEngine: documents and vectors in memory or mapped from a folder, and their changes.

What searches them is left to the engines that derive from it.

Threads may read and change one engine at once: each sees the documents before a change or after it.
"""

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, count
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints, Vectors
from subspace.blocks import BlockLayout
from subspace.data.metadata import Value
from subspace.data.records import Record
from subspace.errors import ConfigError, IndexFolderError
from subspace.model.centre import Centre
from subspace.retrieval.engines.changes_file import Change, collapse
from subspace.retrieval.engines.engine import Candidates, check_documents
from subspace.retrieval.engines.filters import Where, check_where
from subspace.retrieval.engines.folder_writer import FolderWriter, writing
from subspace.retrieval.engines.index_folder import (
    KINDS,
    FolderReader,
    Seen,
    Stored,
    open_folder,
)
from subspace.retrieval.engines.shared_lock import SharedLock
from subspace.retrieval.engines.unsaved import Unsaved
from subspace.retrieval.engines.vector_rows import VectorRows

# `save` writes the whole index once there are more changes than these, and than this share of the
# documents. To read a change takes as long as to read 5 to 8 documents (measured with 100,000 of
# 768 dimensions), so opening takes up to 60 % more time; writing all takes less than a millisecond
# for each of the changes that led there.
_CHANGES, _CHANGES_SHARE = 1000, 0.05
# Vectors that are compared at once.
_COMPARED = 10_000


def most_changes(count: int) -> int:
    """Returns how many changes are kept beside `count` documents before all are written whole."""
    return max(_CHANGES, int(_CHANGES_SHARE * count))


class FolderEngine:
    """Documents and vectors of a folder.

    Changes by `upsert` and `delete` are written to disk by `save`. What other writers have saved
    in the same folder since it was opened is kept: changes are made to the index that lies there.
    `refresh` takes it up.
    """

    name = ""

    def __init__(
        self,
        *,
        layout: BlockLayout,
        projection_digest: str,
        centre: Centre | None = None,
        dtype: str = "float32",
        folder: Path | str | None = None,
    ) -> None:
        """Creates an empty index.

        Args:
            layout: The blocks of every vector.
            projection_digest: Digest of the projection of the vectors, before it is centred.
            centre: What the model's blocks were centred on, if anything.
            dtype: `float32`, or `float16` for half the memory at a rounding of 5e-4.
            folder: Folder that `save` writes to by default.

        Raises:
            ConfigError: `dtype` is neither of these.
        """
        if dtype not in KINDS:
            raise ConfigError(f"vectors are kept as {' or '.join(KINDS)}, not {dtype!r}")
        self._layout = layout
        self._projection_digest = projection_digest
        self._centre = centre
        self._documents: list[Record] = []
        self._rows: dict[str, int] = {}
        self._vectors = VectorRows(np.empty((0, layout.dim), dtype=dtype))
        self._folder = None if folder is None else Path(folder)
        # Up to where the folder was read or written; None for an engine that takes the place of
        # what is there.
        self._seen: Seen | None = None
        self._unsaved = Unsaved()
        self._changes = 0
        # Held while documents are read and changed; by writers.
        self._lock, self._writers = SharedLock(), threading.RLock()

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Opens an index that `save` wrote; its vectors are memory-mapped.

        Raises:
            IndexFolderError: The index is missing, damaged, or of another format version or engine.
        """
        return open_folder(
            folder,
            lambda stored: cls.from_stored(_of(cls.name, stored, folder=folder), folder=folder),
        )

    @classmethod
    def from_stored(cls, stored: Stored, *, folder: Path | str, **settings: Any) -> Self:
        """Creates an engine from the contents of a folder, with the changes.

        Raises:
            IndexFolderError: An id is used more than once.
        """
        engine = cls(
            layout=stored.layout,
            projection_digest=stored.projection_digest,
            centre=stored.centre,
            dtype=str(stored.vectors.dtype),
            folder=folder,
            **settings,
        )
        engine._begin(stored)
        if len(engine._rows) != len(stored.documents):
            raise IndexFolderError(f"the index {folder} is damaged: ids are used more than once")
        engine._replay(stored.changes)
        return engine

    def _begin(self, stored: Stored) -> None:
        """Takes over the contents of a folder, without the changes."""
        self._documents = list(stored.documents)
        self._rows = {document.id: row for row, document in enumerate(stored.documents)}
        self._vectors = VectorRows(stored.vectors)
        self._seen = stored.seen

    def save(self, folder: Path | str | None = None) -> None:
        """Writes the changes since the last save, or nothing if writing fails.

        It takes time for what was changed; the whole index is written once a 20th of it is other
        (and 1,000 documents are), and by the first save of an engine that was created, or is saved
        to another folder, which takes the place of what is there.

        If another writer has saved in the folder since it was read, the changes of this engine are
        made to what lies there now, and this engine has the others' changes from then on.

        Args:
            folder: Folder to write; None for the one that was opened, created or last saved.

        Raises:
            ConfigError: No folder is known.
            IndexFolderError: The folder holds something other than an index or cannot be written,
                or the index was built again with other vectors.
        """
        target = folder or self._folder
        if target is None:
            raise ConfigError("say which folder the index is to be written to")
        with self._writers, writing(target) as writer:
            follows = self._is_of(target) and not writer.is_empty
            if follows:
                self._follow(writer, folder=target)
            whole = not follows or self._is_due()
            seen = self._write(writer) if whole else self._append(writer)
            self._folder = Path(target)
            self._seen = seen.at(self._folder)

    def refresh(self) -> bool:
        """Takes up what others have saved since; changes that were not saved are made on top.

        It takes microseconds if nothing was saved, and as long as opening if the folder was
        written whole.

        Returns:
            Whether any document was changed.

        Raises:
            IndexFolderError: The folder is gone or damaged, or the index was built again with other
                vectors.
        """
        if self._seen is None or self._seen.is_current:
            return False
        with self._writers:
            folder = self._seen.folder
            return self._follow(FolderReader(folder), folder=folder)

    def _is_of(self, folder: Path | str) -> bool:
        """Tells whether the documents are those of a folder, with changes."""
        if self._seen is None or self._folder is None:
            return False
        mine = self._folder
        return Path(folder) == mine or Path(folder).resolve() == mine.resolve()

    def _is_due(self) -> bool:
        """Tells whether the whole index must be written, instead of the changes."""
        seen = self._seen
        if seen is None or seen.changes is None:
            return True
        return seen.position.changes + len(self._unsaved) > most_changes(seen.count)

    def _append(self, writer: FolderWriter) -> Seen:
        """Saves the changes beside the others, and returns where they end."""
        assert self._seen is not None
        changes = [Change(name) for name in self._unsaved.removed]
        rows = self._rows_of(self._unsaved)
        changes += [
            Change(self._documents[row].id, self._documents[row], vector)
            for row, vector in zip(rows, self._vectors.take(rows), strict=True)
        ]
        if not changes:
            return self._seen
        seen = writer.append(changes, seen=self._seen)
        self._unsaved.clear()
        return seen

    def _write(self, writer: FolderWriter) -> Seen:
        """Saves the whole index, and returns its end."""
        self._prepare()
        stored = Stored(
            documents=self._documents,
            vectors=self.vectors,
            layout=self._layout,
            projection_digest=self._projection_digest,
            centre=self._centre,
            engine=self.name,
            settings=self._settings(),
        )
        seen = writer.write(stored, more=self._files())
        self._unsaved.clear()
        if self._vectors.is_mapped:  # the file before is no longer needed, nor what was added
            vectors = VectorRows(writer.map_vectors(seen))
            with self._lock.exclusive():
                self._vectors = vectors
        return seen

    def _follow(self, reader: FolderReader, *, folder: Path | str) -> bool:
        """Takes up what others have saved since; changes that were not saved are made on top.

        Returns:
            Whether any document is another than before, or in another place.
        """
        assert self._seen is not None
        news = reader.news(self._seen)
        if news is None:
            theirs = reader.open(lambda stored: self._made_of(stored, folder=folder))
            mine = self._take(self._rows_of(self._unsaved))
            theirs.delete(list(self._unsaved.removed))
            theirs.upsert(mine.documents, mine.vectors)
            differs = not self._holds_the_same(theirs)
            with self._lock.exclusive():
                self._adopt(theirs)
            return differs
        changes, seen = news
        differs = any(map(self._is_changed_by, changes))
        if changes:
            with self._lock.exclusive():
                self._replay_below(changes)
        self._seen = seen
        return differs

    def _holds_the_same(self, other: Self) -> bool:
        """Tells whether another engine has the same documents and vectors in the same order."""
        if self._documents != other._documents:
            return False
        parts = (
            np.arange(start, min(start + _COMPARED, len(self._documents)))
            for start in range(0, len(self._documents), _COMPARED)
        )
        return all(
            np.array_equal(self._vectors.take(part), other._vectors.take(part)) for part in parts
        )

    def _is_changed_by(self, change: Change) -> bool:
        """Tells whether a change leaves anything other than it is."""
        row = self._rows.get(change.id)
        if row is None or change.document is None or change.vector is None:
            return row is not None or change.document is not None
        (vector,) = self._vectors.take(np.array([row]))
        return self._documents[row] != change.document or not np.array_equal(vector, change.vector)

    def _made_of(self, stored: Stored, *, folder: Path | str) -> Self:
        """Creates an engine from a folder that was written whole meanwhile.

        Raises:
            IndexFolderError: The vectors of this engine cannot stand beside those of the folder.
        """
        if not self._fits(stored):
            changes = ", so the changes made here cannot be saved into it", " and make them there"
            why, how = changes if self._unsaved else ("", "")
            raise IndexFolderError(
                f"the index {folder} was built again since it was opened here, with another "
                f"checkpoint, centre or engine{why}: open it again{how}"
            )
        return type(self).from_stored(stored, folder=folder)

    def _fits(self, stored: Stored) -> bool:
        """Tells whether the vectors of a stored index can stand beside those of this engine."""
        mine, theirs = (
            None if centre is None else centre.to_json() for centre in (self._centre, stored.centre)
        )
        return (stored.engine, stored.layout, stored.projection_digest, theirs) == (
            self.name,
            self._layout,
            self._projection_digest,
            mine,
        )

    def _adopt(self, other: Self) -> None:
        """Takes over the documents of another engine of the same folder."""
        self._documents, self._rows, self._vectors = other._documents, other._rows, other._vectors
        self._seen, self._unsaved = other._seen, other._unsaved
        self._note_change()

    def _replay(self, changes: Sequence[Change]) -> None:
        """Makes changes that are saved."""
        removed, added = collapse(changes)
        self._remove(self._rows_of(removed))
        documents = [change.document for change in added if change.document is not None]
        vectors = [change.vector for change in added if change.vector is not None]
        if documents:
            self._put(documents, np.stack(vectors))
        self._note_change()

    def _replay_below(self, changes: Sequence[Change]) -> None:
        """Makes others' saved changes as if they had been made before those not yet saved."""
        unsaved = self._unsaved
        mine = self._rows_of(unsaved)
        documents, vectors = [self._documents[row] for row in mine], self._vectors.take(mine)
        # What was added here comes after what they have added.
        self._remove(self._rows_of([name for name in unsaved if unsaved.is_last(name)]))
        self._replay(changes)
        self._remove(self._rows_of(unsaved.removed))
        unsaved.renew(self._rows)
        if documents:
            self._put(documents, vectors)

    def _prepare(self) -> None:
        """Does what must be done before the index is written."""

    def _note_change(self) -> None:
        """Notes that documents are other than before."""
        self._changes += 1

    def _settings(self) -> Mapping[str, Any]:
        """Returns the settings that the manifest records for the engine."""
        return {}

    def _files(self) -> Mapping[str, Callable[[Path], None]]:
        """Returns functions that write further files of the engine, by file name."""
        return {}

    @property
    def layout(self) -> BlockLayout:
        """The blocks of every vector."""
        return self._layout

    @property
    def projection_digest(self) -> str:
        """Digest of the projection that made the vectors, before it was centred."""
        return self._projection_digest

    @property
    def centre(self) -> Centre | None:
        """What the model's blocks were centred on; None for its own mean."""
        return self._centre

    @property
    def documents(self) -> Sequence[Record]:
        """All documents, in the order of adding."""
        return tuple(self._documents)

    @property
    def vectors(self) -> npt.NDArray[Any]:
        """Vectors of the documents (count, dim), float32 or float16; a copy after some changes."""
        return self._vectors.whole()

    def upsert(self, documents: Sequence[Record], vectors: Vectors) -> None:
        """Adds documents with their vectors; replaces documents with the same ids."""
        check_documents(documents, vectors, layout=self._layout)
        if not documents:
            return
        with self._writers, self._lock.exclusive():
            if self._seen is not None:
                self._unsaved.note_added([document.id for document in documents], self._rows)
            self._put(documents, vectors)
            self._note_change()

    def _put(self, documents: Sequence[Record], vectors: npt.NDArray[Any]) -> None:
        """Adds or replaces documents; ids differ."""
        known = [n for n, document in enumerate(documents) if document.id in self._rows]
        new = [n for n, document in enumerate(documents) if document.id not in self._rows]
        rows = self._rows_of([documents[position].id for position in known], ordered=False)
        for row, position in zip(rows, known, strict=True):
            self._documents[row] = documents[position]
        if known:
            self._vectors.replace(rows, vectors[known])
        if new:
            self._vectors.append(vectors[new] if known else vectors)
        for position in new:
            self._rows[documents[position].id] = len(self._documents)
            self._documents.append(documents[position])

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and returns their number; unknown ids are ignored."""
        with self._writers, self._lock.exclusive():
            gone = self._rows_of(ids)
            if len(gone):
                if self._seen is not None:
                    names = [self._documents[row].id for row in gone]
                    self._unsaved.note_removed(names)
                self._remove(gone)
                self._note_change()
        return len(gone)

    def _remove(self, gone: Ints) -> None:
        """Removes the documents at rows, which are ascending."""
        if not len(gone):
            return
        first = int(gone[0])
        for row in gone:
            del self._rows[self._documents[row].id]
        kept = np.ones(len(self._documents) - first, dtype=bool)
        kept[gone - first] = False
        moved = list(compress(self._documents[first:], kept.tolist()))
        self._rows.update(zip([document.id for document in moved], count(first), strict=False))
        self._documents = self._documents[:first] + moved  # who reads the old list goes on
        self._vectors.delete(gone)

    def _rows_of(self, ids: Iterable[str], *, ordered: bool = True) -> Ints:
        """Returns the rows of those ids that are there; ascending, each once, if `ordered`."""
        rows = [self._rows[name] for name in ids if name in self._rows]
        return np.array(sorted(set(rows)) if ordered else rows, dtype=np.int64)

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Returns documents by id, in the order of `ids`; unknown ids are left out."""
        with self._lock.shared():
            return self._take(self._rows_of(ids, ordered=False))

    def sample(self, count: int) -> Candidates:
        """Draws `count` documents with a fixed seed, or returns all if there are fewer."""
        with self._lock.shared():
            rows = np.arange(len(self._documents))
            if count < len(rows):
                rows = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
            return self._take(rows)

    def count(self, where: Where | None = None) -> int:
        """Counts all documents, or those whose metadata match `where`."""
        with self._lock.shared():
            mask = self._matching(where)
            return len(self._documents) if mask is None else int(mask.sum())

    def state(self) -> Hashable:
        """Returns the number of changes so far, which are all made through this engine."""
        return self._changes

    def metadata(self) -> Iterator[tuple[str, Mapping[str, Value]]]:
        """Yields the id and the metadata of every document."""
        for document in self._documents:
            yield document.id, document.metadata

    def close(self) -> None:
        """Does nothing, as no file or connection needs closing."""

    def _take(self, rows: Ints) -> Candidates:
        return Candidates(
            documents=tuple(self._documents[row] for row in rows),
            vectors=self._vectors.take(rows).astype(np.float32, copy=False),
        )

    def _matching(self, where: Where | None) -> npt.NDArray[np.bool_] | None:
        conditions = check_where(where)
        if not conditions:
            return None
        return np.array(
            [
                all(one.holds(document.metadata.get(one.name)) for one in conditions)
                for document in self._documents
            ],
            dtype=bool,
        )


def _of(engine: str, stored: Stored, *, folder: Path | str) -> Stored:
    """Returns the contents of a folder; raises unless an engine of this name wrote it."""
    if stored.engine != engine:
        raise IndexFolderError(f"{folder} is an index of the engine '{stored.engine}'")
    return stored
