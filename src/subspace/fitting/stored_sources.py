"""Stored sources: labelled texts whose embeddings are in the embedding store."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Ints, Vectors
from subspace.data.labels import Labels, label_source
from subspace.data.records import Record, hash_records
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.fitting.moments import SourceMoments, collect_moments

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)  # comparing arrays gives an array, not a bool
class StoredSource:
    """One encoded source.

    Attributes:
        records: Records of all splits.
        labels: Labels of the records, in the same order.
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
    """Encodes the texts that are not stored yet, and returns the stored sources.

    If it is interrupted, the next call does not encode again what is stored.

    Args:
        records: Records by source.
        encoder: The frozen encoder and its store.
        origin_weights: Weights of labels by their origin; see `label_source`.
        progress: Shows a progress bar.
    """
    texts = [record.text for source in records.values() for record in source]
    rows = encoder.rows(texts, progress=progress)
    ends = np.cumsum([len(source) for source in records.values()])[:-1]
    stored = {
        name: StoredSource(
            records=source,
            labels=label_source(name, source, origin_weights=origin_weights),
            rows=source_rows,
            sha256=hash_records(source),
        )
        for (name, source), source_rows in zip(records.items(), np.split(rows, ends), strict=True)
    }
    for name, one in stored.items():
        _warn_of_equal_numbers(name, one)
    return stored


def _warn_of_equal_numbers(name: str, source: StoredSource) -> None:
    for factor, column in source.labels.columns.items():
        known = column.labelled
        if column.values is None or len(known) < 2 or np.ptp(column.values[known]) > 0:
            continue
        given = [source.records[position].factors[factor] for position in known]
        _log.warning(
            "source '%s': all %d labels of '%s' are %s%s: nothing can be learned of them",
            name,
            len(given),
            factor,
            given[0],
            " up to rounding" if len(set(given)) > 1 else "",
        )


def training_moments(
    sources: Mapping[str, StoredSource], *, vectors: Vectors
) -> dict[str, SourceMoments]:
    """Collects the moments of the training texts of each source; skips sources without any.

    Args:
        sources: Stored sources by name.
        vectors: All stored embeddings (rows, D).
    """
    moments = {}
    for name, source in sources.items():
        train = source.labels.positions("train")
        if len(train):
            labels = source.labels.take(train)
            moments[name] = collect_moments(vectors, rows=source.rows[train], labels=labels)
    return moments
