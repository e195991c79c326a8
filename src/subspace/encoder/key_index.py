"""KeyIndex: look-up of a vector's row by the hash of its text, in 12 bytes per row."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints

Keys = npt.NDArray[np.uint64]


def hash_texts(texts: Sequence[str]) -> Keys:
    """Returns the first 16 bytes of each text's SHA-256 as two numbers, (N, 2)."""
    sha256 = hashlib.sha256
    digests = b"".join([sha256(text.encode()).digest() for text in texts])
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 4)[:, :2].astype(np.uint64)


class KeyIndex:
    """The first halves of all keys, sorted, each with its row.

    Ten million rows take 120 MB. New rows are merged in, without sorting everything again.
    """

    def __init__(self) -> None:
        """Starts without rows."""
        self._sorted: Keys = np.zeros(0, dtype=np.uint64)
        self._rows = np.zeros(0, dtype=np.uint32)

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._rows)

    def extend(self, firsts: Keys) -> None:
        """Adds rows after the last one, given the first halves of their keys (M,)."""
        count = len(self)
        joined = np.concatenate([self._sorted, firsts])
        # A stable sort keeps the rows of equal keys in order, and merges sorted parts quickly.
        order = np.argsort(joined, kind="stable")
        added = np.arange(count, count + len(firsts), dtype=np.uint32)
        self._rows = np.concatenate([self._rows, added])[order]
        self._sorted = joined[order]

    def find(self, firsts: Keys) -> Ints:
        """Finds the last row with each first half of a key (M,), -1 where there is none.

        The caller must compare the other halves.
        """
        if not len(self):
            return np.full(len(firsts), -1, dtype=np.int64)
        # Sorted queries are faster: consecutive searches touch the same memory.
        order = np.argsort(firsts)
        positions = np.empty(len(firsts), dtype=np.int64)
        positions[order] = np.searchsorted(self._sorted, firsts[order], side="right") - 1
        same = (positions >= 0) & (self._sorted[positions] == firsts)
        return np.where(same, self._rows[positions].astype(np.int64), -1)
