"""Records: texts in JSONL with or without labels, refused if any line is invalid."""

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from subspace.data.metadata import Value, read_metadata
from subspace.errors import ConfigError, check_type
from subspace.files import Line, Problems, is_hidden, read_lines, read_text

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

_log = logging.getLogger(__name__)

# Files of a BEIR retrieval set, which may be in the same folder as records.
_RETRIEVAL_FILES = ("corpus.jsonl", "queries.jsonl", "corpus.jsonl.gz", "queries.jsonl.gz")


@dataclass(frozen=True)
class Record:
    """One text with its labels and metadata, to fit on, to index, or both.

    Attributes:
        id: Unique within its source.
        text: The text to encode, not empty; begins with the title of a document that has one.
        source: Name of the corpus that it comes from.
        factors: Labels by factor: a string is a category, a number is ordered.
        split: Part of the source that it belongs to.
        group: Name shared by the texts of one source that say the same thing, or None.
        origins: By factor, the origin of a label that no human gave: `features`, `clusters`,
            `checkpoint:NAME`, `language-model:NAME`.
        metadata: JSON values by name, kept as they are. A search can filter by texts, numbers and
            truth values, also as members of lists, and by `factors`.
        title: The title alone, empty if there is none; not kept in an index.
    """

    id: str
    text: str
    source: str = ""
    factors: Mapping[str, str | float] = field(default_factory=dict)
    split: Split = "train"
    group: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Value] = field(default_factory=dict)
    title: str = field(default="", compare=False)


def read_records(*paths: Path | str, exclude: Sequence[str] = ()) -> tuple[Record, ...]:
    """Reads texts with or without labels from JSONL, in the order of the files.

    A line holds `id` and `text`, and optionally `factors`, `group`, `split`, `origins` and
    `metadata`.

    Args:
        paths: Files, folders with JSONL files, or folders of such folders; see `read_sources`.
        exclude: Names of sources to leave out.

    Raises:
        RecordError: Lines are invalid; lists each as `file:line: what is wrong`.
    """
    sources = read_sources(paths, exclude=exclude, labelled=False)
    return tuple(record for records in sources.values() for record in records)


def check_records(records: Iterable[Record]) -> Iterator[Record]:
    """Yields records.

    Raises:
        ConfigError: `records` cannot be iterated over, or yields something else.
    """
    hint = "read them with subspace.read_records"
    check_type(records, Iterable, name="records", hint=hint)
    if isinstance(records, str):  # its letters would be told one by one
        raise ConfigError(f"records must be of type Record, got str: {hint}")
    for record in records:
        check_type(record, Record, name="each of the records", hint=hint)
        yield record


def by_source(records: Iterable[Record]) -> dict[str, tuple[Record, ...]]:
    """Groups records by the name of their source, in the order of first occurrence.

    Raises:
        RecordError: A factor is a category in some records and a number in others.
        ConfigError: `records` does not hold records.
    """
    sources: dict[str, list[Record]] = {}
    for record in check_records(records):
        sources.setdefault(record.source, []).append(record)
    problems = Problems()
    _check_kinds(sources, problems=problems, places={})
    problems.raise_if_any()
    return {name: tuple(of_source) for name, of_source in sources.items()}


def read_sources(
    paths: Iterable[Path | str], *, exclude: Sequence[str] = (), labelled: bool = True
) -> dict[str, tuple[Record, ...]]:
    """Reads sources of records by name.

    A path is a file (one source, named after it, or after its folder if it is `records.jsonl`), a
    folder with JSONL files (one source, named after the folder), or a folder of such folders.
    `corpus.jsonl` and `queries.jsonl` belong to retrieval sets and are skipped in folders, and so
    are hidden files and folders. Sources that hold the same texts are named in a warning.

    Args:
        paths: Files or folders.
        exclude: Names of sources to leave out.
        labelled: Whether every text must have a label.

    Returns:
        The records by source name, in reading order.

    Raises:
        RecordError: Lines are invalid, or a path holds no records; lists each as
            `file:line: what is wrong`. Valid lines are not returned then.
    """
    problems = Problems()
    files: dict[str, list[Path]] = {}
    left_out = set()
    for path in map(Path, paths):
        found = _find_sources(path)
        if not found and not any((path / name).is_file() for name in _RETRIEVAL_FILES):
            problems.add(str(path), "holds no records (*.jsonl or *.jsonl.gz)")
        for name, source_files in found.items():
            if name in files:
                problems.add(str(path), f"a second source is called '{name}'; rename one")
            elif name in exclude:
                left_out.add(name)
            else:
                files[name] = source_files
    for name in exclude:
        if name not in left_out:  # a typing error, or a configuration for more data
            known = ", ".join(sorted({*files, *left_out}))
            _log.warning("there is no source '%s' to leave out; there are %s", name, known)
    places: dict[tuple[str, str], str] = {}
    sources = {
        name: _read_source(name, source_files, labelled=labelled, problems=problems, places=places)
        for name, source_files in files.items()
    }
    if not any(sources.values()) and not len(problems):
        problems.add(
            ", ".join(map(str, paths)),
            "no records: labelled texts lie in records.jsonl or another *.jsonl, while "
            "corpus.jsonl and queries.jsonl are of retrieval sets",
        )
    _check_kinds(sources, problems=problems, places=places)
    problems.raise_if_any()
    _warn_of_copies(sources)
    return sources


