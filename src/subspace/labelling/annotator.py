"""Annotator: gives labels to texts that have none."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from subspace.data.records import Record

# The labels of one text by factor: a string is a category, a number is ordered.
Factors = Mapping[str, str | float]


class Annotator(Protocol):
    """Labels texts one by one."""

    @property
    def origin(self) -> str:
        """Origin of its labels in `Record.origins`: `features`, `checkpoint:NAME`, ..."""

    @property
    def identity(self) -> str:
        """Text that changes whenever the annotator would give the same texts other labels."""

    @property
    def factors(self) -> tuple[str, ...]:
        """The factors that it labels."""

    @property
    def cache(self) -> Path | None:
        """File in which it keeps its answers between runs; None if it keeps none."""

    def annotate(self, records: Sequence[Record], *, progress: bool = False) -> Iterator[Factors]:
        """Yields the labels of each text, in order, as soon as they are known.

        A factor is missing where the annotator has no label for the text.

        Args:
            records: The texts to label.
            progress: Whether to show a progress bar.
        """
