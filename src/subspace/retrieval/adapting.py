"""Adapts the model of an index to labels of its texts, which are not encoded again."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from subspace.arrays import Vectors
from subspace.data.comparisons import Comparison
from subspace.data.ratings import Rating
from subspace.data.records import Record
from subspace.model import Model
from subspace.model.adapt_labels import adapt_to_labels
from subspace.retrieval.block_index import BlockIndex


def adapt_in_index(
    blocks: BlockIndex,
    records: Sequence[Record],
    *,
    now: Model,
    before: Model,
    comparisons: Sequence[Comparison],
    ratings: Sequence[Rating],
) -> Model:
    """Returns the model that the index searches with, adapted.

    Args:
        blocks: The texts of the index.
        records: Texts with labels, of the index or others.
        now: The model that the index searches with.
        before: The model that it was opened with: factors that are adapted again start from it.
        comparisons: Which of two texts has more of a factor.
        ratings: How well texts of the index served as hits.

    Raises:
        ConfigError: See `Model.adapt`.
        EncoderError: The encoder cannot be loaded, or a text is empty.
        EngineError: A server cannot be reached.
    """
    ids = [name for one in comparisons for name in (one.more, one.less)]
    wanted = dict.fromkeys([*ids, *(one.item for one in ratings)])
    records = [record for record in records if record.factors or record.id in wanted]
    given = {record.id for record in records}
    others = blocks.engine.fetch([name for name in wanted if name not in given])
    records += [replace(record, factors={}) for record in others.documents]
    named = {factor for record in records for factor in record.factors}
    named |= {one.factor for told in (comparisons, ratings) for one in told}
    return adapt_to_labels(
        _without_learned(named, now=now, before=before),
        records,
        blocks_of_records(records, blocks=blocks, model=now),
        comparisons=comparisons,
        ratings=ratings,
        corpus=blocks.sample.vectors,
    )


def _without_learned(factors: Collection[str], *, now: Model, before: Model) -> Model:
    """Returns the model with some factors as they were before.

    Labels that are given again would count twice.
    """
    heads = {f: head for f, head in now.heads.items() if f not in factors or f in before.heads}
    heads |= {f: before.heads[f] for f in factors if f in before.heads}
    nearness = {b: near for b, near in now.nearness.items() if b not in factors}
    nearness |= {b: near for b, near in before.nearness.items() if b in factors}
    return now.changed(heads=heads, nearness=nearness)


def blocks_of_records(records: Sequence[Record], *, blocks: BlockIndex, model: Model) -> Vectors:
    """Returns the blocks of records (N, layout.dim), from the index where it has the text."""
    found = blocks.engine.fetch([record.id for record in records])
    stored = {
        (record.id, record.text): vector
        for record, vector in zip(found.documents, found.vectors, strict=True)
    }
    new = [record for record in records if (record.id, record.text) not in stored]
    if new:
        made = model.encode_document([record.text for record in new]).array
        stored |= zip([(record.id, record.text) for record in new], made, strict=True)
    rows = [stored[record.id, record.text] for record in records]
    return np.array(rows, dtype=np.float32).reshape(len(rows), model.layout.dim)
