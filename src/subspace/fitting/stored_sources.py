"""Stored sources: labelled texts whose embeddings lie in the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Ints
from subspace.data.labels import Labels, label_source
from subspace.data.records import Record, hash_records
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.fitting.moments import SourceStatistics, collect_statistics
from subspace.fitting.weak.weak_moments import WeakSupervision, add_weak_statistics


@dataclass(frozen=True, eq=False)
class StoredSource:
    """One source, encoded.

    Attributes:
        records: Its records, all splits.
        labels: Their labels, same order.
        rows: Row of each text in the store.
        sha256: Hash of the records.
    """

    records: Sequence[Record]
    labels: Labels
    rows: Ints
    sha256: str


def store_sources(
    records: Mapping[str, Sequence[Record]],
    *,
    encoder: CachedEncoder,
    origin_weights: Mapping[str, float] | None = None,
    progress: bool = False,
) -> dict[str, StoredSource]:
    """Encodes what is not stored yet; interrupted, it goes on next time.

    Args:
        records: Records by source.
        encoder: The frozen encoder and its store.
        origin_weights: How much labels count, by their origin; see `label_source`.
        progress: Shows a bar.
    """
    texts = [record.text for source in records.values() for record in source]
    rows = encoder.rows(texts, progress=progress)
    ends = np.cumsum([len(source) for source in records.values()])[:-1]
    return {
        name: StoredSource(
            records=source,
            labels=label_source(name, source, origin_weights=origin_weights),
            rows=source_rows,
            sha256=hash_records(source),
        )
        for (name, source), source_rows in zip(records.items(), np.split(rows, ends), strict=True)
    }


def training_statistics(
    source: StoredSource,
    *,
    encoder: CachedEncoder,
    weak: WeakSupervision,
    progress: bool = False,
) -> SourceStatistics | None:
    """Statistics of the training texts alone; None if there are none.

    Args:
        source: Which texts.
        encoder: Where their embeddings are; encodes rewrites that are not stored yet.
        weak: What to learn from beside the labels.
        progress: Shows bars.
    """
    train = source.labels.positions("train")
    if not len(train):
        return None
    rows = source.rows[train]
    return add_weak_statistics(
        collect_statistics(encoder.store.vectors, rows=rows, labels=source.labels.take(train)),
        records=[source.records[position] for position in train],
        rows=rows,
        encoder=encoder,
        settings=weak,
        progress=progress,
    )
