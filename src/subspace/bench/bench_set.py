"""The retrieval set of a bench, without the queries that the model was fitted on."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from subspace.data.retrieval_sets import RetrievalSet, read_retrieval_set
from subspace.errors import ConfigError
from subspace.evaluation.unseen_queries import keep_unseen
from subspace.model import Model

_log = logging.getLogger(__name__)


def read_bench_set(
    folder: Path | str, *, model: Model, until: str | None = None
) -> tuple[RetrievalSet, tuple[str, ...]]:
    """Reads a retrieval set for a bench of a model.

    Args:
        folder: Folder of the set, in the BEIR layout.
        model: The model; queries that it was fitted on are left out.
        until: Text before which each document is cut; a document that begins with it stays whole.

    Returns:
        The set, and warnings for the reader of the tables.

    Raises:
        RecordError: Lines of the set are wrong; the error lists all of them.
    """
    data, warning = keep_unseen(read_retrieval_set(folder), model, name=str(folder))
    notes = (warning,) if warning else ()
    for note in notes:
        _log.warning(note)
    if until:
        documents = tuple(replace(d, text=_cut(d.text, until)) for d in data.documents)
        data = replace(data, documents=documents)
    return data, notes


def relevance_matrix(data: RetrievalSet) -> npt.NDArray[np.bool_]:
    """Marks the relevant documents of each query (Q, N).

    Raises:
        ConfigError: There are no queries, or a query has no relevant document.
    """
    if not data.queries:
        raise ConfigError("the retrieval set has no queries, so nothing can be measured")
    column = {document.id: position for position, document in enumerate(data.documents)}
    relevant = np.zeros((len(data.queries), len(data.documents)), dtype=bool)
    for row, query in enumerate(data.queries):
        relevant[row, [column[document] for document in data.relevant(query)]] = True
    if not relevant.any(axis=1).all():
        missing = list(data.queries)[int(np.flatnonzero(~relevant.any(axis=1))[0])]
        raise ConfigError(f"query '{missing}' has no relevant document, so nothing can succeed")
    return relevant


def _cut(text: str, end: str) -> str:
    """Cuts a text before `end`; keeps all of it if nothing would be left."""
    return text.partition(end)[0].rstrip() or text
