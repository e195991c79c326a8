"""Texts and labels: records, folders of notes, retrieval sets (BEIR), labels as arrays."""

from subspace.data.comparisons import Comparison, read_comparisons, write_comparisons
from subspace.data.labels import Labels, label_source
from subspace.data.notes import Notes, read_notes, scan_notes
from subspace.data.ratings import Rating, compare_rated, read_ratings
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
    "Notes",
    "Rating",
    "Record",
    "RetrievalSet",
    "by_source",
    "compare_rated",
    "find_retrieval_sets",
    "label_source",
    "read_comparisons",
    "read_documents",
    "read_notes",
    "read_ratings",
    "read_records",
    "read_retrieval_set",
    "read_sources",
    "scan_notes",
    "write_comparisons",
]
