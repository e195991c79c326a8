"""Keeping an index equal to a folder of skills and notes: only what changed is encoded."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subspace.arrays import Vectors
from subspace.data.notes import FILE, Notes, file_of, scan_notes
from subspace.data.records import Record
from subspace.errors import MissingIndexError, RecordError
from subspace.retrieval.engines import Engine, open_engine
from subspace.retrieval.index import Index

# Records that are fetched at once, with their vectors.
_BATCH = 1000


@dataclass(frozen=True)
class Changes:
    """What `follow_folder` did to an index; true if it changed anything.

    Attributes:
        added: Ids of new records.
        changed: Ids of records with another text or other metadata.
        removed: Ids of records whose file is gone.
        unchanged: Number of records that are as their files say already.
        encoded: Number of different texts that were encoded.
        problems: What was left as it was in the index, each as `file:line: what is wrong`.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    encoded: int = 0
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tells whether anything was changed."""
        return bool(self.added or self.changed or self.removed)

    def say(self) -> str:
        """Returns the counts in one line."""
        said = (
            f"{len(self.added)} added, {len(self.changed)} changed, {len(self.removed)} removed, "
            f"{self.unchanged} unchanged ({self.encoded} encoded)"
        )
        left = len(self.problems)
        return said + (f"; {left} {'problem' if left == 1 else 'problems'}" if left else "")


def follow_folder(
    index: Index,
    folder: Path | str,
    *,
    encode: Callable[[Sequence[str]], Vectors] | None = None,
    strict: bool = False,
) -> Changes:
    """Makes an index equal to a folder of skills and notes; see `read_notes`.

    New files are added, changed ones replaced, and records whose file is gone are removed. A text
    is encoded if it is new or changed; if only metadata changed, the stored vector is kept. Records
    that did not come from the folder stay as they are, and so do all records of a file or folder
    that cannot be read now; both kinds of conflict are among the problems. A second call changes
    nothing. Others may search and change the index meanwhile: what they add while texts are encoded
    is not lost. An index follows one folder. On disk the changes are written by `save` or `close`.

    Args:
        index: The index.
        folder: The folder.
        encode: Makes raw embeddings (N, D) of texts; the model's own encoder if None.
        strict: Whether to raise, and change nothing, if there is any problem.

    Raises:
        RecordError: The folder is missing, cannot be read or holds no skill or note with a text, so
            that all records would be removed; or, if `strict`, there are problems.
        EncoderError: The encoder cannot be loaded.
        EngineError: The engine cannot keep a record, or a server cannot be reached.
    """
    notes = scan_notes(folder)
    if not notes.records and not notes.problems:
        raise RecordError(
            [f"{folder}: holds no skills or notes with a text, so the index was left as it is"]
        )
    raw: dict[str, Vectors] = {}
    while True:
        # Encoding takes long, and others may change the index meanwhile: what is to be done is
        # looked at again until nothing is left to encode.
        plan = _plan(index.blocks.engine, notes, folder=folder)
        if strict and plan.problems:
            raise RecordError(plan.problems)
        missing = [text for text in plan.texts if text not in raw]
        if not missing:
            break
        encode = encode or index.model.open_encoder().encode
        raw |= zip(missing, encode(missing), strict=True)
    if plan.to_encode:
        index.add(plan.to_encode, vectors=np.array([raw[one.text] for one in plan.to_encode]))
    if plan.to_keep:
        index.update(plan.to_keep)
    if plan.removed:
        index.delete(plan.removed)
    changed = [*plan.to_encode, *plan.to_keep]
    return Changes(
        added=tuple(record.id for record in changed if record.id in plan.new),
        changed=tuple(sorted(record.id for record in changed if record.id not in plan.new)),
        removed=tuple(plan.removed),
        unchanged=plan.unchanged,
        encoded=len(raw),
        problems=plan.problems,
    )


@dataclass(frozen=True)
class Former:
    """An index that a folder is to be brought into, or that is built again from one.

    Attributes:
        projection_digest: Digest of the projection that made its vectors.
        others: Its records that did not come from a folder.
    """

    projection_digest: str
    others: tuple[Record, ...]

    def join(self, records: Sequence[Record], *, folder: Path | str) -> list[Record]:
        """Returns records of a folder together with those that did not come from it.

        Raises:
            RecordError: Two have the same id.
        """
        taken = {record.id for record in self.others}
        problems = [_clash(record, folder=folder) for record in records if record.id in taken]
        if problems:
            raise RecordError(problems)
        return [*records, *self.others]

    def changes_to(self, later: "Former | None") -> tuple[list[Record], list[str]]:
        """Returns what was added or changed by hand since, and the ids of what was removed."""
        before = {record.id: record for record in self.others}
        after = {} if later is None else {record.id: record for record in later.others}
        changed = [record for name, record in after.items() if before.get(name) != record]
        return changed, [name for name in before if name not in after]


def find_former(target: Path | str) -> Former | None:
    """Reads what an index holds, before it is built again; None if there is none, or it is empty.

    Raises:
        IndexFolderError: The index is damaged or of another format version.
        EngineError: A server cannot be reached, holds something else under this name, or the
            engine's package is not installed.
        ConfigError: The address is of no known kind.
    """
    try:
        engine = open_engine(target)
    except MissingIndexError:
        return None
    try:
        files = {name: file_of(name, metadata) for name, metadata in engine.metadata()}
        if not files:
            return None
        others = [name for name, file in files.items() if file is None]
        return Former(engine.projection_digest, tuple(_stored(engine, others)))
    finally:
        engine.close()


@dataclass(frozen=True)
class _Plan:
    """What is to be done.

    Attributes:
        to_encode: Records whose text is new.
        to_keep: Records of which only metadata changed.
        new: Ids that are not in the index.
        removed: Ids to remove.
        unchanged: Number of records that are as they should be.
        problems: What is left as it was.
    """

    to_encode: list[Record]
    to_keep: list[Record]
    new: set[str]
    removed: list[str]
    unchanged: int
    problems: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """The texts to encode, each once."""
        return list(dict.fromkeys(record.text for record in self.to_encode))


def _plan(engine: Engine, notes: Notes, *, folder: Path | str) -> _Plan:
    files = {name: file_of(name, metadata) for name, metadata in engine.metadata()}
    wanted = {record.id: record for record in notes.records}
    problems = list(notes.problems)
    for name in [name for name in wanted if name in files and files[name] is None]:
        problems.append(_clash(wanted.pop(name), folder=folder))
    to_encode = [record for name, record in wanted.items() if name not in files]
    new = {record.id for record in to_encode}
    to_keep, unchanged = [], 0
    for stored in _stored(engine, [name for name in wanted if name not in new]):
        record = wanted[stored.id]
        if stored.text != record.text:
            to_encode.append(record)
        elif _canonical(stored) != _canonical(record):
            to_keep.append(record)
        else:
            unchanged += 1
    removed = [
        name
        for name, file in files.items()
        if file is not None and name not in wanted and not notes.is_unread(file)
    ]
    return _Plan(to_encode, to_keep, new, sorted(removed), unchanged, tuple(problems))


def _clash(record: Record, *, folder: Path | str) -> str:
    """Says that an id of a folder is that of a record which did not come from it."""
    return (
        f"{Path(folder) / str(record.metadata[FILE])}: the index has a text '{record.id}' that did "
        "not come from a folder and is kept: rename the file, or delete that text"
    )


def _stored(engine: Engine, ids: Sequence[str]) -> list[Record]:
    """Returns the records of ids in the index."""
    return [
        document
        for start in range(0, len(ids), _BATCH)
        for document in engine.fetch(ids[start : start + _BATCH]).documents
    ]


def _canonical(record: Record) -> str:
    """Returns the metadata of a record as a text that tells 1 from true and from 1.0."""
    return json.dumps(record.metadata, sort_keys=True)
