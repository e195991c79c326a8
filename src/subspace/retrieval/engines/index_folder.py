"""The folder of an embedded index: written completely or not at all, checked when it is opened.

Files: `items.jsonl` (id, text and metadata of each document), `vectors.npy` (float32 or float16,
count x dim, unit blocks, memory-mapped when read), files that only one engine has, and
`manifest.json` (format 2)::

    format_version   2
    engine           name of the engine that searches it: "numpy", "faiss"
    settings         settings of that engine
    projection       digest of the model's projection, before it is centred
    centre           what the model's blocks were centred on, see `model.centre`; or null
    blocks           {"topic": 96, ...}: the layout, in order
    count            number of documents
    sums             {"items.jsonl": "sha256:...", "vectors.npy": "crc32:..."}: every other file

The sums are checked whenever an index is opened, which makes opening a tenth slower (measured with
300,000 short texts and 384 dimensions; reading the items takes most of the time). A CRC is enough
to detect damage by a disk or a copy, and is faster than SHA-256 on the larger files.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import IndexFolderError
from subspace.model.centre import Centre

FORMAT_VERSION = 2
MANIFEST, ITEMS, VECTORS = "manifest.json", "items.jsonl", "vectors.npy"
KINDS = ("float32", "float16")


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
    """

    documents: Sequence[Record]
    vectors: npt.NDArray[Any]
    layout: BlockLayout
    projection_digest: str
    engine: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    centre: Centre | None = None


def check_folder(folder: Path | str) -> None:
    """Raises unless an index can be written to `folder`. Call before long work.

    Creates missing parents of the folder, but not the folder itself.

    Raises:
        IndexFolderError: The folder holds something other than an index, or cannot be written.
    """
    try:
        target = _resolve(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent).cleanup()
    except OSError as error:
        raise IndexFolderError(f"cannot write the index {folder}: {error}") from error


def write_folder(
    folder: Path | str, stored: Stored, *, more: Mapping[str, Callable[[Path], None]] | None = None
) -> None:
    """Writes an index completely or not at all.

    Args:
        folder: Folder to write; a symbolic link is followed.
        stored: Contents to write.
        more: Functions that write further files of the engine, by file name.

    Raises:
        IndexFolderError: The folder holds something other than an index, or cannot be written.
    """
    try:
        target = _resolve(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            np.save(partial / VECTORS, stored.vectors)
            _write_items(partial / ITEMS, stored.documents)
            for name, write in (more or {}).items():
                write(partial / name)
            _write_manifest(partial, stored)
            partial.chmod(0o755)
            _swap(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise IndexFolderError(f"cannot write the index {folder}: {error}") from error


def read_folder(folder: Path | str) -> Stored:
    """Reads an index; its vectors are memory-mapped and read-only.

    Raises:
        IndexFolderError: The index is missing, damaged, or of another format version.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        left = sorted(folder.absolute().parent.glob(f".{folder.absolute().name}-*-old"))
        hint = f"; writing it was cut off, and what was there lies in {left[-1]}" if left else ""
        raise IndexFolderError(f"there is no index {folder}; build one with `subspace index`{hint}")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        _check_version(manifest, folder=folder)
        count, sums = manifest["count"], dict(manifest["sums"])
        vectors = _map(folder / VECTORS)
        stored = Stored(
            documents=_read_items(folder / ITEMS),
            vectors=vectors,
            layout=BlockLayout.from_widths(manifest["blocks"]),
            projection_digest=str(manifest["projection"]),
            engine=str(manifest["engine"]),
            settings=dict(manifest["settings"]),
            centre=Centre.from_json(manifest.get("centre")),
        )
        changed = [name for name, wanted in sums.items() if _sum(folder / name) != wanted]
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
    if changed or {ITEMS, VECTORS} - set(sums):
        raise IndexFolderError(
            f"the index {folder} is damaged: {MANIFEST} was written for other content of "
            f"{' and '.join(changed) or 'its files'}; build it again"
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


def _write_manifest(folder: Path, stored: Stored) -> None:
    manifest = {
        "format_version": FORMAT_VERSION,
        "engine": stored.engine,
        "settings": dict(stored.settings),
        "projection": stored.projection_digest,
        "centre": None if stored.centre is None else stored.centre.to_json(),
        "blocks": stored.layout.to_widths(),
        "count": len(stored.documents),
        "sums": {path.name: _sum(path) for path in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


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
    names = {path.name for path in folder.iterdir()}
    return not names or (names >= {MANIFEST, ITEMS, VECTORS} and names <= _own_files(folder))


def _own_files(folder: Path) -> set[str]:
    """Returns names of an index's files: the three of every index, and those in its manifest."""
    try:
        sums = json.loads((folder / MANIFEST).read_bytes()).get("sums", {})
        return {MANIFEST, ITEMS, VECTORS, *sums}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {MANIFEST, ITEMS, VECTORS}


def _swap(new: Path, folder: Path) -> None:
    """Replaces `folder` by `new`, and removes the old folder only after that."""
    if not folder.exists():
        os.replace(new, folder)
        return
    old = new.with_name(new.name + "-old")
    os.replace(folder, old)
    try:
        os.replace(new, folder)
    except BaseException:
        os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sum(path: Path) -> str:
    if path.name == ITEMS:
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
    if found != FORMAT_VERSION:
        raise IndexFolderError(
            f"the index {folder} has format version {found!r}, this version of subspace reads "
            f"{FORMAT_VERSION}; build it again"
        )
