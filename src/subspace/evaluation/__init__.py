"""Measuring: probes, separation, ranking, and the report."""

from subspace.evaluation.ranking import RankingScore, rank_score
from subspace.evaluation.report import matrix_lines, write_report
from subspace.evaluation.separation import Reading, Separation, measure_separation

__all__ = [
    "RankingScore",
    "Reading",
    "Separation",
    "matrix_lines",
    "measure_separation",
    "rank_score",
    "write_report",
]
