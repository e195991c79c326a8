"""Hit and Results: what a search gives back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from subspace.data.records import Scalar
from subspace.retrieval.weights import PARTS, Part, Weights

# What recency and importance are of: the blocks of what was used, or each item by itself.
Scope = Literal["block", "item"]
SCOPES: tuple[Scope, ...] = ("block", "item")


@dataclass(frozen=True)
class Hit:
    """One item found.

    Attributes:
        id: The item's id.
        text: Its text.
        score: Sum of `parts`.
        parts: What recency, importance and relevance add in each block: `parts[block][part]`.
        metadata: What else the item carries.
    """

    id: str
    text: str
    score: float
    parts: Mapping[str, Mapping[Part, float]]
    metadata: Mapping[str, Scalar]

    def by_block(self) -> dict[str, float]:
        """What each block adds."""
        return {block: sum(parts.values()) for block, parts in self.parts.items()}

    def by_part(self) -> dict[Part, float]:
        """What recency, importance and relevance add, over all blocks."""
        return {part: sum(parts[part] for parts in self.parts.values()) for part in PARTS}


@dataclass(frozen=True)
class Results(Sequence[Hit]):
    """The hits of one query, best first; a sequence of `Hit`.

    Attributes:
        hits: What was found.
        query_id: What feedback refers to.
        weights: The weights that were used.
        scope: `item` or `block`: what recency and importance were of.
        arm: What the bandit chose; None if it was not asked.
    """

    hits: tuple[Hit, ...]
    query_id: str
    weights: Weights
    scope: Scope
    arm: str | None = None

    @overload
    def __getitem__(self, position: int) -> Hit: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Hit]: ...
    def __getitem__(self, position: int | slice) -> Hit | Sequence[Hit]:
        """The hit at `position`, from 0."""
        return self.hits[position]

    def __len__(self) -> int:
        """Number of hits."""
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        """Iterates over the hits, best first."""
        return iter(self.hits)
