"""EmbeddingShards: the blocks of many texts as a folder of files, each of them done or absent.

::

    manifest.json        layout, projection, and where each shard's texts stand
    00003.npy            embeddings of shard 3, (texts, D_out) float32, block by block
    00003.json           their ids, in the same order, and how many texts were cut

Shards are written independently, by any number of processes: the ids first, then the embeddings
under another name, whose renaming is what makes the shard done. Put together they are the whole:
nothing is copied, the files are mapped where they lie.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.document_file import DocumentFile
from subspace.errors import StoreError

FORMAT, FORMAT_VERSION = "subspace shards", 1


@dataclass(frozen=True)
class EmbeddingShards:
    """Which shards there are to be, and which there are.

    Attributes:
        folder: Where.
        layout: Of an embedding.
        source: The texts; shard n holds part n.
        projection_digest: Tells by which projection they were made.
        kind: What the texts are embedded as: `document` or `query`.
    """

    folder: Path
    layout: BlockLayout
    source: DocumentFile
    projection_digest: str
    kind: str = "document"

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        layout: BlockLayout,
        source: DocumentFile,
        projection_digest: str,
        kind: str = "document",
        encoder_dtype: str = "float32",
    ) -> Self:
        """Starts a folder, or goes on with one of the same texts and the same projection.

        Args:
            folder: Where; new, empty, or that of an earlier run.
            layout: Of an embedding.
            source: The texts.
            projection_digest: Tells projections apart.
            kind: What the texts are embedded as: `document` or `query`.
            encoder_dtype: In what the encoder computes, as it was asked for.

        Raises:
            StoreError: The folder holds something else, or cannot be written to.
        """
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "layout": layout.to_widths(),
            "projection_digest": projection_digest,
            "kind": kind,
            "encoder_dtype": encoder_dtype,
            "source": source.to_json(),
        }
        path = folder / "manifest.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                found = json.loads(path.read_text(encoding="utf-8"))
                _check_same(found, manifest, path=path)
            elif any(not one.name.startswith(".manifest.json.") for one in folder.iterdir()):
                raise StoreError(f"{folder} holds something else; give an empty or a new folder")
            else:
                _replace(path, json.dumps(manifest, indent=1).encode())
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot use {path}: {error}") from error
        return cls(folder, layout, source, projection_digest, kind)

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Opens a folder, whatever part of it is done.

        Raises:
            StoreError: It is not one of shards.
        """
        path = Path(folder) / "manifest.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise KeyError("format")
            if found["format_version"] != FORMAT_VERSION:
                raise StoreError(
                    f"{path} has format {found['format_version']}; this version of subspace "
                    f"reads {FORMAT_VERSION}"
                )
            layout = BlockLayout.from_widths(found["layout"])
            source = DocumentFile.from_json(found["source"])
            digest, kind = str(found["projection_digest"]), str(found["kind"])
            return cls(Path(folder), layout, source, digest, kind)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{folder} holds no shards that can be read: {error}") from error

    def __len__(self) -> int:
        """Number of shards, done or not."""
        return len(self.source.parts)

    def missing(self) -> list[int]:
        """Numbers of the shards that are not done."""
        return [number for number in range(len(self)) if not self._vectors(number).exists()]

    def write(
        self, number: int, *, ids: Sequence[str], embeddings: Vectors, truncated: int = 0
    ) -> None:
        """Writes one shard: it is done when this returns, and absent if this does not.

        Args:
            number: Which.
            ids: Of its texts, in order.
            embeddings: (texts, D_out).
            truncated: How many of the texts were longer than the encoder reads.

        Raises:
            StoreError: The shape is another, or the disk refuses.
        """
        wanted = (self.source.parts[number].texts, self.layout.dim)
        if embeddings.shape != wanted or len(ids) != wanted[0]:
            raise StoreError(f"shard {number} needs {wanted}, got {embeddings.shape}")
        try:
            about = {"ids": list(ids), "truncated": truncated}
            _replace(self._about(number), json.dumps(about, ensure_ascii=False).encode())
            _replace(self._vectors(number), np.ascontiguousarray(embeddings, dtype="<f4"))
        except OSError as error:
            raise StoreError(f"cannot write shard {number} to {self.folder}: {error}") from error

    def check_done(self) -> None:
        """Refuses a folder in which something is missing.

        Raises:
            StoreError: With how many shards and the first of them.
        """
        missing = self.missing()
        if missing:
            raise StoreError(
                f"{self.folder}: {len(missing)} of {len(self)} shards are not done (first: "
                f"{missing[0]}); run `subspace embed` again as it was run, and it goes on there"
            )

    def vectors(self) -> list[Vectors]:
        """Embeddings (texts, D_out) of all shards in order, memory-mapped and read-only.

        Raises:
            StoreError: Some are not done, or one is damaged.
        """
        return [vectors for _, vectors in self.shards()]

    def shards(self) -> Iterator[tuple[list[str], Vectors]]:
        """Ids and embeddings (texts, D_out) shard by shard, memory-mapped and read-only.

        Raises:
            StoreError: Some are not done, or one is damaged.
        """
        self.check_done()
        for number, part in enumerate(self.source.parts):
            try:
                ids = self._read_about(number)["ids"]
                vectors = np.load(self._vectors(number), mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StoreError(f"shard {number} of {self.folder} is damaged: {error}") from error
            if vectors.shape != (part.texts, self.layout.dim) or len(ids) != part.texts:
                raise StoreError(f"shard {number} of {self.folder} is damaged: {vectors.shape}")
            yield ids, vectors

    def truncated(self) -> int:
        """How many texts of the shards that are done were longer than the encoder reads."""
        done = set(range(len(self))) - set(self.missing())
        return sum(self._read_about(number)["truncated"] for number in done)

    def _read_about(self, number: int) -> Any:
        return json.loads(self._about(number).read_text(encoding="utf-8"))

    def _vectors(self, number: int) -> Path:
        return self.folder / f"{number:05}.npy"

    def _about(self, number: int) -> Path:
        return self.folder / f"{number:05}.json"


# What a run was given otherwise, by key of the manifest.
_CAUSES = {
    "source": "content of --input or --shard-size",
    "projection_digest": "checkpoint",
    "kind": "choice of --queries",
    "encoder_dtype": "--encoder-dtype",
}


def _check_same(found: Any, wanted: dict[str, Any], *, path: Path) -> None:
    if not isinstance(found, dict):
        raise StoreError(f"{path} is not a manifest of shards")
    same_path = {"path": wanted["source"]["path"]}  # the file may have moved
    if isinstance(found.get("source"), dict):
        found = {**found, "source": found["source"] | same_path}
    differ = [_CAUSES.get(key, key) for key, value in wanted.items() if found.get(key) != value]
    if differ:
        raise StoreError(
            f"{path} is of another run, with another {' and another '.join(differ)}; give a new "
            "folder, or what that run was given"
        )


def _replace(path: Path, content: bytes | Vectors) -> None:
    """Writes a file under another name, on disk, and renames it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("wb") as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                np.save(stream, content, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
