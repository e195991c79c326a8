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
        """Projects raw embeddings (N, D) of `documents`."""
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
        return [self._hit(int(position), folded) for position in _best(scores, k=k)]

    def save(self, folder: Path | str) -> None:
        """Writes the index: whole, or not at all.

        Raises:
            IndexFolderError: The folder holds something else, or the disk refuses.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / _MANIFEST).is_file() and any(folder.iterdir()):
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
            vectors = np.load(folder / _VECTORS, mmap_mode="r", allow_pickle=False)
            with (folder / _ITEMS).open(encoding="utf-8") as stream:
                items = [json.loads(line) for line in stream]
            documents = tuple(Document(id=item["id"], text=item["text"]) for item in items)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IndexFolderError(f"the index {folder} is damaged: {error!r}") from error
        count = manifest["count"]
        if vectors.shape != (count, layout.dim) or len(documents) != count:
            raise IndexFolderError(
                f"the index {folder} is damaged: {count} documents are promised, there are "
                f"{len(documents)} and vectors of shape {vectors.shape}"
            )
        return cls(
            documents=documents,
            vectors=vectors,
            layout=layout,
            projection_digest=manifest["projection"],
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

    def _hit(self, position: int, folded: npt.NDArray[np.float32]) -> Hit:
        products = self.layout.split(np.asarray(self.vectors[position] * folded))
        parts = {name: float(block.sum(dtype=np.float64)) for name, block in products.items()}
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


def _best(scores: npt.NDArray[np.float32], *, k: int) -> npt.NDArray[np.int64]:
    """Positions of the `k` largest scores, largest first, ties by position."""
    if k < len(scores):
        # Everything at least as good as the k-th, so that ties are cut in index order.
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= kth)
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]


def _check_version(manifest: Any, *, folder: Path) -> None:
    found = manifest.get("format_version")
    if found != FORMAT_VERSION:
        raise IndexFolderError(
            f"the index {folder} has format version {found!r}, this version of subspace reads "
            f"{FORMAT_VERSION}; build it again"
        )
