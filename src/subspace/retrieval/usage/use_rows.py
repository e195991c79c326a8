"""Rows of uses in a usage log: reading them on, and adding each use of a query once."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from subspace.errors import UsageLogError
from subspace.retrieval.usage.log_file import LogFile
from subspace.retrieval.usage.uses import Use, check_use

# Number of rows that are read at once.
_BATCH = 4096

# The rating of a use that was rated later than it was logged.
_RATING = """\
(SELECT r.success FROM uses AS r WHERE r.query = u.query AND r.item = u.item
  AND r.namespace = u.namespace AND r.repeat = -1 AND u.repeat = 0)"""
_ADD = (
    "INSERT INTO uses (item, time, success, query, namespace, origin, repeat) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SAME = "item = ? AND time = ? AND success IS ? AND query IS ? AND namespace = ?"


@dataclass(frozen=True)
class Entry:
    """One row of the log.

    Attributes:
        position: Number of the row, in the order of writing.
        use: The use.
        origin: Identity of a use that was imported; None if it was not.
        rates: Whether the row only adds a rating to a use that was logged before.
    """

    position: int
    use: Use
    origin: str | None
    rates: bool


def read_entries(
    file: LogFile, position: int, *, namespace: str | None, whole: bool
) -> Iterator[Entry]:
    """Yields the rows after a position, in the order of writing.

    Rows that are added meanwhile are left for the next call.

    Args:
        file: The log.
        position: `position` of the last row that is known; 0 for none.
        namespace: The namespace to read; all of them if None.
        whole: Whether to yield each use with the rating that it got later, in place of the rows
            that hold such ratings.

    Raises:
        UsageLogError: The file is damaged or cannot be read.
    """
    rows, last = _batch(file, position, namespace=namespace, whole=whole), math.inf
    if len(rows) == _BATCH:
        last = file.row("SELECT max(id) FROM uses")[0]
    while rows:
        for number, *values, origin, repeat in rows:
            use = Use(*values)
            try:
                check_use(use, latest=math.inf)
            except UsageLogError as error:  # SQLite reads zeros from a cut page
                raise UsageLogError(f"the usage log {file.path} is damaged: {error}") from error
            yield Entry(number, use, origin, repeat < 0)
        if len(rows) < _BATCH:
            return
        more = _batch(file, rows[-1][0], namespace=namespace, whole=whole)
        rows = [row for row in more if row[0] <= last]


def _batch(file: LogFile, position: int, *, namespace: str | None, whole: bool) -> list[Any]:
    success = f"coalesce(u.success, {_RATING})" if whole else "u.success"
    chosen = "u.id > ?" if namespace is None else "u.id > ? AND u.namespace = ?"
    if whole:
        chosen += " AND u.repeat >= 0"
    return file.rows(
        f"SELECT u.id, u.item, u.time, {success}, u.query, u.namespace, u.origin, u.repeat "
        f"FROM uses AS u WHERE {chosen} ORDER BY u.id LIMIT {_BATCH}",
        (position,) if namespace is None else (position, namespace),
    )


def add_uses(file: LogFile, uses: Sequence[Use]) -> int:
    """Adds uses that were checked, within a transaction; returns how many counted.

    See `add_use`.
    """
    if any(use.query is not None for use in uses):
        return sum(add_use(file, use) for use in uses)
    file.change(_ADD, (_values(use) for use in uses))
    return len(uses)


def add_use(file: LogFile, use: Use, *, origin: str | None = None, known: bool = False) -> bool:
    """Adds one use that was checked, within a transaction; returns whether it counted.

    Of an item that a query found, one use counts, and one rating. A use is ignored if the log has
    one with a rating of the same item and query, or if neither has a rating. If only the new one
    is rated, its rating is added to the use that is there.

    Args:
        file: The log.
        use: The use.
        origin: Its identity if it is imported.
        known: Whether the log has the use, so that only its rating can be new.
    """
    if use.query is not None:
        time, ratings = file.row(
            "SELECT min(time), count(success) FROM uses "
            "WHERE query = ? AND item = ? AND namespace = ?",
            (use.query, use.item, use.namespace),
        )
        if time is not None:
            if use.success is None or ratings:
                return False
            rating = Use(use.item, time, use.success, use.query, use.namespace)
            file.rows(_ADD, _values(rating, repeat=-1))
            return True
    if known:
        return False
    file.rows(_ADD, _values(use, origin=origin))
    return True


def count_same(file: LogFile, use: Use) -> int:
    """Returns how many rows equal a use in all but their identity."""
    (count,) = file.row(f"SELECT count(*) FROM uses WHERE {_SAME}", _values(use)[:5])
    return int(count)


def is_same(file: LogFile, use: Use, *, number: str) -> bool:
    """Tells whether the row of a number equals a use."""
    row = file.row(f"SELECT 1 FROM uses WHERE {_SAME} AND id = ?", (*_values(use)[:5], number))
    return row is not None


def _values(use: Use, *, origin: str | None = None, repeat: int = 0) -> tuple[object, ...]:
    """Returns what the table keeps of a use."""
    success = None if use.success is None else float(use.success)
    return use.item, float(use.time), success, use.query, use.namespace, origin, repeat
