"""Taste: whether importance per block learns from a few ratings which version of a text is liked.

A simulated user likes one of two labels. In some groups of parallel texts, the liked version is
rated 1 and the other 0, as in the usage log. Importance is I_b(d) = <m_b, d_b>, where m_b is the
sum of the rated texts' blocks, with a plus for 1 and a minus for 0, scaled to unit length. The
measure is how often it puts the liked version first in groups that were not rated. Importance per
item would be at chance, since no item is seen twice.
"""

import numpy as np

from subspace.arrays import Ints, Vectors
from subspace.blocks import unit

TASTE_RATINGS = (5, 20)
_DRAWS = 20
# With fewer groups of two versions, too few are left to test on.
_MIN_GROUPS = 40


def measure_taste(z: Vectors, *, codes: Ints, groups: Ints, seed: int = 0) -> dict[int, float]:
    """Measures how often unseen pairs are in the order that the user likes.

    Args:
        z: Unit vectors of the block (N, width).
        codes: Label of each text (N,), -1 for none.
        groups: Group of each text (N,), -1 for none.
        seed: Seed of the draws.

    Returns:
        The share of unseen pairs, by number of rated pairs; ties count half. Empty if there are
        too few groups with both labels.
    """
    first, second = _pairs(codes, groups)
    if len(first) < _MIN_GROUPS:
        return {}
    differences = (z[first] - z[second]).astype(np.float64)  # liked minus disliked
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
    """Returns a text of each of the two most frequent labels, from every group that has both."""
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
