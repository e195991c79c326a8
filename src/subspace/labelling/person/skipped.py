"""Skipped: the questions that a person skipped, kept in a file beside the answers."""

from pathlib import Path

from subspace.files import Problems, read_lines, write_lines
from subspace.labelling.person.questions import Question


class Skipped:
    """Questions that were skipped, kept in a file so that later runs ask them last."""

    def __init__(self, path: Path) -> None:
        """Reads the file, if there is one.

        Raises:
            RecordError: The file holds something else.
        """
        problems = Problems()
        self._path = path
        found = list(read_lines(path, problems=problems)) if path.exists() else []
        lines = [line for line in found if isinstance(line.value.get("skipped"), list)]
        self.keys = {tuple(map(str, line.value["skipped"])) for line in lines}
        problems.raise_if_any()

    def add(self, question: Question) -> None:
        """Adds a question, on disk at once."""
        self._write(self.keys | {question.key})

    def remove(self, question: Question) -> None:
        """Removes a question, on disk at once."""
        if question.key in self.keys:
            self._write(self.keys - {question.key})

    def _write(self, keys: set[tuple[str, ...]]) -> None:
        if keys:
            write_lines(self._path, [{"skipped": list(key)} for key in sorted(keys)])
        else:
            self._path.unlink(missing_ok=True)
        self.keys = keys
