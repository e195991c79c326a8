"""BlockIndex: the blocks of a set of documents, on disk and searched exactly.

A folder with three files: `items.jsonl` (id and text of each document), `vectors.npy` (float32,
count x dim, unit blocks, memory-mapped when read) and `manifest.json` (format 1)::

    format_version   1
    projection       digest of the projection that made the vectors
    blocks           {"topic": 96, ...}: the layout, in order
    count            of documents
    items_sha256     of `items.jsonl`
    vectors_crc32    of `vectors.npy`

Both sums are checked whenever an index is opened, which makes that a tenth slower (300,000 short
texts, 384 dimensions; reading the items takes the rest). A CRC is enough to find what a disk or a
copy damaged, and is faster for the larger file. Indexes written before there were sums are read
without.
"""

import hashlib
import json
import operator
import os
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.blocks import BlockLayout
from subspace.errors import ConfigError, IndexFolderError, LayoutError, WeightsError
from subspace.projection import Projection
from subspace.retrieval.weights import BlockWeights
from subspace.retrieval_sets import Document

FORMAT_VERSION = 1
# Error of a float32 inner product, relative to the sum of the query's entries.
_ROUNDING = 1e-6
_MANIFEST, _ITEMS, _VECTORS = "manifest.json", "items.jsonl", "vectors.npy"


