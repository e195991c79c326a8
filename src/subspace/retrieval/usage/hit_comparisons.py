"""Comparisons of arms on the same hits: what the success of single hits tells about every arm.

The hits of a search stand in the order of the arm that was chosen. Every other arm would have put
the same hits in an order of its own. Once it is known which of them succeeded, all of these orders
have a gain, so every arm learns from every search, also if it is never chosen. Tasks that are
easy or hard are so for all arms at once, and the difference between two arms varies far less than
their gains. What stays unknown is which other items an arm would have found.

Searches that could not tell one arm from another are left out: those whose hits all did equally
well (or badly), and those whose hits all arms order alike, as they do before any item was used. The
difference is 0 there whatever the arms are worth, and many such searches would be taken for
certainty that all arms are equal.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from subspace.errors import BanditError
from subspace.retrieval.usage.shared_sqlite import HeldConnection

# Searches whose hits are kept for feedback; older ones can only be rated as a whole.
_KEPT = 10_000
# Hits of a search that are kept, the best ones: feedback is about these, and a file would otherwise
# grow to gigabytes.
_KEPT_HITS = 64


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


@dataclass(frozen=True)
class HitOrders:
    """The best hits of a search, and the order that each arm would give them.

    Attributes:
        ids: Ids of the hits, as they were shown.
        places: Places in `ids` by arm, in the order of the arm, best first.
        complete: Whether these are all of the hits.
    """

    ids: tuple[str, ...]
    places: Mapping[str, tuple[int, ...]]
    complete: bool

    @classmethod
    def of(cls, orders: Mapping[str, Sequence[str]]) -> Self:
        """Keeps the best hits of a search.

        Args:
            orders: Ids of the hits by arm, best first; the first arm's is how they were shown.
        """
        shown = tuple(next(iter(orders.values()), ()))
        place = {hit: number for number, hit in enumerate(shown[:_KEPT_HITS])}
        places = {
            arm: tuple(place[hit] for hit in ids if hit in place) for arm, ids in orders.items()
        }
        return cls(tuple(place), places, len(place) == len(shown))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        value = json.loads(text)
        places = {arm: tuple(numbers) for arm, numbers in value["places"].items()}
        return cls(tuple(value["ids"]), places, bool(value["complete"]))

    def to_json(self) -> str:
        """Writes the ids once, and numbers for each arm."""
        return json.dumps(vars(self), separators=(",", ":"))

    def of_arms(self, names: Mapping[str, str] | Collection[str]) -> "HitOrders":
        """Returns the orders of some of the arms, under other names if a mapping to these."""
        named = names if isinstance(names, Mapping) else {name: name for name in names}
        places = {named[arm]: order for arm, order in self.places.items() if arm in named}
        return HitOrders(self.ids, places, self.complete)

    def gains(self, successes: Mapping[str, float]) -> dict[str, float]:
        """Returns the nDCG of each arm's order; none if no order could differ from another.

        Args:
            successes: Success in [0, 1] by id; 0 for ids that are left out.
        """
        reached = np.array([successes.get(hit, 0.0) for hit in self.ids], dtype=np.float64)
        if len(set(self.places.values())) < 2 or np.ptp(reached) == 0:
            return {}
        discount = 1 / np.log2(np.arange(2, len(reached) + 2))
        best = float(np.sort(reached)[::-1] @ discount)
        return {
            arm: float(reached[list(order)] @ discount) / best for arm, order in self.places.items()
        }


class ShownHits:
    """The hits of searches that await feedback, in the order of every arm, in an SQLite file."""

    def __init__(self, connection: HeldConnection) -> None:
        """Makes the table if the file has none."""
        self._connection = connection
        # What versions before kept here: all hits of a search, once for each arm.
        connection.execute("DROP TABLE IF EXISTS bandit_shown")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS bandit_hits ("
            "number INTEGER PRIMARY KEY, query_id TEXT NOT NULL UNIQUE, asked TEXT, orders TEXT)"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS bandit_asked ON bandit_hits (asked)")
        connection.commit()

    def add(
        self, query_id: str, orders: Mapping[str, Sequence[str]], *, asked: str | None = None
    ) -> None:
        """Keeps the hits of a search, and forgets the oldest ones.

        Args:
            query_id: Id of the search.
            orders: Ids of its hits by arm; see `HitOrders.of`.
            asked: What was asked, the same for the same query; None if that is not known.
        """
        content = HitOrders.of(orders).to_json()
        with self._connection.holding():
            added = self._connection.execute(
                "INSERT INTO bandit_hits (query_id, asked, orders) VALUES (?, ?, ?)",
                (query_id, asked, content),
            )
            self._connection.execute(
                "DELETE FROM bandit_hits WHERE number <= ?", ((added.lastrowid or 0) - _KEPT,)
            )

    def take(self, query_id: str, hits: Collection[str]) -> HitOrders | None:
        """Returns the hits of a search, and forgets them; None if they are not to count.

        They count once, and the same query counts once: who asks it again and says again which hit
        was good tells nothing new, but every mix that lifts what was used would seem better for it.
        That they were taken is kept: who was killed before this could be noted elsewhere does the
        same again.

        Args:
            query_id: Id of the search.
            hits: Ids that must be among its hits, so far as these were kept.

        Raises:
            BanditError: The file has no such search, or an id was not among its hits.
        """
        found = self._connection.execute(
            "SELECT orders, asked FROM bandit_hits WHERE query_id = ?", (query_id,)
        ).fetchone()
        if found is None:
            raise BanditError(
                f"the hits of query '{query_id}' are not in the bandit's file, which keeps those "
                f"of the last {_KEPT:,} searches; rate the search as a whole"
            )
        if found[0] is None:
            return None
        shown = HitOrders.from_json(found[0])
        for hit in hits:
            if shown.complete and hit not in shown.ids:
                raise BanditError(f"'{hit:.60}' was not among the hits of query '{query_id}'")
        again = self._connection.execute(
            "SELECT 1 FROM bandit_hits WHERE asked = ? AND orders IS NULL", (found[1],)
        ).fetchone()
        self._connection.execute(
            "UPDATE bandit_hits SET orders = NULL WHERE query_id = ?", (query_id,)
        )
        return None if again else shown


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
