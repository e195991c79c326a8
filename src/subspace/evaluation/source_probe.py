"""Source probe: how well a block predicts the source of a text, which it should not."""

from collections.abc import Mapping

import numpy as np

from subspace.arrays import AnyFloats
from subspace.blocks import unit
from subspace.data.labels import Column
from subspace.data.records import SPLITS
from subspace.evaluation.probes import linear_probe
from subspace.evaluation.scores import score_predictions
from subspace.evaluation.separation import RAW, EmbeddedSource
from subspace.evaluation.tasks import MIN_TEXTS, ProbeTask
from subspace.model.projection import Projection

_PER_SOURCE = {"train": 300, "validation": 100, "test": 200}


def probe_sources(
    projection: Projection, sources: Mapping[str, EmbeddedSource], *, raw: slice
) -> dict[str, float]:
    """Measures how well a linear probe predicts the source of a text.

    Args:
        projection: The projection; gives the blocks.
        sources: Labelled texts and their embeddings, by source.
        raw: Dimensions of an embedding that hold the raw embedding.

    Returns:
        Balanced accuracy by block and for `raw`; chance is 1 over the number of sources. Empty if
        fewer than two sources have enough texts.
    """
    usable = {
        name: source
        for name, source in sources.items()
        if all(len(source.labels.positions(split)) >= MIN_TEXTS for split in SPLITS)
    }
    if len(usable) < 2:
        return {}
    rng = np.random.default_rng(0)
    parts, codes, splits = [], [], []
    for code, source in enumerate(usable.values()):
        for number, split in enumerate(SPLITS):
            positions = source.labels.positions(split)
            drawn = rng.choice(positions, min(_PER_SOURCE[split], len(positions)), replace=False)
            parts.append(source.x[np.sort(drawn)])
            codes.append(np.full(len(drawn), code))
            splits.append(np.full(len(drawn), number))
    x, split_of = np.concatenate(parts), np.concatenate(splits)
    task = ProbeTask(
        source="all",
        factor="source",
        within="",
        column=Column(codes=np.concatenate(codes), class_count=len(usable)),
        draws=np.flatnonzero(split_of == 0)[None],
        validation=np.flatnonzero(split_of == 1),
        test=np.flatnonzero(split_of == 2),
        groups=np.full(len(x), -1),
    )
    spaces: dict[str, AnyFloats] = {RAW: unit(x[:, raw])}
    spaces.update(projection.layout.split(projection(x)))
    return {
        name: float(score_predictions(linear_probe(z, task), truth=task.truth)[0, 0])
        for name, z in spaces.items()
    }
