"""The vectors that a replay searches: the raw embedding as one block, and the model's blocks."""

from collections.abc import Mapping
from dataclasses import dataclass

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout, unit
from subspace.model import Model

RAW_BLOCK = "whole"


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Space:
    """Documents and queries as unit blocks.

    Attributes:
        name: Name in tables.
        layout: The blocks.
        documents: Unit blocks (N, layout.dim).
        queries: Unit blocks (Q, layout.dim).
        scales: Factor of each block's weight before a search; see `Weights.scaled`.
    """

    name: str
    layout: BlockLayout
    documents: Vectors
    queries: Vectors
    scales: Mapping[str, float]


def make_spaces(*, documents: Vectors, queries: Vectors, model: Model) -> list[Space]:
    """Makes two spaces: the raw embedding as one block, and the model's blocks.

    The blocks are centred on the documents, as an index of them is.

    Args:
        documents: Raw vectors of the model's encoder (N, D).
        queries: Raw vectors of the model's encoder (Q, D).
        model: Model with the blocks and the scales of their scores.
    """
    raw, centred = model.fingerprint.last_layer, model.centred_on(documents)
    return [
        Space(
            name="raw embedding",
            layout=BlockLayout((RAW_BLOCK,), (raw.stop - raw.start,)),
            documents=unit(documents[:, raw]),
            queries=unit(queries[:, raw]),
            scales={RAW_BLOCK: 1.0},
        ),
        Space(
            name="blocks",
            layout=model.layout,
            documents=centred.project(documents).array,
            queries=centred.project(queries, kind="query").array,
            scales=centred.score_scales,
        ),
    ]
