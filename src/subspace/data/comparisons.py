"""Comparisons: which of two texts has more of a factor, read from and written to JSONL."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from subspace.files import Problems, read_lines, read_text, to_line, write_lines


@dataclass(frozen=True)
class Comparison:
    """One text has more of a factor than another, as a person judged.

    Attributes:
        factor: The factor that was compared.
        more: Id of the text that has more of it.
        less: Id of the text that has less of it.
    """

    factor: str
    more: str
    less: str


def read_comparisons(path: Path | str) -> tuple[Comparison, ...]:
    """Reads comparisons from JSONL; a line holds `factor`, `more` and `less`.

    Raises:
        RecordError: Lines are invalid; lists each as `file:line: what is wrong`.
    """
    problems = Problems()
    found = []
    for line in read_lines(Path(path), problems=problems):
        values = [
            read_text(line.value, key, where=line.where, problems=problems)
            for key in ("factor", "more", "less")
        ]
        if None in values:
            continue
        comparison = Comparison(*map(str, values))
        if comparison.more == comparison.less:
            problems.add(line.where, f"'{comparison.more}' is compared with itself")
        found.append(comparison)
    if not found and not len(problems):
        problems.add(str(path), "holds no comparisons (`factor`, `more` and `less`)")
    problems.raise_if_any()
    return tuple(found)


def comparisons_to_jsonl(comparisons: Iterable[Comparison]) -> str:
    """Returns the text of a file that `read_comparisons` reads."""
    return "".join(to_line(vars(one)) for one in comparisons)


def write_comparisons(path: Path | str, comparisons: Iterable[Comparison]) -> None:
    """Writes comparisons as JSONL atomically.

    Raises:
        ConfigError: The file cannot be written.
    """
    write_lines(Path(path), [vars(one) for one in comparisons])
