"""Texts with ids and metadata, as LangChain gives them, to records; hits to documents."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.integrations.found import copied, without_found
from subspace.retrieval import Hit, Results


def to_records(
    texts: Iterable[str],
    metadatas: Sequence[Mapping[str, Any] | None] | None,
    *,
    ids: Sequence[str | None] | None,
) -> list[Record]:
    """Returns texts as records; ids that are missing are made up.

    Raises:
        ConfigError: The numbers of texts, ids and metadata differ, or metadata are no mapping.
    """
    if isinstance(texts, str):
        raise ConfigError("texts are a list; put a single one in brackets")
    texts = list(texts)
    for name, given in (("metadatas", metadatas), ("ids", ids)):
        if given is not None and (isinstance(given, str) or len(given) != len(texts)):
            raise ConfigError(f"{name} must be a list of {len(texts)}, one for each text")
    for metadata in metadatas or ():
        if metadata is not None and not isinstance(metadata, Mapping):
            raise ConfigError(f"metadata of a text are values by name, got {metadata!r:.60}")
    names = ids or [None] * len(texts)
    return [
        Record(
            id=str(uuid.uuid4()) if name is None else name,
            text=text,
            metadata=without_found(metadata or {}),
        )
        for text, metadata, name in zip(texts, metadatas or [{}] * len(texts), names, strict=True)
    ]


def to_document(item: Hit | Record) -> Document:
    """Returns an item as it was added; changes of the document do not change the index."""
    return Document(id=item.id, page_content=item.text, metadata=copied(item.metadata))


def to_scored(results: Results) -> list[tuple[Document, float]]:
    """Returns the hits as documents with their scores."""
    return [(to_document(hit), hit.score) for hit in results]
