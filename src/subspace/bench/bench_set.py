"""The retrieval set of a bench, without the queries that the model was fitted on."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from subspace.data.retrieval_sets import RetrievalSet, read_retrieval_set
from subspace.errors import ConfigError
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


def keep_unseen(data: RetrievalSet, model: Model, *, name: str) -> tuple[RetrievalSet, str | None]:
    """Leaves out the queries of the split `train` if the model was fitted on the set.

    Args:
        data: The set.
        model: The model; its recipe has a hash of the judgements of each set it was fitted on.
        name: Name of the set in the warning.

    Returns:
        The set, and a warning or None. If no query would be left, all of them stay and the
        warning says so.
    """
    if data.judgements_sha256 not in model.recipe.get("pairs", {}).values():
        return data, None
    unseen = {query: text for query, text in data.queries.items() if data.split(query) != "train"}
    seen = len(data.queries) - len(unseen)
    if not unseen:
        return data, (
            f"the checkpoint was fitted on all {seen} queries of '{name}': its results there say "
            "nothing about other queries"
        )
    warning = (
        f"{seen} of the {len(data.queries)} queries of '{name}' are left out: the checkpoint was "
        "fitted on them"
    )
    return replace(data, queries=unseen), warning


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
        for document, grade in data.relevance.get(query, {}).items():
            relevant[row, column[document]] = grade > 0
    if not relevant.any(axis=1).all():
        missing = list(data.queries)[int(np.flatnonzero(~relevant.any(axis=1))[0])]
        raise ConfigError(f"query '{missing}' has no relevant document, so nothing can succeed")
    return relevant


def _cut(text: str, end: str) -> str:
    """Cuts a text before `end`; keeps all of it if nothing would be left."""
    return text.partition(end)[0].rstrip() or text
