"""LabelNotebook: keeps labels by a person in a file of records."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.files import Line, write_lines
from subspace.labelling.label_file import labelled_line
from subspace.labelling.label_texts import human_labels
from subspace.labelling.person.guarded_file import GuardedFile
from subspace.labelling.person.questions import Question
from subspace.labelling.person.scale import make_scale
from subspace.labelling.read_texts import read_texts

_Entry = tuple[Line, Record]
_Value = TypeVar("_Value")


class LabelNotebook:
    """Keeps labels as lines of records without an origin, in the order in which they were given.

    The output holds the texts that people have labelled: those of the input that have a label by a
    person already, and those that are asked for. It is written whole after every answer.
    """

    def __init__(
        self,
        texts: Sequence[_Entry],
        output: Path,
        *,
        factors: Sequence[str],
        classes: Mapping[str, Sequence[str]],
    ) -> None:
        """Reads what the output holds from earlier runs.

        Args:
            texts: The texts of the input, each with its line.
            output: File of the labels.
            factors: The factors to label.
            classes: By factor, the classes that it can have; no entry for numbers.

        Raises:
            ConfigError: The output holds other texts under the same ids, or labels of a factor are
                of two kinds.
            RecordError: Lines of the output are invalid.
        """
        self._file, self._factors = GuardedFile(output), tuple(factors)
        self._blank = {record.id: (line, self._without_guesses(record)) for line, record in texts}
        given = {
            name: entry
            for name, entry in self._blank.items()
            if set(self._factors) & set(human_labels(entry[1]))
        }
        self._given = {
            (factor, name) for name, entry in given.items() for factor in human_labels(entry[1])
        }
        kept = self._read_output()
        self._entries = {name: one for name, one in given.items() if name not in kept} | kept
        self._scales = {
            factor: make_scale(
                factor,
                declared=classes.get(factor, ()),
                seen=[
                    human_labels(record)[factor]
                    for _, record in self._entries.values()
                    if factor in human_labels(record)
                ],
            )
            for factor in self._factors
        }

    @property
    def past(self) -> list[Question]:
        """Questions that have an answer, the last one at the end."""
        return [
            Question(factor, (self._blank[name][1],))
            for name, (_, record) in self._entries.items()
            for factor in human_labels(record)
            if factor in self._factors and name in self._blank and (factor, name) not in self._given
        ]

    def is_answered(self, question: Question) -> bool:
        """Tells whether a person gave the label, in the input or in an earlier answer."""
        entry = self._entries.get(question.records[0].id)
        return entry is not None and question.factor in human_labels(entry[1])

    def prompt(self, question: Question) -> str:
        """Returns the factor and the answers that it can have."""
        return f"{question.factor}: {self._scales[question.factor].hint}"

    def note(self, question: Question, reply: str) -> str:
        """Writes a label; see `Notebook.note`."""
        factor, name = question.factor, question.records[0].id
        label = self._scales[factor].read(reply)
        line, record = self._entries.get(name, self._blank[name])
        factors = {**_less(record.factors, factor), factor: label}
        record = replace(record, factors=factors, origins=_less(record.origins, factor))
        self._write({**_less(self._entries, name), name: (line, record)})
        return f"{factor} {label if isinstance(label, str) else format(label, 'g')}"

    def erase(self, question: Question) -> None:
        """Removes a label; a text that the input does not say more about is removed, too."""
        factor, name = question.factor, question.records[0].id
        line, record = self._entries[name]
        record = replace(record, factors=_less(record.factors, factor))
        entries = {**self._entries, name: (line, record)}
        blank = self._blank[name][1]
        if record.factors == blank.factors and not any(
            (f, name) in self._given for f in blank.factors
        ):
            entries = _less(entries, name)
        self._write(entries)

    def _without_guesses(self, record: Record) -> Record:
        """Returns a record without labels that no person gave of the factors to ask for."""
        gone = set(self._factors) & set(record.origins)
        return replace(
            record,
            factors={name: label for name, label in record.factors.items() if name not in gone},
            origins={name: origin for name, origin in record.origins.items() if name not in gone},
        )

    def _read_output(self) -> dict[str, _Entry]:
        if self._file.is_empty:
            return {}
        found = {record.id: (line, record) for line, record in read_texts(self._file.path)}
        for name, (line, record) in found.items():
            if name in self._blank and self._blank[name][1].text != record.text:
                raise ConfigError(
                    f"{line.where}: '{name}' is another text than at {self._blank[name][0].where}; "
                    "give another --output"
                )
        return found

    def _write(self, entries: dict[str, _Entry]) -> None:
        with self._file.changing() as path:
            if entries:
                write_lines(path, [labelled_line(*entry) for entry in entries.values()])
            else:
                path.unlink(missing_ok=True)
        self._entries = entries


def _less(values: Mapping[str, _Value], name: str) -> dict[str, _Value]:
    return {key: value for key, value in values.items() if key != name}