@dataclass(frozen=True)
class Hit:
    """One document found.

    Attributes:
        id: The document's id.
        text: Its text.
        score: Sum of `parts`.
        parts: What each block adds: its weight times the cosine in the block.
    """

    id: str
    text: str
    score: float
    parts: dict[str, float]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class BlockIndex:
    """Documents and their blocks.

    Attributes:
        documents: What can be found.
        vectors: Unit blocks (N, layout.dim), same order.
        layout: The blocks.
        projection_digest: Identifies the projection that made the vectors.
    """

    documents: tuple[Document, ...]
    vectors: npt.NDArray[np.float32]
    layout: BlockLayout
    projection_digest: str

    @classmethod
    def build(
        cls,
        documents: Sequence[Document],
        embeddings: npt.NDArray[np.float32],
        *,
        projection: Projection,
    ) -> "BlockIndex":
        """Projects raw embeddings (N, D) of `documents`.

        Raises:
            ValueError: There are more or fewer embeddings than documents, an embedding is not
                finite, or an id is used twice.
        """
        if len(documents) != len(embeddings):
            raise ValueError(f"{len(documents)} documents, {len(embeddings)} embeddings")
        counts = Counter(document.id for document in documents)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"ids must differ; used more than once: {', '.join(twice[:5])}")
        try:
            vectors = projection(embeddings)
        except LayoutError:
            for document, embedding in zip(documents, embeddings, strict=True):
                try:
                    projection(embedding)
                except LayoutError as error:
                    message = f"the embedding of document '{document.id}' cannot be used: {error}"
                    raise ValueError(message) from error
            raise
        return cls(
            documents=tuple(documents),
            vectors=vectors,
            layout=projection.layout,
            projection_digest=digest_projection(projection),
        )

    def search(
        self,
        query: npt.NDArray[np.float32],
        *,
        weights: BlockWeights | Mapping[str, float] | None = None,
        k: int = 10,
    ) -> list[Hit]:
        """The best `k` documents by weighted score, exactly; ties in index order.

        Args:
            query: Unit blocks (layout.dim,).
            weights: Weight by block name, blocks left out count 0; equal ones if None.
            k: How many; more than there are gives all.

        Raises:
            ConfigError: `k` is no whole number from 1.
            LayoutError: The query has another dimension, or is not finite.
            WeightsError: A weight is wrong, or they are for another layout.
            IndexFolderError: The vectors are not finite.
        """
        k = _check_k(k)
        if query.shape != (self.layout.dim,):
            raise LayoutError(
                f"the query has shape {query.shape}, the index needs ({self.layout.dim},)"
            )
        if not np.isfinite(query).all():
            raise LayoutError("the query holds NaN or infinity")
        weights = self._weights(weights)
        folded = weights.fold(query)
        with np.errstate(all="ignore"):
            scores = self.vectors @ folded
        if not np.isfinite(scores).all():  # NaN and infinity come through, also at weight 0
            broken = self.documents[int(np.flatnonzero(~np.isfinite(scores))[0])]
            raise IndexFolderError(
                f"the index is damaged: the vector of '{broken.id}' holds NaN or infinity; "
                "build it again"
            )
        positions = _candidates(scores, k=k, margin=_ROUNDING * float(np.abs(folded).sum()))
        products = self.layout.split(np.asarray(self.vectors[positions] * folded))
        parts = {name: block.sum(axis=1, dtype=np.float64) for name, block in products.items()}
        # What is shown is what is sorted by; the sort is stable, so ties stay in index order.
        best = np.argsort(-sum(parts.values()), kind="stable")[:k]
        return [
            self._hit(int(positions[row]), {name: float(part[row]) for name, part in parts.items()})
            for row in best
        ]

    @staticmethod
    def check_target(folder: Path | str) -> None:
        """Whether `save` can write there: to be asked before the work that an index takes.

        Raises:
            IndexFolderError: The folder holds something else, or cannot be written.
        """
        try:
            target = _resolve(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent).cleanup()
        except OSError as error:
            raise IndexFolderError(f"cannot write the index {folder}: {error}") from error

    def save(self, folder: Path | str) -> None:
        """Writes the index: whole, or not at all; through a link, to where it points.

        Raises:
            IndexFolderError: The folder holds something else, or the disk refuses.
        """
        try:
            target = _resolve(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
            try:
                self._write(partial)
                partial.chmod(0o755)
                _swap(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise IndexFolderError(f"cannot write the index {folder}: {error}") from error

    def _write(self, folder: Path) -> None:
        np.save(folder / _VECTORS, np.asarray(self.vectors, dtype=np.float32))
        with (folder / _ITEMS).open("w", encoding="utf-8") as stream:
            for document in self.documents:
                item = {"id": document.id, "text": document.text}
                stream.write(json.dumps(item, ensure_ascii=False) + "\n")
        manifest = {
            "format_version": FORMAT_VERSION,
            "projection": self.projection_digest,
            "blocks": self.layout.to_widths(),
            "count": len(self.documents),
            "items_sha256": _sha256(folder / _ITEMS),
            "vectors_crc32": _crc32(folder / _VECTORS),
        }
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> "BlockIndex":
        """Opens an index; its vectors are memory-mapped.

        Raises:
            IndexFolderError: It is missing, damaged, or of another format version.
        """
        folder = Path(folder)
        if not (folder / _MANIFEST).is_file():
            raise IndexFolderError(f"there is no index {folder}; build one with `subspace index`")
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            _check_version(manifest, folder=folder)
            layout = BlockLayout.from_widths(manifest["blocks"])
            count, digest = manifest["count"], manifest["projection"]
            # Unlike np.load, this reads nothing but .npy.
            vectors = np.lib.format.open_memmap(folder / _VECTORS, mode="r")
            with (folder / _ITEMS).open(encoding="utf-8") as stream:
                items = [json.loads(line) for line in stream]
            documents = tuple(Document(id=item["id"], text=item["text"]) for item in items)
            changed = _changed_files(folder, manifest=manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IndexFolderError(f"the index {folder} is damaged: {error!r}") from error
        if vectors.shape != (count, layout.dim) or len(documents) != count:
            raise IndexFolderError(
                f"the index {folder} is damaged: {count} documents are promised, there are "
                f"{len(documents)} and vectors of shape {vectors.shape}"
            )
        if vectors.dtype != np.float32:
            raise IndexFolderError(
                f"the index {folder} is damaged: its vectors are {vectors.dtype}, not float32"
            )
        if changed:
            raise IndexFolderError(
                f"the index {folder} is damaged: {_MANIFEST} was written for other content of "
                f"{' and '.join(changed)}; build it again"
            )
        return cls(
            documents=documents,
            vectors=vectors,
            layout=layout,
            projection_digest=digest,
        )

    def check_projection(self, projection: Projection) -> None:
        """Refuses queries of another projection than the documents'.

        Raises:
            IndexFolderError: They differ.
        """
        if digest_projection(projection) != self.projection_digest:
            raise IndexFolderError(
                "the index was built with another checkpoint; build it again with this one"
            )

    def _weights(self, weights: BlockWeights | Mapping[str, float] | None) -> BlockWeights:
        if weights is None:
            return BlockWeights.equal(self.layout)
        if not isinstance(weights, BlockWeights):
            return BlockWeights.from_mapping(weights, layout=self.layout)
        if weights.layout != self.layout:
            raise WeightsError(
                f"the weights are for the blocks {weights.layout.to_widths()}, the index has "
                f"{self.layout.to_widths()}"
            )
        return weights

    def _hit(self, position: int, parts: dict[str, float]) -> Hit:
        document = self.documents[position]
        return Hit(id=document.id, text=document.text, score=sum(parts.values()), parts=parts)


def digest_projection(projection: Projection) -> str:
    """sha256 over the values and the layout of a projection."""
    digest = hashlib.sha256(json.dumps(projection.layout.to_widths()).encode())
    digest.update(np.ascontiguousarray(projection.weight).tobytes())
    digest.update(np.ascontiguousarray(projection.mean).tobytes())
    return digest.hexdigest()


def _resolve(folder: Path | str) -> Path:
    """Where an index is really written, if nothing else is lost there."""
    target = Path(os.path.realpath(folder))
    if not _is_free(target):
        raise IndexFolderError(f"{folder} is no index and no empty folder; choose another folder")
    return target


def _swap(new: Path, folder: Path) -> None:
    """Puts `new` in the place of `folder`; the old one is removed only after that."""
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


def _is_free(folder: Path) -> bool:
    """Whether an index can be written there without anything else being lost."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return not names or names == {_MANIFEST, _ITEMS, _VECTORS}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc


def _changed_files(folder: Path, *, manifest: Mapping[str, Any]) -> list[str]:
    """Files that are not those the manifest was written for, as far as it says."""
    sums = {
        _ITEMS: (manifest.get("items_sha256"), _sha256),
        _VECTORS: (manifest.get("vectors_crc32"), _crc32),
    }
    return [
        name
        for name, (wanted, measure) in sums.items()
        if wanted is not None and measure(folder / name) != wanted
    ]


def _check_k(k: Any) -> int:
    try:
        count = operator.index(k)
    except TypeError:
        count = 0
    if count < 1:
        raise ConfigError(f"k must be a whole number, 1 or more, got {k!r}")
    return count


def _candidates(scores: npt.NDArray[np.float32], *, k: int, margin: float) -> npt.NDArray[np.int64]:
    """Positions of everything that may be among the `k` best, in index order.

    A matrix product rounds a row by where it stands in the matrix, so that copies of one
    document can differ in the last digits: the k-th score has a margin.
    """
    if k >= len(scores):
        return np.arange(len(scores))
    kth = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= kth - margin)


def _check_version(manifest: Any, *, folder: Path) -> None:
    found = manifest.get("format_version")
    if found != FORMAT_VERSION:
        raise IndexFolderError(
            f"the index {folder} has format version {found!r}, this version of subspace reads "
            f"{FORMAT_VERSION}; build it again"
        )