def assign_split(key: str) -> Split:
    """Chooses a split from a hash of `key`: 80 % train, 10 % validation, 10 % test."""
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % 10
    return "train" if bucket < 8 else "validation" if bucket == 8 else "test"


def hash_records(records: Iterable[Record]) -> str:
    """Computes the SHA-256 of records: ids, texts, groups, labels, splits and origins.

    Depends on the order of the records, but not on their files or the order of keys.
    """
    digest = hashlib.sha256()
    for record in records:
        line = [record.id, record.text, record.group, sorted(record.factors.items()), record.split]
        if record.origins:
            line.append(sorted(record.origins.items()))
        digest.update(json.dumps(line, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def _find_sources(path: Path) -> dict[str, list[Path]]:
    if not path.is_dir():
        name = path.name.removesuffix(".gz").removesuffix(".jsonl")
        return {name if name != "records" else path.absolute().parent.name: [path]}
    own = [
        file
        for pattern in ("*.jsonl", "*.jsonl.gz")
        for file in sorted(path.glob(pattern))
        if file.name not in _RETRIEVAL_FILES and not is_hidden(file)
    ]
    if own:
        return {path.absolute().name: own}
    found: dict[str, list[Path]] = {}
    for folder in sorted(
        child for child in path.iterdir() if child.is_dir() and not is_hidden(child)
    ):
        files = _find_sources(folder)
        if folder.name in files:  # one level only: a source is a direct child
            found[folder.name] = files[folder.name]
    return found


def _read_source(
    name: str,
    files: Sequence[Path],
    *,
    labelled: bool,
    problems: Problems,
    places: dict[tuple[str, str], str],
) -> tuple[Record, ...]:
    """Reads one source; enters `file:line` of each of its records into `places`."""
    lines: list[Line] = []
    for path in files:
        before = len(lines), len(problems)
        lines.extend(read_lines(path, problems=problems))
        if (len(lines), len(problems)) == before:
            problems.add(str(path), "holds no records")
    file_has_splits = any("split" in line.value for line in lines)
    records: list[Record] = []
    first_seen: dict[str, str] = {}
    split_of_group: dict[str, tuple[Split, str]] = {}
    for line in lines:
        record = _read_record(
            line,
            source=name,
            labelled=labelled,
            needs_split=file_has_splits,
            problems=problems,
        )
        if record is None:
            continue
        if record.id in first_seen:
            problems.add(line.where, f"id '{record.id}' is used before, at {first_seen[record.id]}")
            continue
        first_seen[record.id] = places[name, record.id] = line.where
        if record.group is not None:
            split, where = split_of_group.setdefault(record.group, (record.split, line.where))
            if split != record.split:
                problems.add(
                    line.where,
                    f"group '{record.group}' is in '{record.split}' here and in '{split}' at "
                    f"{where}; parallel texts must share a split",
                )
        records.append(record)
    return tuple(records)


def _read_record(
    line: Line, *, source: str, labelled: bool, needs_split: bool, problems: Problems
) -> Record | None:
    value, where = line.value, line.where
    record_id = read_id(value, where=where, problems=problems)
    text = read_text(value, "text", where=where, problems=problems)
    group = value.get("group")
    if group is not None and read_text(value, "group", where=where, problems=problems) is None:
        return None
    unlabelled = not labelled and value.get("factors") in (None, {})
    factors = (
        {} if unlabelled else read_factors(value.get("factors"), where=where, problems=problems)
    )
    if record_id is None or text is None or factors is None:
        return None
    origins = read_origins(value.get("origins"), factors=factors, where=where, problems=problems)
    if origins is None:
        return None
    metadata = read_metadata(value.get("metadata"), key="metadata", where=where, problems=problems)
    if metadata is None:
        return None
    split = value.get("split") if needs_split else assign_split(group or record_id)
    if split not in SPLITS:
        problems.add(where, f"'split' must be one of {', '.join(SPLITS)}, got {split!r:.60}")
        return None
    return Record(
        id=record_id,
        text=text,
        source=source,
        factors=factors,
        split=cast(Split, split),
        group=group,
        origins=origins,
        metadata=metadata,
    )


def read_id(
    value: Mapping[str, object], *, where: str, problems: Problems, beir: bool = False
) -> str | None:
    """Reads the id of a line; adds a problem and returns None if it has none, or two.

    Args:
        value: The line.
        where: Its file and number.
        problems: Receives what is wrong.
        beir: Whether it may be called `_id`, as in retrieval sets.
    """
    if "_id" not in value:
        return read_text(value, "id", where=where, problems=problems)
    if "id" in value and value["id"] != value["_id"]:
        problems.add(
            where,
            f"has two ids: 'id' is {value['id']!r:.60} and '_id' is {value['_id']!r:.60}; keep one",
        )
        return None
    if "id" not in value and not beir:
        problems.add(where, "has '_id' and no 'id', which names a labelled text: rename it to 'id'")
        return None
    return read_text(value, "_id", where=where, problems=problems)


def read_factors(
    value: object, *, where: str, problems: Problems
) -> Mapping[str, str | float] | None:
    """Reads labels by factor, at least one; adds a problem and returns None if any is invalid."""
    if not isinstance(value, dict) or not value:
        problems.add(where, f"'factors' must name at least one factor, got {value!r:.60}")
        return None
    factors: dict[str, str | float] = {}
    for name, label in value.items():
        number = _to_number(label)
        if number is not None:
            factors[name] = number
        elif isinstance(label, str) and label.strip() and _is_encodable(name + label):
            factors[name] = label
        else:
            problems.add(
                where, f"factor '{name}' must be a text or a finite number, got {label!r:.60}"
            )
            return None
    return factors


def read_origins(
    value: object, *, factors: Mapping[str, str | float], where: str, problems: Problems
) -> Mapping[str, str] | None:
    """Reads the origins of labels by factor; adds a problem and returns None if any is invalid."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.add(where, f"'origins' must say who gave a label, by factor, got {value!r:.60}")
        return None
    for name, origin in value.items():
        if name not in factors:
            problems.add(where, f"'origins' names '{name}', which 'factors' does not")
            return None
        if not isinstance(origin, str) or not origin.strip() or not _is_encodable(origin):
            problems.add(where, f"the origin of '{name}' must be a text, got {origin!r:.60}")
            return None
    return value


def _is_encodable(text: str) -> bool:
    """Tells whether a text has no unpaired surrogates, which UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _to_number(label: object) -> float | None:
    if isinstance(label, bool) or not isinstance(label, int | float):
        return None
    try:
        number = float(label)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _warn_of_copies(sources: Mapping[str, Sequence[Record]]) -> None:
    """Warns of sources with the same texts: what is measured across them says nothing."""
    first: dict[bytes, str] = {}
    for name, records in sources.items():
        digests = sorted(hashlib.sha256(record.text.encode()).digest() for record in records)
        other = first.setdefault(hashlib.sha256(b"".join(digests)).digest(), name)
        if other != name:
            _log.warning(
                "the sources '%s' and '%s' hold the same texts, so that what is measured across "
                "corpora is measured within one; leave one of them out",
                other,
                name,
            )


def _check_kinds(
    sources: Mapping[str, Sequence[Record]],
    *,
    problems: Problems,
    places: Mapping[tuple[str, str], str],
) -> None:
    """Adds a problem if a factor is a category in some records and a number in others.

    Args:
        sources: The records by source.
        problems: Receives the first such record of each source and factor.
        places: `file:line` by source and id, where records were read from files.
    """
    first: dict[str, tuple[type, str]] = {}
    for name, records in sources.items():
        told: set[str] = set()
        for record in records:
            place = places.get((name, record.id), f"{name}/{record.id}")
            for factor, label in record.factors.items():
                kind, where = first.setdefault(factor, (type(label), place))
                if kind is not type(label) and factor not in told:
                    told.add(factor)
                    problems.add(
                        place,
                        f"factor '{factor}' is {label!r} here and a "
                        f"{'text' if kind is str else 'number'} at {where}; use one kind",
                    )
