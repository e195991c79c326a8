"""Training batches with texts of one source each, as a pure function of (seed, number)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from subspace.arrays import Floats, Ints, Vectors
from subspace.data.labels import Column, Labels


class Batch(NamedTuple):
    """Texts of one source.

    Attributes:
        source: Position of the source among the training sources; -1 for a held-out source, which
            has no training heads.
        x: Raw embeddings (N, D).
        groups: Group of each text (N,), -1 for none.
        codes: Class of each text (N,) by factor, -1 for a text without a label. Holds only factors
            that the source labels.
        values: Label of each text (N,) by ordered factor, NaN for a text without a label.
    """

    source: int
    x: Tensor
    groups: Tensor
    codes: dict[str, Tensor]
    values: dict[str, Tensor]


@dataclass(frozen=True)
class BatchPlan:
    """The draw of texts for a batch, which depends on `seed` and the number of the batch alone.

    A batch draws a factor, then a source that labels it, so that a factor with few sources is
    drawn as often as one with many. The texts come from this source in one of two ways:

    - as whole groups of parallel texts in which the labels of the factor differ; the probability is
      the share of the labelled texts that are in such groups;
    - otherwise, for categories, as equal numbers of texts per class, and for numbers, as texts at
      random.

    If labels have weights, sources, groups and texts are drawn in proportion to them.

    Attributes:
        sources: Labels of the training texts by source.
        factors: Factors to learn. Each must label at least two texts of some source.
        size: Largest number of texts in a batch; a small source gives fewer.
        seed: Seed of the draws.
    """

    sources: tuple[Labels, ...]
    factors: tuple[str, ...]
    size: int
    seed: int

    def draw(self, number: int) -> tuple[int, Ints]:
        """Draws a batch: the position of its source, and the positions of its texts in the source.

        Args:
            number: Number of the batch.
        """
        rng = np.random.default_rng((self.seed, number))
        factor = self.factors[rng.integers(len(self.factors))]
        candidates = self._sources_by_factor[factor]
        weights = self._source_weights.get(factor)
        if weights is None:
            source = candidates[int(rng.integers(len(candidates)))]
        else:
            source = int(rng.choice(candidates, p=weights))
        column = self.sources[source].columns[factor]
        crossing = self._crossing_groups[source, factor]
        grouped = sum(map(len, crossing))
        if rng.random() * len(column.labelled) < grouped:
            return source, _draw_groups(crossing, column=column, size=self.size, rng=rng)
        if column.ordered:
            drawn = _permute(column.labelled, weights=_of(column, column.labelled), rng=rng)
            return source, drawn[: self.size]
        members_by_class = self._members_by_class[source, factor]
        return source, _draw_classes(members_by_class, column=column, size=self.size, rng=rng)

    @cached_property
    def _sources_by_factor(self) -> Mapping[str, Sequence[int]]:
        return {
            factor: [
                position
                for position, labels in enumerate(self.sources)
                if factor in labels.columns and len(labels.columns[factor].labelled) > 1
            ]
            for factor in self.factors
        }

    @cached_property
    def _source_weights(self) -> Mapping[str, Floats]:
        """Probabilities of the sources of each factor that has label weights in some source."""
        chances = {}
        for factor, positions in self._sources_by_factor.items():
            columns = [self.sources[position].columns[factor] for position in positions]
            if any(column.weights is not None for column in columns):
                means = np.array(
                    [1.0 if w is None else w.mean() for w in (_of(c, c.labelled) for c in columns)]
                )
                chances[factor] = means / means.sum()
        return chances

    @cached_property
    def _crossing_groups(self) -> Mapping[tuple[int, str], Sequence[Ints]]:
        """Labelled texts of each group in which the factor differs, by source and factor."""
        crossing: dict[tuple[int, str], Sequence[Ints]] = {}
        for position, labels in enumerate(self.sources):
            for factor, column in labels.columns.items():
                groups = np.where(column.codes >= 0, labels.groups, -1)
                crossing[position, factor] = [
                    members
                    for members in _members(groups)
                    if len(np.unique(column.codes[members])) > 1
                ]
        return crossing

    @cached_property
    def _members_by_class(self) -> Mapping[tuple[int, str], Sequence[Ints]]:
        """Positions of the texts of each class, by source and categorical factor."""
        return {
            (position, factor): _members(column.codes)
            for position, labels in enumerate(self.sources)
            for factor, column in labels.columns.items()
            if not column.ordered
        }


def _members(codes: Ints) -> list[Ints]:
    """Returns the positions that share a code, one array per code; -1 means no code."""
    order = np.argsort(codes, kind="stable")
    order = order[codes[order] >= 0]
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    return [part for part in np.split(order, cuts) if len(part)]


def _of(column: Column, positions: Ints) -> Floats | None:
    return None if column.weights is None else column.weights[positions]


def _permute(items: Ints, *, weights: Floats | None, rng: np.random.Generator) -> Ints:
    """Returns items in random order; items with a higher weight tend to come first."""
    if weights is None:
        return rng.permutation(items)
    return rng.choice(items, len(items), replace=False, p=weights / weights.sum())


def _draw_groups(
    members: Sequence[Ints], *, column: Column, size: int, rng: np.random.Generator
) -> Ints:
    """Draws whole groups in random order until the batch is full."""
    drawn: list[Ints] = []
    room = size
    weights = None
    if column.weights is not None:
        weights = np.array([column.weights[group].mean() for group in members])
    for group in _permute(np.arange(len(members)), weights=weights, rng=rng):
        if len(members[group]) > room and drawn:
            break
        drawn.append(members[group][:size])  # cuts only a group that is larger than a batch
        room -= len(drawn[-1])
    return np.concatenate(drawn)


# The number of classes in a batch is limited so that each gets at least this many texts, since
# texts need positive pairs.
_PER_CLASS = 8


def _draw_classes(
    members: Sequence[Ints], *, column: Column, size: int, rng: np.random.Generator
) -> Ints:
    """Draws equal numbers of texts of as many classes as have room for `_PER_CLASS` texts each.

    Classes of a single text have no positive pair and are drawn only if there are no others.
    """
    members = [part for part in members if len(part) > 1] or members
    places = max(2, min(len(members), size // _PER_CLASS))
    per_class = max(2, size // places)
    drawn = [
        _permute(members[code], weights=_of(column, members[code]), rng=rng)[:per_class]
        for code in rng.permutation(len(members))[:places]
    ]
    return np.concatenate(drawn)[:size]


def make_batch(vectors: Vectors, *, source: int, labels: Labels, rows: Ints) -> Batch:
    """Gathers one batch from the stored vectors.

    Args:
        vectors: All stored embeddings (rows, D), for instance memory-mapped.
        source: Position of the source among the training sources, or -1; see `Batch`.
        labels: Labels of the batch's texts.
        rows: Row of each text in `vectors`.
    """
    return Batch(
        source=source,
        x=torch.from_numpy(np.asarray(vectors[rows], dtype=np.float32)),
        groups=torch.from_numpy(labels.groups),
        codes={f: torch.from_numpy(c.codes) for f, c in labels.columns.items()},
        values={
            f: torch.from_numpy(c.values.astype(np.float32))
            for f, c in labels.columns.items()
            if c.values is not None
        },
    )
