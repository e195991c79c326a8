"""Measuring: probes, separation, swap, ranking, and the report."""

from subspace.evaluation.base_retrieval import BaseRetrieval, measure_base_retrieval
from subspace.evaluation.cross_corpus import leave_one_out
from subspace.evaluation.ranking import RankingScore, rank_score
from subspace.evaluation.report import CROSS_CORPUS, IN_CORPUS, Report, measure_report
from subspace.evaluation.report_tables import summary, write_report
from subspace.evaluation.separation import (
    EmbeddedSource,
    Matrix,
    Reading,
    make_matrix,
    read_factors,
)

__all__ = [
    "CROSS_CORPUS",
    "IN_CORPUS",
    "BaseRetrieval",
    "EmbeddedSource",
    "Matrix",
    "RankingScore",
    "Reading",
    "Report",
    "leave_one_out",
    "make_matrix",
    "measure_base_retrieval",
    "measure_report",
    "rank_score",
    "read_factors",
    "summary",
    "write_report",
]
