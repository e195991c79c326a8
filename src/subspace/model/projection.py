"""Projection: the learned linear map from one embedding to named blocks."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from subspace.arrays import AnyFloats, Vectors
from subspace.blocks import BlockLayout, unit_blocks
from subspace.errors import LayoutError


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class QuerySide:
    """Matrix and offset of queries, where they differ from those of documents.

    Attributes:
        weight: Float32 (layout.dim, D).
        offset: Float32 (layout.dim,).
    """

    weight: Vectors
    offset: Vectors


@dataclass(frozen=True, eq=False, repr=False)  # == on arrays gives no single bool
class Projection:
    """The map z = W (x - mu) - c, with every block scaled to unit length.

    Attributes:
        weight: W, float32 (layout.dim, D), its rows grouped by block.
        mean: mu, float32 (D,): the mean of the training embeddings.
        layout: The blocks of the output.
        offset: c, float32 (layout.dim,); None for zeros. Needed if and only if `query` is given.
        query: Another W and c for queries; None if queries are projected like documents.

    Raises:
        LayoutError: Shapes do not fit each other, or a value is not finite.
    """

    weight: Vectors
    mean: Vectors
    layout: BlockLayout
    offset: Vectors | None = None
    query: QuerySide | None = None

    def __post_init__(self) -> None:
        """Checks shapes and values."""
        if self.weight.ndim != 2 or self.weight.shape[0] != self.layout.dim:
            raise LayoutError(
                f"the projection has {self.weight.shape[0]} rows, the layout needs "
                f"{self.layout.dim}; change the blocks' widths"
            )
        if self.mean.shape != (self.weight.shape[1],):
            raise LayoutError(
                f"the mean has shape {self.mean.shape}, the projection takes "
                f"{self.weight.shape[1]} dimensions"
            )
        if (self.offset is None) != (self.query is None):
            raise LayoutError("an offset and a matrix for queries go together")
        rows, shape = (self.layout.dim,), self.weight.shape
        wanted: list[tuple[str, Vectors | None, tuple[int, ...]]] = [("offset", self.offset, rows)]
        if self.query is not None:
            wanted += [("query weight", self.query.weight, shape)]
            wanted += [("query offset", self.query.offset, rows)]
        for name, array, expected in wanted:
            if array is not None and array.shape != expected:
                raise LayoutError(f"the {name} has shape {array.shape}, must be {expected}")
        arrays = [self.weight, self.mean, *(array for _, array, _ in wanted if array is not None)]
        if not all(np.isfinite(array).all() for array in arrays):
            raise LayoutError("the projection holds NaN or infinity")

    def __repr__(self) -> str:
        """Returns the dimensions of input and blocks in one line."""
        return f"Projection({self.input_dim} -> {self.layout.to_widths()})"

    @property
    def input_dim(self) -> int:
        """Dimension D of the embeddings it takes."""
        return int(self.weight.shape[1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the layout and every array."""
        digest = hashlib.sha256(json.dumps(self.layout.to_widths()).encode())
        arrays = [self.weight, self.mean, self.offset]
        if self.query is not None:
            arrays += [self.query.weight, self.query.offset]
        for array in arrays:
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __call__(self, x: Vectors) -> Vectors:
        """Projects embeddings (..., D) to blocks (..., layout.dim), each block of unit length.

        Raises:
            LayoutError: The embeddings have the wrong dimension, or are not finite.
        """
        return self._project(x, weight=self.weight, offset=self.offset)

    def queries(self, x: Vectors) -> Vectors:
        """Projects embeddings of queries; the same as for documents unless `query` is given.

        Raises:
            LayoutError: The embeddings have the wrong dimension, or are not finite.
        """
        if self.query is None:
            return self(x)
        return self._project(x, weight=self.query.weight, offset=self.query.offset)

    def centred(
        self, blocks: Iterable[str], *, documents: AnyFloats, queries: AnyFloats
    ) -> "Projection":
        """Returns a copy that centres some blocks on means of documents and of queries.

        Args:
            blocks: Names of the blocks; the others keep their centres.
            documents: Mean embedding of documents (D,).
            queries: Mean embedding of queries (D,).

        Raises:
            LayoutError: There is no such block, or a mean has another shape or is not finite.
        """
        if documents.shape != self.mean.shape or queries.shape != self.mean.shape:
            raise LayoutError(
                f"means have shapes {documents.shape} and {queries.shape}, the projection takes "
                f"{self.input_dim} dimensions"
            )
        none = np.zeros(self.layout.dim, dtype=np.float32)
        asked = self.query or QuerySide(self.weight, none)
        offset = (none if self.offset is None else self.offset).copy()
        query_offset = asked.offset.copy()
        for block in blocks:
            rows = self.layout.slice(block)
            offset[rows] = self.weight[rows] @ (documents - self.mean)
            query_offset[rows] = asked.weight[rows] @ (queries - self.mean)
        query = QuerySide(weight=asked.weight, offset=query_offset)
        return replace(self, offset=offset, query=query)

    def block(self, name: str) -> "Projection":
        """Returns the projection to one block alone.

        Raises:
            LayoutError: There is no such block.
        """
        rows = self.layout.slice(name)
        asked = self.query
        return Projection(
            weight=self.weight[rows],
            mean=self.mean,
            layout=BlockLayout.from_widths({name: rows.stop - rows.start}),
            offset=None if self.offset is None else self.offset[rows],
            query=asked and QuerySide(weight=asked.weight[rows], offset=asked.offset[rows]),
        )

    def with_row(self, row: int, vector: AnyFloats, *, centre: AnyFloats) -> "Projection":
        """Returns a copy with another dimension in the place of one.

        Args:
            row: Position of the dimension.
            vector: What it reads of an embedding (D,).
            centre: The embedding at which it is 0 (D,).
        """
        none = np.zeros(self.layout.dim, dtype=np.float32)
        asked = self.query or QuerySide(self.weight, none)
        offset = (none if self.offset is None else self.offset).copy()
        weight, query_weight = self.weight.copy(), asked.weight.copy()
        query_offset = asked.offset.copy()
        weight[row] = query_weight[row] = vector
        offset[row] = query_offset[row] = vector @ (centre - self.mean)
        query = QuerySide(weight=query_weight, offset=query_offset)
        return replace(self, weight=weight, offset=offset, query=query)

    def _project(self, x: Vectors, *, weight: Vectors, offset: Vectors | None) -> Vectors:
        if x.shape[-1] != self.input_dim:
            raise LayoutError(
                f"embeddings have {x.shape[-1]} dimensions, the projection takes {self.input_dim}"
            )
        with np.errstate(all="ignore"):
            z = (x - self.mean) @ weight.T
            if offset is not None:
                z = z - offset
            # Scaling to unit length would turn these into zeros, which look valid.
            broken = np.flatnonzero(~np.isfinite(z).all(axis=-1))
        if len(broken):
            raise LayoutError(
                f"{len(broken)} of the embeddings hold NaN or infinity, or are too large, the "
                f"first at position {broken[0]}"
            )
        return unit_blocks(z, layout=self.layout).astype(np.float32, copy=False)
