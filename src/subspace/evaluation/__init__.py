"""Evaluation of a model: steering, probes, separation, ranking, and the report."""

from subspace.evaluation.base_retrieval import BaseRetrieval, measure_base_retrieval
from subspace.evaluation.evaluate import evaluate
from subspace.evaluation.ranking import RankingScore, rank_score
from subspace.evaluation.report import CROSS_CORPUS, IN_CORPUS, Report, measure_report
from subspace.evaluation.separation import (
    EmbeddedSource,
    Matrix,
    Reading,
    make_matrix,
    read_factors,
)
from subspace.evaluation.steering import Curve, SteeringTask
from subspace.evaluation.steering_run import SteeringRow, measure_steering

__all__ = [
    "CROSS_CORPUS",
    "IN_CORPUS",
    "BaseRetrieval",
    "Curve",
    "EmbeddedSource",
    "Matrix",
    "RankingScore",
    "Reading",
    "Report",
    "SteeringRow",
    "SteeringTask",
    "evaluate",
    "make_matrix",
    "measure_base_retrieval",
    "measure_report",
    "measure_steering",
    "rank_score",
    "read_factors",
]
