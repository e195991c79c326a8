"""EmbeddingShards: the blocks of many texts as a folder of files, each complete or absent.

::

    manifest.json        layout, projection, and where each shard's texts are in their file
    00003.npy            embeddings of shard 3, (texts, D_out) float32, block by block
    00003.json           their ids, in the same order, and how many texts were cut

Shards are written independently, by any number of processes. The ids are written first, then the
embeddings under a temporary name; renaming these completes the shard. Readers memory-map the files
of all shards without copying them. One listing of the folder shows which shards are done, since
asking for each file by name takes minutes on a network file system.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from subspace.arrays import Vectors, map_array
from subspace.blocks import BlockLayout
from subspace.data.document_file import DocumentFile
from subspace.data.records import Record
from subspace.encoder.truncation import Truncation
from subspace.errors import StoreError
from subspace.files import remove_abandoned, whole_file, write_whole
from subspace.model.projection import Projection

FORMAT, FORMAT_VERSION = "subspace shards", 1
MANIFEST = "manifest.json"
# Seconds that other processes may take for a shard, and between two listings of the folder.
_PATIENCE, _LONGEST_PAUSE = 86_400.0, 10.0
_NOTHING = Truncation()


@dataclass(frozen=True)
class EmbeddingShards:
    """A folder of shards, done or still to be written.

    Attributes:
        folder: The folder.
        layout: The blocks of an embedding.
        source: The texts; shard n holds part n.
        projection_digest: Digest of the projection that makes the embeddings.
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
        """Creates a folder, or continues one of the same texts, projection and settings.

        Args:
            folder: New, empty, or of an earlier run.
            layout: The blocks of an embedding.
            source: The texts.
            projection_digest: Digest of the projection.
            kind: What the texts are embedded as: `document` or `query`.
            encoder_dtype: Requested precision of the encoder.

        Raises:
            StoreError: The folder holds other files or another run, or cannot be written.
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
        path = folder / MANIFEST
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(folder)
            there = _list(folder)
            if MANIFEST in there:
                found = json.loads(path.read_text(encoding="utf-8"))
                _check_same(found, manifest, path=path)
            elif any(not name.startswith(f".{MANIFEST}.") for name in there):
                raise StoreError(f"{folder} holds something else; give an empty or a new folder")
            else:
                write_whole(path, json.dumps(manifest, indent=1).encode())
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot use {path}: {error}") from error
        return cls(folder, layout, source, projection_digest, kind)

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Opens a folder of shards, complete or not.

        Raises:
            StoreError: The folder holds no manifest of shards that can be read.
        """
        path = Path(folder) / MANIFEST
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
        """Returns the number of shards, done or not."""
        return len(self.source.parts)

    def missing(self) -> list[int]:
        """Returns the numbers of the shards that are not done, from one listing of the folder.

        Raises:
            StoreError: The folder cannot be read.
        """
        try:
            there = _list(self.folder)
        except OSError as error:
            raise StoreError(f"cannot read {self.folder}: {error}") from error
        return [n for n in range(len(self)) if self._vectors(n).name not in there]

    def is_done(self, number: int) -> bool:
        """Tells whether one shard is done; `missing` tells it of all at once."""
        return self._vectors(number).exists()

    def write(
        self,
        number: int,
        *,
        ids: Sequence[str],
        embeddings: Vectors,
        truncation: Truncation = _NOTHING,
    ) -> None:
        """Writes one shard atomically.

        Args:
            number: Number of the shard.
            ids: Ids of its texts, in order.
            embeddings: (texts, D_out).
            truncation: What of its texts is beyond the encoder's maximum length.

        Raises:
            StoreError: The shape is wrong, or the shard cannot be written.
        """
        wanted = (self.source.parts[number].texts, self.layout.dim)
        if embeddings.shape != wanted or len(ids) != wanted[0]:
            raise StoreError(f"shard {number} needs {wanted}, got {embeddings.shape}")
        try:
            about = {
                "ids": list(ids),
                "truncated": truncation.texts,
                "unread": truncation.unread,
                "characters": truncation.characters,
            }
            text = json.dumps(about, ensure_ascii=False).encode()
            # Listing the folder for every shard takes too long; `create` tidies it.
            write_whole(self._about(number), text, tidy=False)
            with whole_file(self._vectors(number), tidy=False) as stream:
                np.save(stream, np.ascontiguousarray(embeddings, dtype="<f4"), allow_pickle=False)
        except OSError as error:
            raise StoreError(f"cannot write shard {number} to {self.folder}: {error}") from error

    def wait(self, *, patience: float = _PATIENCE) -> None:
        """Waits until other processes have written all shards.

        Gives up, without an error, if no shard was completed for `patience` seconds.

        Raises:
            StoreError: The folder cannot be read.
        """
        missing, last, pause = self.missing(), time.monotonic(), 0.1
        while missing and time.monotonic() - last < patience:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            before, missing = missing, self.missing()
            if len(missing) < len(before):
                last = time.monotonic()

    def check_done(self) -> None:
        """Raises unless all shards are done.

        Raises:
            StoreError: Shards are missing; says how many, and names the first.
        """
        missing = self.missing()
        if missing:
            raise StoreError(
                f"{self.folder}: {len(missing)} of {len(self)} shards are not done (first: "
                f"{missing[0]}); run `subspace embed` again as it was run, and it goes on there"
            )

    def vectors(self) -> list[Vectors]:
        """Returns the embeddings (texts, D_out) of all shards in order, memory-mapped, read-only.

        Raises:
            StoreError: Some are not done, or one is damaged.
        """
        return [vectors for _, vectors in self.shards()]

    def shards(self) -> Iterator[tuple[list[str], Vectors]]:
        """Yields ids and embeddings (texts, D_out) shard by shard, memory-mapped, read-only.

        Raises:
            StoreError: Some are not done, or one is damaged.
        """
        self.check_done()
        for number, part in enumerate(self.source.parts):
            ids = self._read_about(number)["ids"]
            try:
                vectors = map_array(self._vectors(number))
            except (OSError, ValueError) as error:
                raise self._damaged(number, str(error)) from error
            if vectors.shape != (part.texts, self.layout.dim):
                raise self._damaged(number, f"its shape is {vectors.shape}")
            yield ids, vectors

    def truncated(self) -> int:
        """Counts the texts of finished shards that were longer than the encoder's maximum length.

        Raises:
            StoreError: A shard is damaged.
        """
        return self.truncation().texts

    def truncation(self) -> Truncation:
        """Returns what of the texts of finished shards is beyond the encoder's maximum length.

        Raises:
            StoreError: A shard is damaged.
        """
        done = set(range(len(self))) - set(self.missing())
        each = [
            Truncation(about["truncated"], about.get("unread", 0), about.get("characters", 0))
            for about in map(self._read_about, done)
        ]
        return sum(each, start=_NOTHING)

    def _read_about(self, number: int) -> dict[str, Any]:
        """Reads the ids of a shard's texts, and how many texts were cut."""
        try:
            about = json.loads(self._about(number).read_text(encoding="utf-8"))
            sound = len(about["ids"]) == self.source.parts[number].texts
            if not sound or type(about["truncated"]) is not int:
                raise ValueError(f"{self._about(number).name} is of other texts")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(number, str(error)) from error
        return dict(about)

    def _damaged(self, number: int, reason: str) -> StoreError:
        return StoreError(
            f"shard {number} of {self.folder} is damaged ({reason}): delete its files "
            f"{number:05}.* and run `subspace embed` again as it was run"
        )

    def _vectors(self, number: int) -> Path:
        return self.folder / f"{number:05}.npy"

    def _about(self, number: int) -> Path:
        return self.folder / f"{number:05}.json"


def read_shards(
    folder: Path | str, *, texts: Path, projection: Projection
) -> Iterator[tuple[Sequence[Record], Vectors]]:
    """Returns an iterator over the texts and blocks of documents, shard by shard.

    The folder is checked at once; texts and blocks are read when they are needed.

    Args:
        folder: Folder of shards, all of them done.
        texts: The file of texts, which may have moved since.
        projection: The projection that must have made the shards.

    Raises:
        StoreError: The shards were made with another projection or are of queries, some are not
            done, or one is damaged.
        RecordError: The texts have changed.
    """
    shards = EmbeddingShards.open(folder)
    if shards.projection_digest != projection.digest:
        raise StoreError(
            f"the shards of {folder} were made with another checkpoint; give that one, or embed "
            "the texts again with this one"
        )
    if shards.kind != "document":
        raise StoreError(
            f"the shards of {folder} are of queries, not of documents; embed the texts without "
            "--queries"
        )
    source = replace(shards.source, path=texts)
    vectors = shards.vectors()
    source.read(0)  # raises if `texts` is another file
    return ((source.read(number), part) for number, part in enumerate(vectors))


def _list(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# The option or input that differs between two runs, by key of the manifest.
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
