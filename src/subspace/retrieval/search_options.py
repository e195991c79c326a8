"""SearchOptions: what every search takes beside the query and its weights."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from subspace.errors import ConfigError
from subspace.retrieval.engines import Where
from subspace.retrieval.engines.engine import check_k
from subspace.retrieval.hits import SCOPES, Scope


class SearchKeywords(TypedDict, total=False):
    """Keyword arguments of a search; see `SearchOptions`."""

    k: int
    scope: Scope
    candidates: int | None
    where: Where | None
    exclude: Collection[str]


@dataclass(frozen=True)
class SearchOptions:
    """What every search takes beside the query and its weights.

    Attributes:
        k: How many hits; more than there are gives all.
        scope: What recency and importance are of: `block` or `item`.
        candidates: If given, only this many best by relevance alone are scored in full.
        where: Metadata that hits must have: a value, or one of several, by name.
        exclude: Ids that are not to be among the hits.

    Raises:
        ConfigError: `k` or `candidates` is no whole number from 1, the scope is unknown, or
            `exclude` is no collection of ids.
    """

    k: int = 10
    scope: Scope = "block"
    candidates: int | None = None
    where: Where | None = None
    exclude: Collection[str] = ()

    def __post_init__(self) -> None:
        """Checks what does not depend on the index."""
        object.__setattr__(self, "k", check_k(self.k))
        if self.candidates is not None:
            object.__setattr__(self, "candidates", check_k(self.candidates, name="candidates"))
        if self.scope not in SCOPES:
            raise ConfigError(f"scope is one of {', '.join(SCOPES)}, not {self.scope!r}")
        if not is_ids(self.exclude):
            raise ConfigError(f"exclude is a collection of ids, got {self.exclude!r:.60}")
        object.__setattr__(self, "exclude", frozenset(self.exclude))

    @classmethod
    def read(cls, keywords: Any) -> "SearchOptions":
        """Reads keyword arguments.

        Raises:
            ConfigError: One is unknown, or a value is refused.
        """
        known = {each.name for each in fields(cls)}
        unknown = [name for name in keywords if name not in known]
        if unknown:
            raise ConfigError(
                f"a search has no option '{unknown[0]}'; it has {', '.join(sorted(known))}"
            )
        return cls(**keywords)


def is_ids(value: Any) -> bool:
    """Whether a value is a collection of ids, and not one text, which is a collection too."""
    if not isinstance(value, Collection) or isinstance(value, str):
        return False
    return all(isinstance(one, str) for one in value)
