"""Texts with or without labels, each with the line that it comes from."""

from pathlib import Path

from subspace.data.records import Record, read_factors, read_id, read_origins
from subspace.files import Line, Problems, read_lines, read_text


def read_texts(path: Path | str) -> list[tuple[Line, Record]]:
    """Reads texts with or without labels from JSONL, each with its line.

    Raises:
        RecordError: With every wrong line.
    """
    problems = Problems()
    texts: dict[str, tuple[Line, Record]] = {}
    for line in read_lines(Path(path), problems=problems):
        record = _read_record(line, problems=problems)
        if record is not None and record.id in texts:
            first = texts[record.id][0].where
            problems.add(line.where, f"id '{record.id}' is used before, at {first}")
        elif record is not None:
            texts[record.id] = line, record
    if not texts and not len(problems):
        problems.add(str(path), "holds no texts")
    problems.raise_if_any()
    return list(texts.values())


def _read_record(line: Line, *, problems: Problems) -> Record | None:
    value, where = line.value, line.where
    record_id = read_id(value, where=where, problems=problems)
    text = read_text(value, "text", where=where, problems=problems)
    unlabelled = value.get("factors") in (None, {})
    factors = {} if unlabelled else read_factors(value["factors"], where=where, problems=problems)
    if record_id is None or text is None or factors is None:
        return None
    origins = read_origins(value.get("origins"), factors=factors, where=where, problems=problems)
    if origins is None:
        return None
    return Record(id=record_id, text=text, factors=factors, origins=origins)
