"""Batches of one source each, drawn by a pure function of (seed, number)."""

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
        source: Position of the source in the order of the training data; -1 for a source that is
            held out, which has no training heads.
        x: Raw embeddings (N, D).
        groups: Group of each text (N,), -1 for none.
        codes: Class of each text (N,) by factor, -1 for none; the source's own factors only.
        values: Number of each text (N,) for the ordered factors, NaN for none.
    """

    source: int
    x: Tensor
    groups: Tensor
    codes: dict[str, Tensor]
    values: dict[str, Tensor]


@dataclass(frozen=True)
class BatchPlan:
    """Which texts are in a batch: depends on nothing but `seed` and the number of the batch.

    A batch draws a factor, then a source that labels it, so that a factor with few sources is
    seen as often as one with many. Inside the source it draws whole groups that hold the content
    and change the factor, as often as the source's texts are in such groups; otherwise equal
    numbers per class for categories, and texts at random for numbers. Where labels have weights,
    sources, groups and texts are drawn in proportion to them.

    Attributes:
        sources: Labels of the training texts by source.
        factors: Factors to learn; each labels two texts of some source at least.
        size: Texts per batch; a smaller source gives what it has.
        seed: Together with the number, decides everything.
    """

    sources: tuple[Labels, ...]
    factors: tuple[str, ...]
    size: int
    seed: int

    def draw(self, number: int) -> tuple[int, Ints]:
        """The source's position and the texts' positions in it."""
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
        """Chances of the sources of a factor, where its labels have weights somewhere."""
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
        """Labelled texts of the groups in which the factor differs, by source and factor."""
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
        """Positions of the texts of each class, by source and factor of categories."""
        return {
            (position, factor): _members(column.codes)
            for position, labels in enumerate(self.sources)
            for factor, column in labels.columns.items()
            if not column.ordered
        }


def _members(codes: Ints) -> list[Ints]:
    """Positions that share a code, one array per code; -1 is no code."""
    order = np.argsort(codes, kind="stable")
    order = order[codes[order] >= 0]
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    return [part for part in np.split(order, cuts) if len(part)]


def _of(column: Column, positions: Ints) -> Floats | None:
    return None if column.weights is None else column.weights[positions]


def _permute(items: Ints, *, weights: Floats | None, rng: np.random.Generator) -> Ints:
    """Items in random order, those that weigh more sooner."""
    if weights is None:
        return rng.permutation(items)
    return rng.choice(items, len(items), replace=False, p=weights / weights.sum())


def _draw_groups(
    members: Sequence[Ints], *, column: Column, size: int, rng: np.random.Generator
) -> Ints:
    """Whole groups in random order until the batch is full."""
    drawn: list[Ints] = []
    room = size
    weights = None
    if column.weights is not None:
        weights = np.array([column.weights[group].mean() for group in members])
    for group in _permute(np.arange(len(members)), weights=weights, rng=rng):
        if len(members[group]) > room and drawn:
            break
        drawn.append(members[group][:size])  # a group larger than a batch cannot come whole
        room -= len(drawn[-1])
    return np.concatenate(drawn)


# At least so many texts per class: a class of one has no positive pair.
_PER_CLASS = 8


def _draw_classes(
    members: Sequence[Ints], *, column: Column, size: int, rng: np.random.Generator
) -> Ints:
    """Equal numbers of texts of as many classes as have room for `_PER_CLASS` each.

    Classes of a single text have no positive pair and come only if there are no others.
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
        source: Position of the source.
        labels: Labels of the batch's texts.
        rows: Their rows in `vectors`.
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
