"""Recency and importance of single items, from their last use and their success rate."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from subspace.arrays import Floats
from subspace.errors import ConfigError
from subspace.retrieval.usage.uses import Clock, Use

Kind = Literal["linear", "exponential", "power"]
KINDS: tuple[Kind, ...] = ("linear", "exponential", "power")


# Recency and importance of an item that was never used: a neutral value. For importance it is the
# smoothed success rate without any use: (0 + 1) / (0 + 0 + 2).
UNUSED = 0.5
# Importance of an item that was used once, with success: (1 + 1) / (1 + 0 + 2).
CONFIRMED = 2 / 3

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"([0-9.eE+-]+)\s*([smhdw]?)")


@dataclass(frozen=True)
class Decay:
    """A function from age to recency: 1 at age 0, and never increasing.

    Attributes:
        kind: `linear`: max(0, 1 - age / scale); `exponential`: 2 ** -(age / scale); `power`:
            1 / (1 + age / scale).
        scale: In steps or seconds, the age at which recency is 0 (`linear`) or 1/2 (others).

    Raises:
        ConfigError: The kind is unknown, or the scale is not a finite number above 0.
    """

    kind: Kind = "linear"
    scale: float = 50.0

    def __post_init__(self) -> None:
        """Checks the kind and the scale."""
        if self.kind not in KINDS:
            raise ConfigError(f"recency is one of {', '.join(KINDS)}, not {self.kind!r}")
        if not 0 < self.scale < float("inf"):
            raise ConfigError(
                f"the scale of {self.kind} recency must be above 0 and finite, got {self.scale}"
            )

    @classmethod
    def default(cls, clock: Clock) -> "Decay":
        """Returns linear decay over 50 steps, or over 50 days of wall-clock time."""
        return cls(scale=50.0 if clock == "steps" else 50 * _SECONDS["d"])

    @classmethod
    def parse(cls, text: str, *, clock: Clock) -> "Decay":
        """Reads a text such as `linear:50` (steps) or `exponential:7d` (units s, m, h, d, w).

        Raises:
            ConfigError: The text does not have that form.
        """
        kind, _, scale = (piece.strip() for piece in text.partition(":"))
        if kind not in KINDS:
            raise ConfigError(
                f"recency must read like linear:50, exponential:7d or power:12h, got {text!r}"
            )
        return cls(kind=kind, scale=parse_duration(scale, clock=clock))

    def __call__(self, age: npt.ArrayLike) -> Floats:
        """Returns the recency in [0, 1] of each age; an age below 0 counts as 0."""
        relative = np.maximum(np.asarray(age, dtype=np.float64), 0) / self.scale
        if self.kind == "linear":
            return np.maximum(0.0, 1 - relative)
        if self.kind == "exponential":
            return np.asarray(np.exp2(-relative))
        return np.asarray(1 / (1 + relative))


def parse_duration(text: str, *, clock: Clock) -> float:
    """Reads a number of steps (`50`), or a time with a unit (`90s`, `12h`, `7d`) in seconds.

    Raises:
        ConfigError: The text does not have the form that the clock needs.
    """
    found = _DURATION.fullmatch(text.strip())
    try:
        number, unit = (float(found[1]), found[2]) if found else (float(text), "")
    except ValueError as error:
        raise ConfigError(f"a time must read like 50, 90s, 12h or 7d, got {text!r}") from error
    if clock == "steps" and unit:
        raise ConfigError(f"the usage log counts steps: {text!r} cannot have a unit")
    if clock == "wall" and not unit:
        raise ConfigError(
            f"the usage log counts wall-clock time: {text!r} needs a unit, one of "
            f"{', '.join(_SECONDS)}"
        )
    return number * _SECONDS.get(unit, 1.0)


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class ItemValues:
    """Recency and importance of items at one moment; stays as it is when uses are added.

    Attributes:
        ids: Ids of the used items; may have grown since.
        rows: The place of each id; may have grown since.
        recency: Recency in [0, 1] of the first ids.
        importance: Smoothed success rate in [0, 1] of the first ids.
    """

    ids: list[str]
    rows: Mapping[str, int]
    recency: Floats
    importance: Floats

    def of(self, ids: Sequence[str]) -> tuple[Floats, Floats]:
        """Returns recency and importance of items; `UNUSED` for items without uses."""
        rows = np.array([self.rows.get(name, -1) for name in ids], dtype=np.int64)
        rows[rows >= len(self.recency)] = -1
        values = [np.append(known, UNUSED)[rows] for known in (self.recency, self.importance)]
        return values[0], values[1]


@dataclass
class ItemHistory:
    """The last use and the success counts of each item; adding a use takes O(1).

    Attributes:
        half_life: Age at which a rating counts half in `net`.
        ids: Ids of the used items, in the order in which they were first added.
    """

    half_life: float = np.inf
    ids: list[str] = field(default_factory=list)
    _rows: dict[str, int] = field(default_factory=dict)
    # One column per item: time of the last use, sum of success, sum of 1 - success, and of the
    # ratings 2 s - 1 the decayed sum, the time as of which it is kept, and the plain sum. The
    # number of columns is doubled when they are full.
    _table: Floats = field(default_factory=lambda: np.empty((6, 16)))
    # Number of items without a use of known time.
    _untimed: int = 0

    def add(self, uses: Iterable[Use]) -> None:
        """Adds uses, in any order; a time of -inf stands for one that is not known."""
        for use in uses:
            row, table = self._row(use.item), self._table
            last = table[0, row]
            if use.time > last:
                self._untimed -= int(last == -np.inf)
                table[0, row] = use.time
            if use.success is not None:
                table[1, row] += use.success
                table[2, row] += 1 - use.success

    def weigh(self, uses: Iterable[Use]) -> None:
        """Adds the ratings of uses to `net`, in any order."""
        for use in uses:
            if use.success is None:
                continue
            row, rating = self._row(use.item), 2 * use.success - 1
            decayed, known, plain = self._table[3:, row].tolist()
            if use.time > -np.inf:
                latest = max(known, use.time)
                decayed *= self._fade(latest - known)
                decayed += rating * self._fade(latest - use.time)
                known = latest
            self._table[3:, row] = decayed, known, plain + rating

    def net(self, ids: Sequence[str], now: float, *, floor: float) -> Floats:
        """Returns the weight of each item in the importance trace; see `Traces`."""
        rows = [self._row(name) for name in ids]
        decayed, latest, plain = self._table[3:, rows]
        faded = decayed * [self._fade(now - time) for time in latest]
        return np.asarray((1 - floor) * faded + floor * plain)

    def recency(
        self, now: float, *, decay: Decay, floor: float = 0.0, pinned: Sequence[str] = ()
    ) -> Floats:
        """Returns the recency of each item in `ids`.

        It is `decay(age)` of the last use; at least `floor` if the item is confirmed, which means
        that its importance is above that of an item without uses; and 1 if it is pinned. It is
        `UNUSED` where no use has a known time.
        """
        last, successes, failures = self._table[:3, : len(self.ids)]
        values = decay(now - last)
        if self._untimed:
            values[last == -np.inf] = UNUSED
        if floor:
            values = np.maximum(values, (successes > failures) * floor)
        values[[self._rows[name] for name in pinned]] = 1
        return values

    def importance(self, *, pinned: Sequence[str] = ()) -> Floats:
        """Returns the smoothed success rate of each item in `ids`.

        With s the sum of success and f that of 1 - success, the rate with Laplace smoothing is
        (s + 1) / (s + f + 2). That of a pinned item is at least `CONFIRMED`.
        """
        successes, failures = self._table[1:3, : len(self.ids)]
        values = np.asarray((successes + 1) / (successes + failures + 2))
        rows = [self._rows[name] for name in pinned]
        values[rows] = np.maximum(values[rows], CONFIRMED)
        return values

    def at(
        self, now: float, *, decay: Decay, floor: float = 0.0, pinned: Sequence[str] = ()
    ) -> "ItemValues":
        """Returns recency and importance of all items at one moment."""
        for name in pinned:
            self._row(name)
        recency = self.recency(now, decay=decay, floor=floor, pinned=pinned)
        return ItemValues(self.ids, self._rows, recency, self.importance(pinned=pinned))

    def _row(self, item: str) -> int:
        row = self._rows.get(item)
        if row is None:
            row = len(self.ids)
            if row == self._table.shape[1]:
                self._table = np.concatenate([self._table, np.empty_like(self._table)], axis=1)
            self._table[:, row] = (-np.inf, 0, 0, 0, -np.inf, 0)
            self._untimed += 1
            self._rows[item] = row
            self.ids.append(item)
        return row

    def _fade(self, age: float) -> float:
        # Without ratings the age is infinite, and what would fade is 0.
        return 2.0 ** (-age / self.half_life) if age < math.inf else 0.0
