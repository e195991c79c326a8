"""Hit and Results: the return values of a search."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from subspace.data.metadata import Value
from subspace.retrieval.queries import Query
from subspace.retrieval.weights import PARTS, Part, Weights

# How recency and importance are computed: for each block, from traces of the used items (`block`),
# or from the uses of the item itself (`item`).
Scope = Literal["block", "item"]
SCOPES: tuple[Scope, ...] = ("block", "item")


@dataclass(frozen=True)
class Hit:
    """One item that a search found.

    Attributes:
        id: The item's id.
        text: Its text.
        score: Sum of `parts`.
        parts: Contribution of recency, importance and relevance in each block to the score:
            `parts[block][part]`. If keywords count, `parts["keywords"]["relevance"]` is theirs.
        metadata: Its metadata.
    """

    id: str
    text: str
    score: float
    parts: Mapping[str, Mapping[Part, float]]
    metadata: Mapping[str, Value]

    def by_block(self) -> dict[str, float]:
        """Returns what each block, and `keywords`, adds to the score, summed over the parts."""
        return {block: sum(parts.values()) for block, parts in self.parts.items()}

    def by_part(self) -> dict[Part, float]:
        """Returns the contribution of each part to the score, summed over the blocks."""
        return {part: sum(parts[part] for parts in self.parts.values()) for part in PARTS}


@dataclass(frozen=True)
class Results(Sequence[Hit]):
    """The hits of one query, best first; a sequence of `Hit`.

    Attributes:
        hits: The hits.
        query_id: Id of this query; `Index.feedback` and `Index.use` take it.
        weights: The weights of the search.
        scope: `block` or `item`: how recency and importance were computed.
        arm: The arm that the bandit chose; None if no bandit was asked.
        toward: What was preferred, as a number by factor or class; None for nothing.
        namespace: Whose uses recency and importance came from.
        keywords: The weight of keyword search; 0 for none.
        unlike: What the hits were not to be like.
    """

    hits: tuple[Hit, ...]
    query_id: str
    weights: Weights
    scope: Scope
    arm: str | None = None
    toward: Mapping[str, float] | None = None
    namespace: str = ""
    keywords: float = 0.0
    unlike: tuple[Query, ...] = ()

    @overload
    def __getitem__(self, position: int) -> Hit: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Hit]: ...
    def __getitem__(self, position: int | slice) -> Hit | Sequence[Hit]:
        """Returns the hit at a position, counted from 0, or the hits of a slice."""
        return self.hits[position]

    def __len__(self) -> int:
        """Returns the number of hits."""
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        """Iterates over the hits, best first."""
        return iter(self.hits)
