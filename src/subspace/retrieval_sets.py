"""RetrievalSet: documents, queries and relevance judgements in the BEIR layout."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from subspace.jsonl import Problems, read_lines, read_text


@dataclass(frozen=True)
class Document:
    """One text that can be found.

    Attributes:
        id: Unique in its set.
        text: What is encoded: the title, if there is one, and the text.
    """

    id: str
    text: str


@dataclass(frozen=True)
class RetrievalSet:
    """A corpus, queries and judgements.

    Attributes:
        documents: What is searched.
        queries: Text of each query by id.
        relevance: Judged documents of each query and their grade, above 0 if relevant.
    """

    documents: tuple[Document, ...]
    queries: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, float]]


def read_documents(path: Path | str) -> tuple[Document, ...]:
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


def read_retrieval_set(folder: Path | str) -> RetrievalSet:
    """Reads `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`.

    Raises:
        RecordError: With every wrong line, and every judgement of an unknown query or document.
    """
    folder = Path(folder)
    problems = Problems()
    documents = _read_documents(folder / "corpus.jsonl", problems=problems)
    queries = _read_documents(folder / "queries.jsonl", problems=problems)
    relevance: dict[str, dict[str, float]] = {}
    path = folder / "qrels.tsv"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.add(str(path), f"cannot be read: {error}")
        lines = []
    for number, line in enumerate(lines[1:], start=2):  # the first line is a header
        where = f"{path}:{number}"
        fields = line.split("\t")
        grade = _read_grade(fields[2]) if len(fields) == 3 else None
        if grade is None:
            problems.add(where, f"must be query-id, corpus-id and a grade, got {line!r:.60}")
        elif fields[0] not in queries or fields[1] not in documents:
            problems.add(where, f"judges an unknown query or document: {line!r:.60}")
        else:
            relevance.setdefault(fields[0], {})[fields[1]] = grade
    problems.raise_if_any()
    return RetrievalSet(
        documents=tuple(documents.values()),
        queries={query.id: query.text for query in queries.values()},
        relevance=relevance,
    )


def _read_documents(path: Path, *, problems: Problems) -> dict[str, Document]:
    documents: dict[str, Document] = {}
    first_seen: dict[str, str] = {}
    for line in read_lines(path, problems=problems):
        key = "_id" if "_id" in line.value else "id"
        document_id = read_text(line.value, key, where=line.where, problems=problems)
        text = read_text(line.value, "text", where=line.where, problems=problems)
        if document_id is None or text is None:
            continue
        if document_id in first_seen:
            problems.add(
                line.where, f"id '{document_id}' is used before, at {first_seen[document_id]}"
            )
            continue
        first_seen[document_id] = line.where
        if line.value.get("title"):
            title = read_text(line.value, "title", where=line.where, problems=problems)
            text = f"{title}. {text}"
        documents[document_id] = Document(id=document_id, text=text)
    return documents


def _read_grade(text: str) -> float | None:
    try:
        grade = float(text)
    except ValueError:
        return None
    return grade if math.isfinite(grade) else None
