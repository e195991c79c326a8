"""Swap accuracy: whether a block follows the label rather than the content of a text."""

from dataclasses import dataclass

import numpy as np

from subspace.arrays import AnyFloats, Ints
from subspace.blocks import unit
from subspace.data.labels import Labels

# Smaller differences of cosines count as equal, so that a constant block cannot win by rounding.
_ROUNDING = 1e-6
_MAX_TRIPLES = 5000


@dataclass(frozen=True, eq=False)
class Triples:
    """Triples of an anchor, a text with its label, and a text with its content; positions (N,).

    Attributes:
        anchors: The anchors.
        same_label: Texts with the anchor's label, from another group.
        same_content: Texts of the anchor's group, with another label.
    """

    anchors: Ints
    same_label: Ints
    same_content: Ints

    def __len__(self) -> int:
        """Returns the number of triples."""
        return len(self.anchors)


def draw_triples(labels: Labels, *, factor: str, seed: int = 0) -> Triples:
    """Draws triples among the test texts, at most 5,000.

    There are none if no group has texts with different labels.

    Args:
        labels: Labels of the source.
        factor: The factor whose label is compared; numbers share a label only if they are equal.
        seed: Seed of the draw.
    """
    column = labels.columns[factor]
    positions = labels.positions("test")
    usable = positions[(column.codes[positions] >= 0) & (labels.groups[positions] >= 0)]
    # Levels of numbers would treat close numbers as the same label.
    keys = column.codes if column.values is None else column.values
    by_label = {key: usable[keys[usable] == key] for key in np.unique(keys[usable])}
    order = usable[np.argsort(labels.groups[usable], kind="stable")]
    edges = np.flatnonzero(np.diff(labels.groups[order])) + 1
    by_group = {labels.groups[part[0]]: part for part in np.split(order, edges) if len(part)}
    rng = np.random.default_rng(seed)
    rows = []
    for anchor in rng.permutation(usable):
        siblings = by_group[labels.groups[anchor]]
        swapped = siblings[keys[siblings] != keys[anchor]]
        same = by_label[keys[anchor]]
        if not len(swapped) or (labels.groups[same] == labels.groups[anchor]).all():
            continue
        partner = rng.choice(same)
        while labels.groups[partner] == labels.groups[anchor]:
            partner = rng.choice(same)
        rows.append((anchor, partner, rng.choice(swapped)))
        if len(rows) == _MAX_TRIPLES:
            break
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Triples(table[:, 0], table[:, 1], table[:, 2])


def swap_accuracy(z: AnyFloats, triples: Triples) -> float:
    """Returns the share of triples in which the text with the anchor's label is closer (cosine).

    It is near 0 for a raw embedding, and 0 for a block that is constant.

    Args:
        z: One vector per text of the source (N, D).
        triples: At least one.
    """
    directions = unit(z)
    anchors = directions[triples.anchors]
    label = (anchors * directions[triples.same_label]).sum(axis=1)
    content = (anchors * directions[triples.same_content]).sum(axis=1)
    return float((label > content + _ROUNDING).mean())
