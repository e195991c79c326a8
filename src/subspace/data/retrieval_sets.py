"""RetrievalSet: documents, queries and relevance judgements in the BEIR layout."""

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from subspace.content import name_content
from subspace.data.metadata import Value, find_clash, read_metadata
from subspace.data.records import Record, read_id
from subspace.files import Line, Problems, is_hidden, read_lines, read_text

_log = logging.getLogger(__name__)

_TEXTS = ("corpus.jsonl", "queries.jsonl")
# Other names of splits, used by some sets.
_SPLITS = {"dev": "validation", "valid": "validation", "val": "validation"}


@dataclass(frozen=True)
class RetrievalSet:
    """A corpus, queries and judgements.

    Attributes:
        documents: The texts to search.
        queries: Text of each query by id.
        relevance: Grades by query id and document id, above 0 if the document is relevant.
        splits: Split by query id, where the set states it: in the query's `metadata.split`, or by
            the name of its file of judgements.
    """

    documents: tuple[Record, ...]
    queries: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, float]]
    splits: Mapping[str, str] = field(default_factory=dict)

    @property
    def judgements_sha256(self) -> str:
        """SHA-256 of queries and judgements; does not depend on the documents' texts."""
        content = {
            "queries": dict(self.queries),
            "relevance": {query: dict(grades) for query, grades in self.relevance.items()},
        }
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def split(self, query: str) -> str:
        """Returns the split of a query; `train` if the set states none."""
        return self.splits.get(query, "train")

    def relevant(self, query: str) -> list[str]:
        """Returns the ids of the documents that are judged relevant to a query: grades above 0."""
        return [one for one, grade in self.relevance.get(query, {}).items() if grade > 0]


