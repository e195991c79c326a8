"""SearchOptions: the arguments of a search other than the query and the weights."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from subspace.errors import ConfigError
from subspace.model.block_weights import check_weight, read_number
from subspace.retrieval.engines import Where
from subspace.retrieval.engines.engine import check_k
from subspace.retrieval.hits import SCOPES, Scope
from subspace.retrieval.queries import Query, read_unlike
from subspace.retrieval.usage.uses import check_namespace

# What a negative example takes away, where the query adds 1; docs/retrieval.md has the curve.
UNLIKE_WEIGHT = 0.25


class SearchKeywords(TypedDict, total=False):
    """Keyword arguments of a search; see `SearchOptions`."""

    k: int
    scope: Scope
    candidates: int | None
    where: Where | None
    exclude: Collection[str]
    namespace: str
    keywords: float
    unlike: Query | Sequence[Query] | None
    unlike_weight: float


@dataclass(frozen=True)
class SearchOptions:
    """The arguments of a search other than the query and the weights.

    Attributes:
        k: Number of hits; all items if the index has fewer.
        scope: How recency and importance are computed: `block` (per block, from traces of the
            used items) or `item` (from the uses of the item itself).
        candidates: If given, a first search finds this many items by relevance alone, and only
            these are scored with all weights.
        where: Metadata filter: by name, the value that a hit must have, a list of allowed values,
            or a range such as `{">=": 2020}`. Of a list, one member must fit.
        exclude: Ids that are left out of the hits.
        namespace: Whose uses recency and importance come from; see `UsageLog`.
        keywords: Weight of keyword search (BM25 over the texts); 0 for none. It counts like that of
            a block: at 1, one standard deviation of the query's keyword scores adds as much as one
            of a block whose weight is 1. Recency and importance take away from it as from the
            blocks: it is multiplied by relevance's share of all weights. The words are those of
            the query, of the item that it names, or of what it gives for the blocks that the
            model's default weights count. For indexes in a folder.
        unlike: What hits are not to be like: a text, `Like(id)`, one of them by block, or several
            of these. Each takes from the relevance of a hit, as a query adds to it. Items among
            them are left out of the hits.
        unlike_weight: How much the mean of `unlike` takes away, where the query adds 1.

    Raises:
        ConfigError: `k` or `candidates` is not a whole number of at least 1, the scope is
            unknown, or `exclude` is not a collection of ids.
        WeightsError: `keywords` or `unlike_weight` is not a finite number of 0 or more.
        QueryError: `unlike` holds something other than texts, items and either by block.
        UsageLogError: The namespace is not a text of at most 200 characters, or has control
            characters.
    """

    k: int = 10
    scope: Scope = "block"
    candidates: int | None = None
    where: Where | None = None
    exclude: Collection[str] = ()
    namespace: str = ""
    keywords: float = 0.0
    unlike: Query | Sequence[Query] | None = ()
    unlike_weight: float = UNLIKE_WEIGHT

    def __post_init__(self) -> None:
        """Checks every option that does not depend on the index."""
        object.__setattr__(self, "k", check_k(self.k))
        if self.candidates is not None:
            object.__setattr__(self, "candidates", check_k(self.candidates, name="candidates"))
        if self.scope not in SCOPES:
            raise ConfigError(f"scope is one of {', '.join(SCOPES)}, not {self.scope!r}")
        if not is_ids(self.exclude):
            raise ConfigError(f"exclude is a collection of ids, got {self.exclude!r:.60}")
        object.__setattr__(self, "exclude", frozenset(self.exclude))
        check_namespace(self.namespace)
        for name in ("keywords", "unlike_weight"):
            value = read_number(getattr(self, name), of=f"of {name}")
            check_weight(value, of=f"of {name}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "unlike", read_unlike(self.unlike))

    @property
    def negatives(self) -> tuple[Query, ...]:
        """What hits are not to be like."""
        return read_unlike(self.unlike)

    @classmethod
    def read(cls, keywords: Any) -> "SearchOptions":
        """Reads the options from keyword arguments.

        Raises:
            ConfigError: An argument is unknown, or its value is refused.
        """
        known = {each.name for each in fields(cls)}
        unknown = [name for name in keywords if name not in known]
        if unknown:
            raise ConfigError(
                f"a search has no option '{unknown[0]}'; it has {', '.join(sorted(known))}"
            )
        return cls(**keywords)


def is_ids(value: Any) -> bool:
    """Tells whether a value is a collection of strings; a single string is not one."""
    if not isinstance(value, Collection) or isinstance(value, str):
        return False
    return all(isinstance(one, str) for one in value)
