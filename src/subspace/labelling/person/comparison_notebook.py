"""ComparisonNotebook: keeps comparisons by a person in a file."""

from collections.abc import Sequence
from pathlib import Path

from subspace.data.comparisons import Comparison, read_comparisons, write_comparisons
from subspace.data.records import Record
from subspace.labelling.person.guarded_file import GuardedFile
from subspace.labelling.person.questions import Question
from subspace.labelling.person.scale import UnclearReply


class ComparisonNotebook:
    """Keeps comparisons in the order in which they were given.

    The file is written whole after every answer.
    """

    def __init__(self, records: Sequence[Record], output: Path, *, factors: Sequence[str]) -> None:
        """Reads what the output holds from earlier runs.

        Args:
            records: The texts that are compared.
            output: File of the comparisons.
            factors: The factors that are compared.

        Raises:
            RecordError: Lines of the output are invalid.
        """
        self._file, self._factors = GuardedFile(output), tuple(factors)
        self._records = {record.id: record for record in records}
        self._comparisons = [] if self._file.is_empty else list(read_comparisons(output))

    @property
    def past(self) -> list[Question]:
        """Questions that have an answer, the last one at the end."""
        return [
            Question(one.factor, (self._records[first], self._records[second]))
            for one in self._comparisons
            for first, second in [sorted((one.more, one.less))]
            if one.factor in self._factors and {first, second} <= self._records.keys()
        ]

    def is_answered(self, question: Question) -> bool:
        """Tells whether the two texts were compared."""
        return question.key in map(_key, self._comparisons)

    def prompt(self, question: Question) -> str:
        """Returns which of the texts is asked for."""
        return f"which one has more {question.factor}? 1 or 2"

    def note(self, question: Question, reply: str) -> str:
        """Writes a comparison; see `Notebook.note`."""
        if reply not in ("1", "2"):
            raise UnclearReply("answer by 1 or 2")
        first, second = (record.id for record in question.records)
        more, less = (first, second) if reply == "1" else (second, first)
        self._write([*self._comparisons, Comparison(question.factor, more, less)])
        return f"{more:.60} has more {question.factor}"

    def erase(self, question: Question) -> None:
        """Removes a comparison."""
        self._write([one for one in self._comparisons if _key(one) != question.key])

    def _write(self, comparisons: list[Comparison]) -> None:
        with self._file.changing() as path:
            if comparisons:
                write_comparisons(path, comparisons)
            else:
                path.unlink(missing_ok=True)
        self._comparisons = comparisons


def _key(comparison: Comparison) -> tuple[str, ...]:
    return (comparison.factor, *sorted((comparison.more, comparison.less)))
