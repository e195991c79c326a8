"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """Formats the lines of a table; escapes bars and removes line breaks in cells."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(map(_cell, line))} |" for line in lines]


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
