"""RetrievalSet: documents, queries and relevance judgements in the BEIR layout."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from subspace.data.records import Record, Scalar, read_metadata
from subspace.files import Line, Problems, read_lines, read_text

_TEXTS = ("corpus.jsonl", "queries.jsonl")
# What files of judgements are also called.
_SPLITS = {"dev": "validation", "valid": "validation", "val": "validation"}


@dataclass(frozen=True)
class RetrievalSet:
    """A corpus, queries and judgements.

    Attributes:
        documents: What is searched.
        queries: Text of each query by id.
        relevance: Judged documents of each query and their grade, above 0 if relevant.
        splits: Which part of the set a query belongs to, where the set says so: its
            `metadata.split`, or the name of its file of judgements.
    """

    documents: tuple[Record, ...]
    queries: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, float]]
    splits: Mapping[str, str] = field(default_factory=dict)

    @property
    def judgements_sha256(self) -> str:
        """Hash of queries and judgements: what can be learned from, however documents are cut."""
        content = {
            "queries": dict(self.queries),
            "relevance": {query: dict(grades) for query, grades in self.relevance.items()},
        }
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def split(self, query: str) -> str:
        """The split of a query; `train` where the set names none."""
        return self.splits.get(query, "train")


def find_retrieval_sets(paths: Iterable[Path | str]) -> dict[str, Path]:
    """Folders that hold a retrieval set, by name: the paths themselves and their children."""
    found = {}
    for path in map(Path, paths):
        if path.is_dir():
            for folder in (path, *sorted(path.iterdir())):
                if all((folder / name).is_file() for name in _TEXTS) and _judgements(folder):
                    found[folder.absolute().name] = folder
    return found


def read_documents(path: Path | str) -> tuple[Record, ...]:
    """Reads texts to be found: JSONL with `id` or `_id`, `text` and perhaps `title`.

    Labelled records and the `corpus.jsonl` of a BEIR set both fit.

    Raises:
        RecordError: With every wrong line.
    """
    problems = Problems()
    documents = _read_documents(Path(path), problems=problems)
    if not documents and not len(problems):
        problems.add(str(path), "holds no texts")
    problems.raise_if_any()
    return tuple(documents.values())


def iterate_documents(
    path: Path, *, problems: Problems, start: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Line, Record]]:
    """Yields the documents of a JSONL file one by one, each with its line; notes wrong lines.

    Args:
        path: The file.
        problems: Where to note what is wrong; ids used twice are not looked for.
        start: Offset and number of the line to begin with.
    """
    for line in read_lines(path, problems=problems, start=start):
        key = "_id" if "_id" in line.value else "id"
        document_id = read_text(line.value, key, where=line.where, problems=problems)
        text = _read_content(line, problems=problems)
        if document_id is not None and text is not None:
            yield (
                line,
                Record(
                    id=document_id,
                    text=text,
                    metadata=_read_metadata(line),
                    title=line.value.get("title") or "",
                ),
            )


def read_retrieval_set(folder: Path | str) -> RetrievalSet:
    """Reads `corpus.jsonl`, `queries.jsonl`, and `qrels.tsv` or the files of `qrels/`.

    Judgements are lines of query, document and grade; a header line may come first.

    Raises:
        RecordError: With every wrong line, and every judgement of an unknown query or document.
    """
    folder = Path(folder)
    problems = Problems()
    splits: dict[str, str] = {}
    documents = _read_documents(folder / "corpus.jsonl", problems=problems)
    queries = _read_documents(folder / "queries.jsonl", problems=problems, splits=splits)
    relevance: dict[str, dict[str, float]] = {}
    files = _judgements(folder)
    if not files:
        problems.add(str(folder), "has no judgements: neither qrels.tsv nor qrels/*.tsv")
    for path in files:
        for where, query, document, grade in _read_judgements(path, problems=problems):
            if query not in queries or document not in documents:
                problems.add(where, f"judges an unknown query or document: {query!r}, {document!r}")
                continue
            relevance.setdefault(query, {})[document] = grade
            if path.parent != folder:
                splits.setdefault(query, _SPLITS.get(path.stem, path.stem))
    problems.raise_if_any()
    return RetrievalSet(
        documents=tuple(documents.values()),
        queries={query.id: query.text for query in queries.values()},
        relevance=relevance,
        splits=splits,
    )


def _judgements(folder: Path) -> list[Path]:
    single = folder / "qrels.tsv"
    return [single] if single.is_file() else sorted((folder / "qrels").glob("*.tsv"))


def _read_judgements(path: Path, *, problems: Problems) -> Iterator[tuple[str, str, str, float]]:
    """Yields where, query, document and grade; notes lines that are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.add(str(path), f"cannot be read: {error}")
        return
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        grade = _read_grade(fields[2]) if len(fields) == 3 else None
        if grade is not None:
            yield f"{path}:{number}", fields[0], fields[1], grade
        elif number > 1 or len(fields) != 3:  # the first line may be a header
            problems.add(
                f"{path}:{number}", f"must be query-id, corpus-id and a grade, got {line!r:.60}"
            )


def _read_documents(
    path: Path, *, problems: Problems, splits: dict[str, str] | None = None
) -> dict[str, Record]:
    """Documents or queries by id; notes the split of those that name one in `splits`."""
    documents: dict[str, Record] = {}
    first_seen: dict[str, str] = {}
    for line, document in iterate_documents(path, problems=problems):
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


def _read_metadata(line: Line) -> dict[str, Scalar]:
    """What a search can filter by: the scalars of `factors` and `metadata`."""
    return read_metadata(line.value.get("factors")) | read_metadata(line.value.get("metadata"))


def _read_content(line: Line, *, problems: Problems) -> str | None:
    """Title and text, or either where the other is empty."""
    if not line.value.get("title"):
        return read_text(line.value, "text", where=line.where, problems=problems)
    title = read_text(line.value, "title", where=line.where, problems=problems)
    if line.value.get("text") == "":
        return title
    text = read_text(line.value, "text", where=line.where, problems=problems)
    return None if title is None or text is None else f"{title}. {text}"


def _read_grade(text: str) -> float | None:
    try:
        grade = float(text)
    except ValueError:
        return None
    return grade if math.isfinite(grade) else None
