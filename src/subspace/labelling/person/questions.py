"""Questions that a person is asked, and the notebooks that keep the answers on disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from subspace.data.records import Record


@dataclass(frozen=True)
class Question:
    """A factor of one text, or of two that are compared.

    Attributes:
        factor: What is asked for.
        records: The texts.
    """

    factor: str
    records: tuple[Record, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Factor and ids; the same if the texts change places."""
        return (self.factor, *sorted(record.id for record in self.records))


class Notebook(Protocol):
    """Keeps answers on disk; every answer is there when `note` returns."""

    @property
    def past(self) -> Sequence[Question]:
        """Questions that have an answer, with those of earlier runs; the last one at the end."""

    def is_answered(self, question: Question) -> bool:
        """Tells whether the question needs no answer any more."""

    def prompt(self, question: Question) -> str:
        """Returns what is asked, and how to answer."""

    def note(self, question: Question, reply: str) -> str:
        """Keeps an answer, and returns how it was understood.

        Raises:
            UnclearReply: The reply is no answer.
            ConfigError: The file cannot be written.
        """

    def erase(self, question: Question) -> None:
        """Removes an answer.

        Raises:
            ConfigError: The file cannot be written.
        """


def ask_each(records: Sequence[Record], *, factors: Sequence[str]) -> Iterator[Question]:
    """Yields a question for each factor of each text."""
    for record in records:
        for factor in factors:
            yield Question(factor, (record,))


def ask_pairs(
    records: Sequence[Record], *, factors: Sequence[str], seed: int
) -> Iterator[Question]:
    """Yields a question for each factor of each two texts, in a random order.

    The order is a tournament by the circle method: in one round every text comes once (one rests if
    their number is odd), and after all rounds every text met every other one once.

    Args:
        records: The texts.
        factors: The factors to compare.
        seed: Of the order, and of which text of a pair comes first.
    """
    rng = np.random.default_rng(seed)
    seats: list[Record | None] = [records[place] for place in rng.permutation(len(records))]
    seats += [None] * (len(seats) % 2)
    ring = len(seats) - 1
    for start in rng.permutation(max(ring, 0)).tolist():
        meetings = [(seats[ring], seats[start])]
        for step in range(1, len(seats) // 2):
            meetings.append((seats[(start + step) % ring], seats[(start - step) % ring]))
        for (one, other), swap in zip(meetings, rng.random(len(meetings)) < 0.5, strict=True):
            if one is None or other is None or one.text == other.text:
                continue
            pair = (other, one) if swap else (one, other)
            for factor in factors:
                yield Question(factor, pair)
