"""Annotator: what gives texts labels that nobody gave them, and says so."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from subspace.data.retrieval_sets import Document


@dataclass(frozen=True)
class Annotation:
    """The labels of one text.

    Attributes:
        id: The text's id.
        factors: Labels by factor: a string is a category, a number is ordered. A factor may be
            missing, where the annotator could not tell.
    """

    id: str
    factors: Mapping[str, str | float]


class Annotator(Protocol):
    """Labels texts, one after the other."""

    @property
    def origin(self) -> str:
        """What its labels are marked with: `measures`, `checkpoint:NAME`, `language-model:NAME`."""

    @property
    def identity(self) -> str:
        """What its labels depend on beside the text: with another, they are other labels."""

    @property
    def factors(self) -> tuple[str, ...]:
        """What it labels."""

    def annotate(
        self, documents: Sequence[Document], *, progress: bool = False
    ) -> Iterator[Annotation]:
        """Yields one annotation per document, in order, each as soon as it is there.

        What was yielded is kept, so that an interrupted run goes on after it.

        Args:
            documents: What to label.
            progress: Shows a bar.
        """
