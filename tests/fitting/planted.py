"""Worlds of two sources in which topic and style are planted, and their moments."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subspace.data.labels import Column, Labels
from subspace.fitting.moments import SourceMoments, collect_moments

DIM = 24
TOPICS, STYLES = 4, 3


@dataclass(frozen=True)
class Texts:
    """Texts of one source: embeddings, the class of each by factor, and perhaps groups."""

    x: np.ndarray
    codes: Mapping[str, np.ndarray]
    groups: np.ndarray | None = None

    def moments(self) -> SourceMoments:
        """Their moments."""
        count = len(self.x)
        labels = Labels(
            source="test",
            columns={
                name: Column(codes=codes, class_count=int(codes.max()) + 1)
                for name, codes in self.codes.items()
            },
            groups=np.full(count, -1) if self.groups is None else self.groups,
            splits=np.zeros(count, dtype=np.int64),
        )
        return collect_moments(self.x, rows=np.arange(count), labels=labels)


class World:
    """x = rotation of (topic part, style part, noise), plus the source's own place.

    Topic moves the first five dimensions, style the next four and more weakly, noise all.
    """

    def __init__(self, seed: int = 0) -> None:
        """Draws it."""
        self.rng = np.random.default_rng(seed)
        self.rotation = np.linalg.qr(self.rng.normal(size=(DIM, DIM)))[0]
        self.places = {"one": self.rng.normal(size=DIM), "two": self.rng.normal(size=DIM)}
        self.topics = np.zeros((TOPICS, DIM))
        self.topics[:, :5] = 3 * self.rng.normal(size=(TOPICS, 5))
        self.styles = np.zeros((STYLES, DIM))
        self.styles[:, 5:9] = self.rng.normal(size=(STYLES, 4))

    @property
    def style_directions(self) -> np.ndarray:
        """Orthonormal directions (2, DIM) in which the means of style differ."""
        centred = (self.styles - self.styles.mean(axis=0)) @ self.rotation
        return np.linalg.svd(centred)[2][: STYLES - 1]

    def draw(self, source: str, count: int = 1200, *, grouped: bool = False) -> Texts:
        """Texts of a source; grouped, three styles of every content."""
        contents = count // STYLES if grouped else count
        topic = self.rng.integers(0, TOPICS, contents)
        noise = self.rng.normal(size=(contents, DIM))
        style = self.rng.integers(0, STYLES, contents)
        groups = None
        if grouped:
            topic, noise = topic.repeat(STYLES), noise.repeat(STYLES, axis=0)
            style = np.tile(np.arange(STYLES), contents)
            groups = np.arange(contents).repeat(STYLES)
        x = (self.topics[topic] + self.styles[style] + noise) @ self.rotation
        return Texts(
            x=(x + self.places[source]).astype(np.float32),
            codes={"topic": topic, "style": style},
            groups=groups,
        )
