"""Weak statistics: the measures and rewrites of a source's training texts, as statistics."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from subspace.arrays import Ints
from subspace.data.records import Record
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.fitting.moments import SourceStatistics, collect_measures, collect_rewrites
from subspace.fitting.weak import Rewrite, measure_texts, rewrite_text


@dataclass(frozen=True)
class WeakSupervision:
    """What to learn from texts beyond their labels; nothing by default.

    Attributes:
        measures: Whether to measure every training text.
        rewrites: How many training texts of each source to rewrite; 0 for none.
        rules: How many rules of each factor to draw for a text.
    """

    measures: bool = False
    rewrites: int = 0
    rules: int = 5

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.rewrites < 0 or self.rules < 1:
            raise ConfigError(
                f"data.weak.rewrites must be 0 or more (got {self.rewrites}) and "
                f"data.weak.rules 1 or more (got {self.rules})"
            )


def add_weak_statistics(
    statistics: SourceStatistics,
    *,
    records: Sequence[Record],
    rows: Ints,
    encoder: CachedEncoder,
    settings: WeakSupervision,
    progress: bool = False,
) -> SourceStatistics:
    """The same statistics with what measures and rewrites add.

    Args:
        statistics: Of the labels of the same texts.
        records: The training texts of one source.
        rows: Their rows in the encoder's store.
        encoder: Encodes rewrites that are not stored yet.
        settings: What to add.
        progress: Shows a bar.
    """
    if settings.measures:
        measures = measure_texts([record.text for record in records], progress=progress)
        part = collect_measures(encoder.store.vectors, rows=rows, measures=measures)
        statistics = replace(statistics, measures=part)
    if not settings.rewrites:
        return statistics
    rewrites = draw_rewrites(records, settings=settings)
    rewritten = encoder.rows([rewrite.text for _, rewrite in rewrites], progress=progress)
    originals = rows[[position for position, _ in rewrites]] if rewrites else rows[:0]
    by_factor = {}
    for factor in dict.fromkeys(rewrite.rule.factor for _, rewrite in rewrites):
        own = np.array([rewrite.rule.factor == factor for _, rewrite in rewrites])
        by_factor[factor] = collect_rewrites(
            encoder.store.vectors,
            originals=originals[own],
            rewritten=rewritten[own],
            rules=[rewrite.rule.name for _, rewrite in rewrites if rewrite.rule.factor == factor],
        )
    return replace(statistics, rewrites=by_factor)


def draw_rewrites(
    records: Sequence[Record], *, settings: WeakSupervision
) -> list[tuple[int, Rewrite]]:
    """Rewrites of the texts drawn, each with the position of its original.

    Which texts are drawn hangs on their ids alone, so that it does not change with the order or
    the number of the others.
    """
    keys = [hashlib.sha256(record.id.encode()).digest() for record in records]
    drawn = sorted(sorted(range(len(records)), key=keys.__getitem__)[: settings.rewrites])
    return [
        (position, rewrite)
        for position in drawn
        for rewrite in rewrite_text(
            records[position].text, seed=records[position].id, per_factor=settings.rules
        )
    ]
