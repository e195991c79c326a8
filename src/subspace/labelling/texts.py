"""Texts to label: JSONL whose lines keep whatever else they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace.data.records import read_factors, read_origins
from subspace.data.retrieval_sets import Document
from subspace.files import Line, Problems, read_lines, read_text

Label = str | float


@dataclass(frozen=True)
class Text:
    """One line of the file.

    Attributes:
        where: `file:line`.
        line: All that it holds.
        id: Its id.
        text: Its text.
        labels: Its labels by factor, perhaps none.
        origins: Who gave them, by factor, where it was no human.
    """

    where: str
    line: Mapping[str, Any]
    id: str
    text: str
    labels: Mapping[str, Label]
    origins: Mapping[str, str]

    @property
    def document(self) -> Document:
        """What an annotator is given."""
        return Document(id=self.id, text=self.text)

    @property
    def human(self) -> Mapping[str, Label]:
        """Labels that a human gave."""
        return {name: label for name, label in self.labels.items() if name not in self.origins}

    def labelled(
        self,
        given: Mapping[str, Mapping[str, Label]],
        *,
        factors: Sequence[str],
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """The line with labels; of several for one factor the first given.

        Args:
            given: Labels by factor, by origin.
            factors: What to label.
            overwrite: Whether labels that a human gave are replaced.
        """
        labels, origins = dict(self.labels), dict(self.origins)
        for factor in factors:
            found = [(origin, own[factor]) for origin, own in given.items() if factor in own]
            if found and (overwrite or factor not in self.human):
                origins[factor], labels[factor] = found[0]
        rest = {name: value for name, value in self.line.items() if name != "origins"}
        return {**rest, "factors": labels, **({"origins": origins} if origins else {})}


def read_texts(path: Path | str) -> tuple[Text, ...]:
    """Reads JSONL with `id`, `text`, and perhaps `factors`, `origins` and whatever else.

    Raises:
        RecordError: With every wrong line.
    """
    problems = Problems()
    texts: dict[str, Text] = {}
    for line in read_lines(Path(path), problems=problems):
        text = _read(line, problems=problems)
        if text is not None and text.id in texts:
            problems.add(line.where, f"id '{text.id}' is used before")
        elif text is not None:
            texts[text.id] = text
    if not texts and not len(problems):
        problems.add(str(path), "holds no texts")
    problems.raise_if_any()
    return tuple(texts.values())


def _read(line: Line, *, problems: Problems) -> Text | None:
    value, where = line.value, line.where
    name = read_text(value, "id", where=where, problems=problems)
    text = read_text(value, "text", where=where, problems=problems)
    unlabelled = value.get("factors") in (None, {})
    labels = {} if unlabelled else read_factors(value["factors"], where=where, problems=problems)
    if name is None or text is None or labels is None:
        return None
    origins = read_origins(value.get("origins"), factors=labels, where=where, problems=problems)
    if origins is None:
        return None
    return Text(where, line=value, id=name, text=text, labels=labels, origins=origins)
