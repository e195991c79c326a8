"""Comparisons of arms on the same hits: what the success of single hits tells about every arm.

The hits of a search stand in the order of the arm that was chosen. Every other arm would have put
the same hits in an order of its own. Once it is known which of them succeeded, all of these orders
have a gain, so every arm learns from every search, also if it is never chosen. Tasks that are
easy or hard are so for all arms at once, and the difference between two arms varies far less than
their gains. What stays unknown is which other items an arm would have found.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.errors import BanditError
from subspace.retrieval.usage.shared_sqlite import HeldConnection

# Searches whose hits are kept for feedback; older ones can only be rated as a whole.
_KEPT = 10_000


@dataclass(frozen=True)
class Compared:
    """Sums over the searches in which an arm was compared with the reference arm.

    Attributes:
        searches: Number of searches; a discount makes it smaller.
        total: Sum of the differences in gain.
        squares: Sum of their squares.
    """

    searches: float = 0.0
    total: float = 0.0
    squares: float = 0.0


def order_gains(
    orders: Mapping[str, Sequence[str]], successes: Mapping[str, float]
) -> dict[str, float]:
    """Returns the nDCG of each arm's order of the same hits; all 0 if no hit succeeded.

    Args:
        orders: Ids of the hits by arm, best first.
        successes: Success in [0, 1] by id; 0 for ids that are left out.
    """

    def dcg(values: Sequence[float]) -> float:
        return float(np.sum(np.asarray(values) / np.log2(np.arange(2, len(values) + 2))))

    best = dcg(sorted(successes.values(), reverse=True))
    gains = {arm: dcg([successes.get(hit, 0.0) for hit in ids]) for arm, ids in orders.items()}
    return {arm: gain / best if best else 0.0 for arm, gain in gains.items()}


class ShownHits:
    """The hits of searches that await feedback, in the order of every arm, in an SQLite file."""

    def __init__(self, connection: HeldConnection) -> None:
        """Makes the table if the file has none."""
        self._connection = connection
        connection.execute(
            "CREATE TABLE IF NOT EXISTS bandit_shown ("
            "number INTEGER PRIMARY KEY, query_id TEXT NOT NULL UNIQUE, orders TEXT NOT NULL)"
        )
        connection.commit()

    def add(self, query_id: str, orders: Mapping[str, Sequence[str]]) -> None:
        """Keeps the hits of a search, and forgets the oldest ones."""
        content = json.dumps({arm: list(ids) for arm, ids in orders.items()})
        with self._connection.holding():
            added = self._connection.execute(
                "INSERT INTO bandit_shown (query_id, orders) VALUES (?, ?)", (query_id, content)
            )
            self._connection.execute(
                "DELETE FROM bandit_shown WHERE number <= ?", ((added.lastrowid or 0) - _KEPT,)
            )

    def take(self, query_id: str, successes: Mapping[str, float]) -> dict[str, float]:
        """Returns the gain of every arm's order of the hits of a search, and forgets these.

        Raises:
            BanditError: The file has no such search, or an id was not among its hits.
        """
        found = self._connection.execute(
            "SELECT orders FROM bandit_shown WHERE query_id = ?", (query_id,)
        ).fetchone()
        if found is None:
            raise BanditError(
                f"the hits of query '{query_id}' are not in the bandit's file, which keeps those "
                f"of the last {_KEPT:,} searches; rate the search as a whole"
            )
        orders: dict[str, list[str]] = json.loads(found[0])
        shown = next(iter(orders.values()))
        for hit in successes:
            if hit not in shown:
                raise BanditError(f"'{hit:.60}' was not among the hits of query '{query_id}'")
        self._connection.execute("DELETE FROM bandit_shown WHERE query_id = ?", (query_id,))
        return order_gains(orders, successes)


class Comparisons:
    """What arms gained beside one of them, the reference, in an SQLite file.

    Attributes:
        reference: The arm that all are compared with.
    """

    def __init__(self, connection: HeldConnection, *, table: str, reference: str) -> None:
        """Makes the table if the file has none."""
        self._connection, self._table = connection, table
        self.reference = reference
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (arm_id TEXT NOT NULL, reference TEXT NOT NULL, "
            "searches REAL NOT NULL, total REAL NOT NULL, squares REAL NOT NULL, "
            "PRIMARY KEY (arm_id, reference))"
        )
        connection.commit()

    def add(self, gains: Mapping[str, float], *, discount: float) -> None:
        """Adds the gains of arms on the hits of one search.

        Args:
            gains: Gain by arm, with the reference.
            discount: Factor of what was added before.
        """
        rows = [
            {"arm": arm, "ref": self.reference, "d": gain - gains[self.reference], "f": discount}
            for arm, gain in gains.items()
        ]
        with self._connection.holding():
            self._connection.executemany(
                f"INSERT INTO {self._table} VALUES (:arm, :ref, 1, :d, :d * :d) "
                "ON CONFLICT (arm_id, reference) DO UPDATE SET searches = searches * :f + 1, "
                "total = total * :f + :d, squares = squares * :f + :d * :d",
                rows,
            )

    def read(self) -> dict[str, Compared]:
        """Returns the sums by arm; arms that were never compared are left out."""
        rows = self._connection.execute(
            f"SELECT arm_id, searches, total, squares FROM {self._table} WHERE reference = ?",
            (self.reference,),
        )
        return {str(arm): Compared(*sums) for arm, *sums in rows}
