"""Texts and their labels: records, retrieval sets in the BEIR layout, labels as arrays."""

from subspace.data.comparisons import Comparison, read_comparisons, write_comparisons
from subspace.data.labels import Labels, label_source
from subspace.data.records import Record, by_source, read_records, read_sources
from subspace.data.retrieval_sets import (
    RetrievalSet,
    find_retrieval_sets,
    read_documents,
    read_retrieval_set,
)

__all__ = [
    "Comparison",
    "Labels",
    "Record",
    "RetrievalSet",
    "by_source",
    "find_retrieval_sets",
    "label_source",
    "read_comparisons",
    "read_documents",
    "read_records",
    "read_retrieval_set",
    "read_sources",
    "write_comparisons",
]
