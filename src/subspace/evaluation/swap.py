"""Swap accuracy: does a block follow the label when the content is swapped?"""

from dataclasses import dataclass

import numpy as np

from subspace.arrays import AnyFloats, Ints
from subspace.blocks import unit
from subspace.data.labels import Labels

# Cosines that differ by less are equal: a block that says nothing must not win by rounding.
_ROUNDING = 1e-6
_MAX_TRIPLES = 5000


@dataclass(frozen=True, eq=False)
class Triples:
    """Positions (N,) of an anchor, a text that shares its label, and one that shares its content.

    Attributes:
        anchors: Any texts.
        same_label: Same label, another group.
        same_content: Same group, another label.
    """

    anchors: Ints
    same_label: Ints
    same_content: Ints

    def __len__(self) -> int:
        """Number of triples."""
        return len(self.anchors)


def draw_triples(labels: Labels, *, factor: str, seed: int = 0) -> Triples:
    """Triples among the test texts, at most 5,000; none where no group crosses labels.

    The text that shares the label is drawn from all that do, the one that shares the content
    from the anchor's group.
    """
    column = labels.columns[factor]
    positions = labels.positions("test")
    usable = positions[(column.codes[positions] >= 0) & (labels.groups[positions] >= 0)]
    # Numbers share a label only if they are equal: levels would call neighbours the same.
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
    """Share of triples in which the anchor is closer, by cosine, to the text that shares its label.

    A raw embedding is near 0, a block that varies with nothing exactly 0.

    Args:
        z: One vector per text of the source (N, D).
        triples: At least one.
    """
    directions = unit(z)
    anchors = directions[triples.anchors]
    label = (anchors * directions[triples.same_label]).sum(axis=1)
    content = (anchors * directions[triples.same_content]).sum(axis=1)
    return float((label > content + _ROUNDING).mean())
