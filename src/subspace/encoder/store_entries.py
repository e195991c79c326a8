"""Entries of an embedding store: the key of each row's text, and checksums of its vector."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.encoder.key_index import hash_texts

# 16 bytes of the text's SHA-256, the vector's CRC-32, and a checksum (0 in rows of earlier
# versions). The checksum is verified, since it is several times as fast to compute as the CRC. The
# CRC serves rows without a checksum, and earlier versions that read new rows.
ENTRY = np.dtype([("key", ">u8", (2,)), ("crc", "<u4"), ("checksum", "<u4")])

# An odd factor. The upper half of its product with any power of two is neither 0 nor all ones, so
# that sums that differ by one bit of one word have different checksums.
_MIX = np.uint64(0x9E3779B97F4A7C15)

Entries = npt.NDArray[np.void]
Block = npt.NDArray[Any]


def make_entries(texts: Sequence[str], block: Block) -> Entries:
    """Makes the entries (M,) of texts and their vectors (M, dim)."""
    entries = np.zeros(len(texts), dtype=ENTRY)
    entries["key"] = hash_texts(texts)
    entries["crc"] = [zlib.crc32(row) for row in block]
    entries["checksum"] = checksums(block, keys=entries["key"])
    return entries


def are_valid(block: Block, entries: Entries) -> npt.NDArray[np.bool_]:
    """Tells for each vector of (M, dim) whether it matches its entry of (M,)."""
    whole = np.asarray(checksums(block, keys=entries["key"]) == entries["checksum"])
    for row in np.flatnonzero(entries["checksum"] == 0):
        whole[row] = zlib.crc32(block[row]) == entries["crc"][row]
    return whole


def checksums(block: Block, *, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """Computes 32-bit checksums (M,) from the sum of a vector's and its key's words; never 0."""
    word = math.gcd(8, block.itemsize * block.shape[1])
    sums = block.view(f"<u{word}").sum(axis=1, dtype=np.uint64)
    mixed = (sums + keys[:, 0] + keys[:, 1]) * _MIX >> np.uint64(32)
    return np.asarray(np.maximum(mixed, 1), dtype=np.uint32)
