"""VectorRows: vectors by row, of which the first lie in an array that is never written.

That array may be a mapped file of gigabytes: a change of one row must not copy it. So rows that are
added or replaced lie in a second array, and a row that is removed stays where it is, without a
number, until it is worth moving the others.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints

# Rows without a number that are kept at least, and per row that has one.
_UNUSED, _UNUSED_SHARE = 1000, 0.5


class VectorRows:
    """Vectors (count, dim) in the order of their rows.

    Readers may share it; whoever changes it must be alone.
    """

    def __init__(self, fixed: npt.NDArray[Any]) -> None:
        """Begins with the rows of an array (N, dim), which is not written."""
        self._fixed = fixed
        # Grown by doubling; the first `_used` are in use.
        self._added = np.empty((0, fixed.shape[1]), dtype=fixed.dtype)
        self._used = 0
        # Where each row lies: in `_fixed`, and from its length on in `_added`; None for in order.
        self._places: Ints | None = None

    def __len__(self) -> int:
        """Returns the number of rows."""
        return self._lying if self._places is None else len(self._places)

    @property
    def _lying(self) -> int:
        """Number of vectors that are kept, also those that have no row any more."""
        return len(self._fixed) + self._used

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their precision."""
        return self._fixed.dtype

    @property
    def is_mapped(self) -> bool:
        """Whether the first vectors lie in a mapped file."""
        return isinstance(self._fixed, np.memmap)

    @property
    def places(self) -> Ints | None:
        """Positions of the rows among the vectors of `pieces`; None if they are in order."""
        return self._places

    def pieces(self) -> Iterator[npt.NDArray[Any]]:
        """Yields the arrays in which the vectors lie, with those that have no row any more."""
        yield self._fixed
        yield self._added[: self._used]

    def in_one_array(self) -> npt.NDArray[Any] | None:
        """Returns all rows (count, dim) if they lie in one array in order, else None."""
        if self._places is None and not self._used:
            return self._fixed
        if self._places is None and not len(self._fixed):
            return self._added[: self._used]
        return None

    def whole(self) -> npt.NDArray[Any]:
        """Returns all rows (count, dim); shares memory if they lie in one array."""
        one = self.in_one_array()
        return self.take(np.arange(len(self))) if one is None else one

    def take(self, rows: Ints) -> npt.NDArray[Any]:
        """Copies some rows (len(rows), dim)."""
        places = rows if self._places is None else self._places[rows]
        if not self._used:
            return self._fixed[places]
        added = places >= len(self._fixed)
        if added.all():
            return self._added[places - len(self._fixed)]
        taken = np.empty((len(places), self._fixed.shape[1]), dtype=self.dtype)
        taken[added] = self._added[places[added] - len(self._fixed)]
        taken[~added] = self._fixed[places[~added]]
        return taken

    def read(self, rows: Ints) -> npt.NDArray[Any]:
        """Returns some rows, ascending; shares memory if they lie one after the other."""
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and self._places is None:
            first, last = int(rows[0]), int(rows[-1]) + 1
            if last <= len(self._fixed):
                return self._fixed[first:last]
            if first >= len(self._fixed):
                return self._added[first - len(self._fixed) : last - len(self._fixed)]
        return self.take(rows)

    def append(self, vectors: npt.NDArray[Any]) -> None:
        """Adds rows at the end."""
        new = self._add(vectors)
        if self._places is not None:
            self._places = np.concatenate([self._places, new])

    def replace(self, rows: Ints, vectors: npt.NDArray[Any]) -> None:
        """Replaces some rows, each once."""
        places = rows if self._places is None else self._places[rows]
        added = places >= len(self._fixed)
        self._added[places[added] - len(self._fixed)] = vectors[added]
        if not added.all():
            if self._places is None:
                self._places = np.arange(len(self))
            self._places[rows[~added]] = self._add(vectors[~added])
        self._tidy()

    def delete(self, rows: Ints) -> None:
        """Removes rows; all rows after them move up."""
        places = np.arange(len(self)) if self._places is None else self._places
        self._places = np.delete(places, rows)
        self._tidy()

    def _add(self, vectors: npt.NDArray[Any]) -> Ints:
        """Keeps more vectors, and returns where they lie."""
        start, stop = self._used, self._used + len(vectors)
        if stop > len(self._added):
            larger = np.empty((max(stop, 2 * start), self._added.shape[1]), dtype=self.dtype)
            larger[:start] = self._added[:start]
            self._added = larger
        self._added[start:stop] = vectors
        self._used = stop
        return np.arange(start, stop) + len(self._fixed)

    def _tidy(self) -> None:
        """Moves all rows together if too many vectors have none."""
        if self._lying - len(self) > _UNUSED + _UNUSED_SHARE * len(self):
            whole = self.take(np.arange(len(self)))
            self._fixed, self._places = whole[:0], None
            self._added, self._used = whole, len(whole)
