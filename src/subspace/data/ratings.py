"""Ratings of hits: how well a text that a search found served, read from JSONL or a usage log.

What a rating is worth depends on who gives it and on what was asked, so ratings are compared within
one search alone: which of its hits did better than which others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace.data.comparisons import Comparison
from subspace.files import Line, Problems, read_lines, read_text

# The factor that hits which were rated well have more of, unless it is named.
LIKED = "liked"
# Ratings of one search that differ less are taken for equal.
_APART = 0.5


@dataclass(frozen=True)
class Rating:
    """How well one hit of one search served.

    Attributes:
        query: The search: its id or its text.
        item: Id of the hit.
        success: From 0 (not at all) to 1 (well).
        factor: The factor that hits with more success have more of.
    """

    query: str
    item: str
    success: float
    factor: str = LIKED


def read_ratings(path: Path | str, *, factor: str = LIKED) -> tuple[Rating, ...]:
    """Reads ratings from JSONL; a line holds `query`, `item` and `success` (0 to 1).

    What `subspace feedback --export` writes is of this form. Uses that were not rated, or that no
    search found, are left out. Ratings of several namespaces are refused, as each is of another
    reader.

    Args:
        path: The file.
        factor: The factor that hits with more success have more of.

    Raises:
        RecordError: Lines are invalid; lists each as `file:line: what is wrong`.
    """
    problems = Problems()
    found: list[Rating] = []
    namespaces: dict[str, None] = {}
    for line in read_lines(Path(path), problems=problems):
        if line.value.get("success") is None or line.value.get("query") is None:
            continue
        query, item = (
            read_text(line.value, key, where=line.where, problems=problems)
            for key in ("query", "item")
        )
        success = _read_success(line, problems=problems)
        if query is not None and item is not None and success is not None:
            found.append(Rating(query, item, success, factor))
            namespaces[str(line.value.get("namespace") or "")] = None
    if len(namespaces) > 1:
        shown = ", ".join(repr(name) for name in list(namespaces)[:5])
        problems.add(
            str(path),
            f"holds ratings of several namespaces ({shown}): export one (`subspace feedback "
            "--export F --namespace NAME`)",
        )
    if not found and not len(problems):
        problems.add(str(path), "holds no ratings (`query`, `item` and `success`)")
    problems.raise_if_any()
    return tuple(found)


def compare_rated(ratings: Iterable[Rating]) -> tuple[Comparison, ...]:
    """Compares the hits of each search that did better with those that did worse.

    Better is above the middle between the best and the worst rating of the search, worse below it.
    Each of these hits is in one comparison at least, and there are no more comparisons than hits,
    as more would tell the same again. A search whose hits did about equally well tells nothing.
    """
    searches: dict[tuple[str, str], dict[str, float]] = {}
    for one in ratings:
        searches.setdefault((one.factor, one.query), {})[one.item] = one.success
    found: list[Comparison] = []
    for (factor, _), rated in searches.items():
        low, high = min(rated.values()), max(rated.values())
        if high - low < _APART:
            continue
        middle = (low + high) / 2
        better = [item for item, success in rated.items() if success > middle]
        worse = [item for item, success in rated.items() if success < middle]
        found += [
            Comparison(factor, better[n % len(better)], worse[n % len(worse)])
            for n in range(max(len(better), len(worse)))
        ]
    return tuple(found)


def ratings_by_search(ratings: Sequence[Rating]) -> dict[str, dict[str, float]]:
    """Returns the success of each rated hit, by search."""
    found: dict[str, dict[str, float]] = {}
    for one in ratings:
        found.setdefault(one.query, {})[one.item] = one.success
    return found


def _read_success(line: Line, *, problems: Problems) -> float | None:
    value: Any = line.value["success"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        problems.add(line.where, f"`success` must be a number from 0 to 1, got {value!r:.60}")
        return None
    return float(value)