def query_key(text: str) -> str:
    """Returns the key by which a model remembers a query that it learned from."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_retrieval_sets(paths: Iterable[Path | str]) -> dict[str, Path]:
    """Finds the folders with a retrieval set among `paths` and their children, by name."""
    found = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = (child for child in sorted(path.iterdir()) if not is_hidden(child))
            for folder in (path, *inside):
                if all((folder / name).is_file() for name in _TEXTS) and _judgements(folder):
                    found[folder.absolute().name] = folder
    return found


def read_documents(path: Path | str) -> tuple[Record, ...]:
    """Reads documents from JSONL with `id` or `_id`, `text` and optionally `title`.

    Accepts labelled records and the `corpus.jsonl` of a BEIR set. Documents of the latter (with
    `_id`) that have neither title nor text are passed over, and counted in a warning.

    Raises:
        RecordError: The file cannot be read or has no texts, or lines are invalid; lists them all.
    """
    problems = Problems()
    empty: list[str] = []
    documents = _read_documents(Path(path), problems=problems, empty=empty)
    if not documents and not len(problems):
        problems.add(str(path), "holds no texts")
    problems.raise_if_any()
    warn_of_empty(path, empty)
    return tuple(documents.values())


def iterate_documents(
    path: Path,
    *,
    problems: Problems,
    empty: list[str] | None = None,
    start: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Line, Record]]:
    """Yields the documents of a JSONL file, each with its line; skips and reports invalid lines.

    Args:
        path: The file.
        problems: Receives a problem per invalid line; repeated ids are not detected.
        empty: Receives the ids of documents in the BEIR layout (with `_id`) that have neither
            title nor text, which are not yielded; None if these are problems.
        start: Offset and number of the first line to read.
    """
    for line in read_lines(path, problems=problems, start=start):
        document_id = read_id(line.value, where=line.where, problems=problems, beir=True)
        if empty is not None and "_id" in line.value and _is_empty(line.value):
            if document_id is not None:
                empty.append(document_id)
            continue
        text = _read_content(line, problems=problems)
        metadata = _read_metadata(line, problems=problems)
        if document_id is not None and text is not None and metadata is not None:
            yield (
                line,
                Record(
                    id=document_id,
                    text=text,
                    metadata=metadata,
                    title=line.value.get("title") or "",
                ),
            )


def warn_of_empty(path: Path | str, empty: Sequence[str], *, judgements: int = 0) -> None:
    """Warns of documents without a text, which are passed over."""
    if empty:
        _log.warning(
            "%s: documents with neither title nor text, which no search finds: %d (%s%s)%s",
            path,
            len(empty),
            ", ".join(f"'{name:.60}'" for name in empty[:3]),
            ", ..." if len(empty) > 3 else "",
            f"; judgements of them that are left out: {judgements}" if judgements else "",
        )


def read_retrieval_set(folder: Path | str, *, judged: bool = True) -> RetrievalSet:
    """Reads `corpus.jsonl`, `queries.jsonl`, and `qrels.tsv` or the files of `qrels/`.

    A line of judgements holds a query id, a document id and a grade, separated by tabs; the first
    line may be a header. Documents with neither title nor text are passed over, with their
    judgements, and counted in a warning.

    Args:
        folder: The folder.
        judged: Whether there must be judgements.

    Raises:
        RecordError: Lines are invalid, judgements name unknown queries or documents or give a pair
            two grades, or there are no judgements; lists every problem.
    """
    folder = Path(folder)
    problems = Problems()
    splits: dict[str, str] = {}
    empty: list[str] = []
    documents = _read_documents(folder / "corpus.jsonl", problems=problems, empty=empty)
    queries = _read_documents(folder / "queries.jsonl", problems=problems, splits=splits)
    relevance: dict[str, dict[str, float]] = {}
    files = _judgements(folder)
    passed_over, left_out = set(empty), 0
    if judged and not files:
        problems.add(str(folder), "has no judgements: neither qrels.tsv nor qrels/*.tsv")
    for path in files:
        for where, query, document, grade in _read_judgements(path, problems=problems):
            if query in queries and document in passed_over:
                left_out += 1
                continue
            if query not in queries or document not in documents:
                problems.add(where, f"judges an unknown query or document: {query!r}, {document!r}")
                continue
            before = relevance.setdefault(query, {}).setdefault(document, grade)
            if before != grade:
                problems.add(
                    where,
                    f"gives {query!r} and {document!r} the grade {grade:g}, before {before:g}",
                )
            if path.parent != folder:
                splits.setdefault(query, _SPLITS.get(path.stem, path.stem))
    problems.raise_if_any()
    warn_of_empty(folder / "corpus.jsonl", empty, judgements=left_out)
    return RetrievalSet(
        documents=tuple(documents.values()),
        queries={query.id: query.text for query in queries.values()},
        relevance=relevance,
        splits=splits,
    )


def _judgements(folder: Path) -> list[Path]:
    single = folder / "qrels.tsv"
    if single.is_file():
        return [single]
    return [path for path in sorted((folder / "qrels").glob("*.tsv")) if not is_hidden(path)]


def _read_judgements(path: Path, *, problems: Problems) -> Iterator[tuple[str, str, str, float]]:
    """Yields `file:line`, query, document and grade; skips and reports invalid lines."""
    try:
        # Not splitlines: an id may hold characters that are line breaks of other systems.
        raw = path.read_bytes()
        said = name_content(raw)
        if said is not None:
            problems.add(f"{path}:1", said)
            return
        lines = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        problems.add(str(path), f"cannot be read: {error}")
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fields = line.removesuffix("\r").split("\t")
        grade = _read_grade(fields[2]) if len(fields) == 3 else None
        if grade is not None:
            yield f"{path}:{number}", fields[0], fields[1], grade
        elif number > 1 or len(fields) != 3:  # the first line may be a header
            problems.add(
                f"{path}:{number}", f"must be query-id, corpus-id and a grade, got {line!r:.60}"
            )


def _read_documents(
    path: Path,
    *,
    problems: Problems,
    splits: dict[str, str] | None = None,
    empty: list[str] | None = None,
) -> dict[str, Record]:
    """Reads documents or queries by id; enters the splits that they state into `splits`."""
    documents: dict[str, Record] = {}
    first_seen: dict[str, str] = {}
    for line, document in iterate_documents(path, problems=problems, empty=empty):
        if document.id in first_seen:
            problems.add(
                line.where, f"id '{document.id}' is used before, at {first_seen[document.id]}"
            )
            continue
        first_seen[document.id] = line.where
        documents[document.id] = document
        metadata = line.value.get("metadata")
        split = metadata.get("split") if isinstance(metadata, dict) else None
        if splits is not None and isinstance(split, str):
            splits[document.id] = _SPLITS.get(split, split)
    return documents


def _read_metadata(line: Line, *, problems: Problems) -> dict[str, Value] | None:
    """Reads the values of `factors` and `metadata`, which a search can filter by."""
    found = [
        read_metadata(line.value.get(key), key=key, where=line.where, problems=problems)
        for key in ("factors", "metadata")
    ]
    factors, metadata = found
    if factors is None or metadata is None:
        return None
    twice = find_clash(factors, metadata)
    if twice is not None:
        problems.add(line.where, twice)
        return None
    return factors | metadata


def _read_content(line: Line, *, problems: Problems) -> str | None:
    """Reads title and text as one text; either may be empty."""
    if not line.value.get("title"):
        return read_text(line.value, "text", where=line.where, problems=problems)
    title = read_text(line.value, "title", where=line.where, problems=problems)
    if line.value.get("text") == "":
        return title
    text = read_text(line.value, "text", where=line.where, problems=problems)
    return None if title is None or text is None else f"{title}. {text}"


def _is_empty(value: Mapping[str, object]) -> bool:
    """Tells whether both title and text are missing or blank."""
    return all(
        text is None or (isinstance(text, str) and not text.strip())
        for text in (value.get("title"), value.get("text"))
    )


def _read_grade(text: str) -> float | None:
    try:
        grade = float(text)
    except ValueError:
        return None
    return grade if math.isfinite(grade) else None
