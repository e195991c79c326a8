"""Taste: does importance per block learn from a few ratings which version of a text is liked?

A user likes one of two labels. Some groups of parallel texts are rated (1 for the liked version, 0
for the other), as the usage log keeps it; then, on groups that were never rated, how often the
block's importance I_b(d) = <m_b, d_b> puts the liked version first, m_b being the unit sum of the
rated texts' blocks, signed by success. Importance of each item by itself is at chance here, as no
item is seen twice.
"""

import numpy as np

from subspace.arrays import Ints, Vectors
from subspace.blocks import unit

TASTE_RATINGS = (5, 20)
_DRAWS = 20
# With fewer groups of two versions nothing is left to be ordered.
_MIN_GROUPS = 40


def measure_taste(z: Vectors, *, codes: Ints, groups: Ints, seed: int = 0) -> dict[int, float]:
    """Share of unseen pairs that are ordered as the user likes, by number of rated pairs.

    Args:
        z: Unit vectors of the block (N, width).
        codes: Label of each text (N,), -1 where it has none.
        groups: Group of each text (N,), -1 where it has none.
        seed: Of the draws.

    Returns:
        Nothing where there are too few groups with two labels.
    """
    first, second = _pairs(codes, groups)
    if len(first) < _MIN_GROUPS:
        return {}
    differences = (z[first] - z[second]).astype(np.float64)  # from the disliked to the liked
    rng = np.random.default_rng(seed)
    found: dict[int, list[float]] = {count: [] for count in TASTE_RATINGS}
    for _ in range(_DRAWS):
        order = rng.permutation(len(first))
        for count in TASTE_RATINGS:
            trace = unit(differences[order[:count]].sum(axis=0))
            scores = differences[order[count:]] @ trace
            found[count].append(float((scores > 0).mean() + (scores == 0).mean() / 2))
    return {count: float(np.mean(values)) for count, values in found.items()}


def _pairs(codes: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """One text of the most frequent label and one of the next, per group that has both."""
    known = np.flatnonzero((groups >= 0) & (codes >= 0))
    if not len(known):
        return known, known
    frequent = np.argsort(-np.bincount(codes[known]), kind="stable")[:2]
    if len(frequent) < 2:
        return known[:0], known[:0]
    places: list[dict[int, int]] = [{}, {}]
    for side, code in enumerate(frequent):
        for position in known[codes[known] == code]:
            places[side].setdefault(int(groups[position]), int(position))
    shared = [group for group in places[0] if group in places[1]]
    return (
        np.array([places[0][group] for group in shared], dtype=np.int64),
        np.array([places[1][group] for group in shared], dtype=np.int64),
    )
