"""BlockIndex: the blocks of a set of documents, on disk and searched exactly.

A folder with three files: `manifest.json` (format version, digest of the projection, layout,
count), `items.jsonl` (id and text of each document) and `vectors.npy` (float32, count x dim, unit
blocks, memory-mapped when read).
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.blocks import BlockLayout
from subspace.errors import IndexFolderError, WeightsError
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


@dataclass(frozen=True)
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
            ValueError: There are more or fewer embeddings than documents.
        """
        if len(documents) != len(embeddings):
            raise ValueError(f"{len(documents)} documents, {len(embeddings)} embeddings")
        return cls(
            documents=tuple(documents),
            vectors=projection(embeddings),
            layout=projection.layout,
            projection_digest=digest_projection(projection),
        )

    def search(
        self, query: npt.NDArray[np.float32], *, weights: BlockWeights | None = None, k: int = 10
    ) -> list[Hit]:
        """The best `k` documents by weighted score, exactly; ties in index order.

        Args:
            query: Unit blocks (layout.dim,).
            weights: Equal ones if left out.
            k: How many; more than there are gives all.

        Raises:
            IndexFolderError: `k` is below 1, or the query has another dimension.
            WeightsError: The weights are for another layout.
        """
        if k < 1:
            raise IndexFolderError(f"k must be 1 or more, got {k}")
        if query.shape != (self.layout.dim,):
            raise IndexFolderError(
                f"the query has shape {query.shape}, the index needs ({self.layout.dim},)"
            )
        weights = weights or BlockWeights.equal(self.layout)
        if weights.layout != self.layout:
            raise WeightsError(
                f"the weights are for the blocks {weights.layout.to_widths()}, the index has "
                f"{self.layout.to_widths()}"
            )
        folded = weights.fold(query)
        scores = self.vectors @ folded
        positions = _candidates(scores, k=k, margin=_ROUNDING * float(np.abs(folded).sum()))
        products = self.layout.split(np.asarray(self.vectors[positions] * folded))
        parts = {name: block.sum(axis=1, dtype=np.float64) for name, block in products.items()}
        # What is shown is what is sorted by; the sort is stable, so ties stay in index order.
        best = np.argsort(-sum(parts.values()), kind="stable")[:k]
        return [
            self._hit(int(positions[row]), {name: float(part[row]) for name, part in parts.items()})
            for row in best
        ]

    def save(self, folder: Path | str) -> None:
        """Writes the index: whole, or not at all.

        Raises:
            IndexFolderError: The folder holds something else, or the disk refuses.
        """
        folder = Path(folder)
        if not _is_free(folder):
            raise IndexFolderError(f"{folder} is not empty and no index; choose another folder")
        manifest = {
            "format_version": FORMAT_VERSION,
            "projection": self.projection_digest,
            "blocks": self.layout.to_widths(),
            "count": len(self.documents),
        }
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                np.save(partial / _VECTORS, self.vectors)
                with (partial / _ITEMS).open("w", encoding="utf-8") as stream:
                    for document in self.documents:
                        item = {"id": document.id, "text": document.text}
                        stream.write(json.dumps(item, ensure_ascii=False) + "\n")
                (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
                partial.chmod(0o755)
                _swap(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise IndexFolderError(f"cannot write the index {folder}: {error}") from error

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
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IndexFolderError(f"the index {folder} is damaged: {error!r}") from error
        if vectors.shape != (count, layout.dim) or len(documents) != count:
            raise IndexFolderError(
                f"the index {folder} is damaged: {count} documents are promised, there are "
                f"{len(documents)} and vectors of shape {vectors.shape}"
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

    def _hit(self, position: int, parts: dict[str, float]) -> Hit:
        document = self.documents[position]
        return Hit(id=document.id, text=document.text, score=sum(parts.values()), parts=parts)


def digest_projection(projection: Projection) -> str:
    """sha256 over the values and the layout of a projection."""
    digest = hashlib.sha256(json.dumps(projection.layout.to_widths()).encode())
    digest.update(np.ascontiguousarray(projection.weight).tobytes())
    digest.update(np.ascontiguousarray(projection.mean).tobytes())
    return digest.hexdigest()


def _swap(new: Path, folder: Path) -> None:
    """Puts `new` in the place of `folder`; the old one is removed only after that."""
    old = new.with_name(new.name + "-old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def _is_free(folder: Path) -> bool:
    """Whether an index can be written there without anything else being lost."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return not names or names == {_MANIFEST, _ITEMS, _VECTORS}


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
