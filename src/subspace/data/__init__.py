"""Texts and their labels: records, retrieval sets in the BEIR layout, labels as arrays."""

from subspace.data.labels import Labels, label_source
from subspace.data.records import Record, read_records
from subspace.data.retrieval_sets import (
    Document,
    RetrievalSet,
    find_retrieval_sets,
    read_documents,
    read_retrieval_set,
)

__all__ = [
    "Document",
    "Labels",
    "Record",
    "RetrievalSet",
    "find_retrieval_sets",
    "label_source",
    "read_documents",
    "read_records",
    "read_retrieval_set",
]
