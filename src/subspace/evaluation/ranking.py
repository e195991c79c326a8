"""Ranking metrics over a retrieval set: nDCG@k and MRR."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import ndcg_score

from subspace.retrieval_sets import RetrievalSet


@dataclass(frozen=True)
class RankingScore:
    """Means over the queries that have a relevant document.

    Attributes:
        ndcg: Normalised discounted cumulative gain of the first `k`; a document is relevant or
            not, grades above 0 count alike.
        mrr: Reciprocal rank of the first relevant document.
        k: Cut-off of nDCG.
        queries: Number of queries.
    """

    ndcg: float
    mrr: float
    k: int
    queries: int


def rank_score(
    scores: npt.NDArray[np.floating], *, query_ids: Sequence[str], data: RetrievalSet, k: int
) -> RankingScore:
    """Scores a ranking against the judgements.

    Args:
        scores: Score of every document (columns, in the order of `data.documents`) for every
            query (rows, in the order of `query_ids`).
        query_ids: Which query each row is.
        data: Documents and judgements.
        k: Cut-off of nDCG.

    Raises:
        ValueError: No query has a relevant document.
    """
    column = {document.id: position for position, document in enumerate(data.documents)}
    gains = np.zeros(scores.shape)
    for row, query in enumerate(query_ids):
        for document, grade in data.relevance.get(query, {}).items():
            gains[row, column[document]] = float(grade > 0)
    judged = (gains > 0).any(axis=1)
    if not judged.any():
        raise ValueError("no query has a relevant document")
    scores, gains = scores[judged], gains[judged]
    order = np.argsort(-scores, axis=1, kind="stable")
    first = (np.take_along_axis(gains, order, axis=1) > 0).argmax(axis=1)
    return RankingScore(
        ndcg=float(ndcg_score(gains, scores, k=k)),
        mrr=float((1 / (first + 1)).mean()),
        k=k,
        queries=int(judged.sum()),
    )
