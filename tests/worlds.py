"""Worlds in which the truth is known: planted factors, and what to cut out of them."""

from dataclasses import replace

import numpy as np
from scipy.stats import ortho_group

from subspace.blocks import BlockLayout
from subspace.data.labels import Column, Labels
from subspace.data.records import SPLITS, Record
from subspace.evaluation.separation import EmbeddedSource
from subspace.model.projection import Projection, QuerySide

COUNT = 1500
DIM = 16
RAW = slice(0, DIM)

# Where each factor lies in the planted embedding.
PLACES = {"topic": slice(0, 4), "style": slice(4, 6), "complexity": slice(6, 7)}
# A direction of its own keeps a number readable after scaling to unit length.
PLANTED = {"topic": slice(0, 4), "style": slice(4, 6), "complexity": slice(6, 16)}
EVERYTHING = {"topic": slice(0, DIM), "style": slice(0, DIM)}


def make_labels(*, seed: int = 0, count: int = COUNT, source: str = "test") -> Labels:
    """Topic in four classes, style in two, complexity a number; two in three texts train."""
    rng = np.random.default_rng(seed)
    values = rng.random(count)
    return Labels(
        source=source,
        columns={
            "topic": Column(codes=rng.integers(0, 4, count), class_count=4),
            "style": Column(codes=rng.integers(0, 2, count), class_count=2),
            "complexity": Column(
                codes=np.digitize(values, [0.25, 0.5, 0.75]), class_count=4, values=values
            ),
        },
        groups=np.full(count, -1),
        splits=np.tile([0, 0, 0, 0, 1, 2], count // 6 + 1)[:count],
    )


def plant(labels: Labels, *, noise: float = 0.3) -> np.ndarray:
    """Embeddings in which every factor has dimensions of its own."""
    rng = np.random.default_rng(1)
    x = noise * rng.normal(size=(len(labels), DIM))
    x[:, PLACES["topic"]] += np.eye(4)[labels.columns["topic"].codes]
    x[:, PLACES["style"]] += np.eye(2)[labels.columns["style"].codes]
    x[:, PLACES["complexity"]] += 2 * labels.columns["complexity"].values[:, None]
    return x.astype(np.float32)


def cut(places: dict[str, slice]) -> Projection:
    """A projection whose blocks are the dimensions given, as they are."""
    weight = np.concatenate([np.eye(DIM)[place] for place in places.values()])
    widths = {name: len(range(DIM)[place]) for name, place in places.items()}
    return Projection(
        weight=weight.astype(np.float32),
        mean=np.zeros(DIM, dtype=np.float32),
        layout=BlockLayout.from_widths(widths),
    )


def embedded(
    labels: Labels, x: np.ndarray | None = None, *, lengths: np.ndarray | None = None
) -> EmbeddedSource:
    """A source of these labels; its texts are numbered words, ten each or as many as said."""
    rng = np.random.default_rng(5)
    words = rng.integers(0, 500, len(labels))
    counts = np.full(len(labels), 10) if lengths is None else lengths
    records = tuple(
        Record(
            id=str(number),
            text=f"w{word}" + " word" * (int(count) - 1),
            source=labels.source,
            factors={},
            split=SPLITS[split],
        )
        for number, (word, count, split) in enumerate(
            zip(words, counts, labels.splits, strict=True)
        )
    )
    return EmbeddedSource(records=records, labels=labels, x=plant(labels) if x is None else x)


def turned(projection: Projection, *, seed: int = 0) -> tuple[Projection, np.ndarray]:
    """The same projection for queries that were turned by a rotation (D, D), and the rotation."""
    rotation = ortho_group.rvs(projection.input_dim, random_state=seed).astype(np.float32)
    none = np.zeros(projection.layout.dim, np.float32)
    weight = projection.weight @ rotation.T
    query = QuerySide(weight=weight, offset=(projection.weight - weight) @ projection.mean)
    return replace(projection, offset=none, query=query), rotation
