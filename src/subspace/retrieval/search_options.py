"""SearchOptions: the arguments of a search other than the query and the weights."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from subspace.errors import ConfigError
from subspace.retrieval.engines import Where
from subspace.retrieval.engines.engine import check_k
from subspace.retrieval.hits import SCOPES, Scope
from subspace.retrieval.usage.uses import check_namespace


class SearchKeywords(TypedDict, total=False):
    """Keyword arguments of a search; see `SearchOptions`."""

    k: int
    scope: Scope
    candidates: int | None
    where: Where | None
    exclude: Collection[str]
    namespace: str


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

    Raises:
        ConfigError: `k` or `candidates` is not a whole number of at least 1, the scope is
            unknown, or `exclude` is not a collection of ids.
        UsageLogError: The namespace is not a text of at most 200 characters, or has control
            characters.
    """

    k: int = 10
    scope: Scope = "block"
    candidates: int | None = None
    where: Where | None = None
    exclude: Collection[str] = ()
    namespace: str = ""

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
