"""Ranking metrics over a retrieval set: nDCG@k and MRR."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from sklearn.metrics import ndcg_score

from subspace.arrays import AnyFloats, Floats
from subspace.data.retrieval_sets import RetrievalSet


@dataclass(frozen=True)
class RankingScore:
    """Ranking metrics, averaged over queries with a relevant document and over orders of ties.

    Attributes:
        ndcg: Normalised discounted cumulative gain of the first `k` documents; all grades above 0
            count as 1.
        mrr: Mean reciprocal rank of the first relevant document.
        k: Cut-off of nDCG.
        queries: Number of queries that have a relevant document.
    """

    ndcg: float
    mrr: float
    k: int
    queries: int


def rank_score(
    scores: AnyFloats, *, query_ids: Sequence[str], data: RetrievalSet, k: int
) -> RankingScore:
    """Scores a ranking against the judgements.

    Args:
        scores: Score of every document (columns, in the order of `data.documents`) for every
            query (rows, in the order of `query_ids`).
        query_ids: The query of each row.
        data: Documents and judgements.
        k: Cut-off of nDCG.

    Raises:
        ValueError: No query has a relevant document.
    """
    column = {document.id: position for position, document in enumerate(data.documents)}
    gains = np.zeros(scores.shape)
    for row, query in enumerate(query_ids):
        gains[row, [column[document] for document in data.relevant(query)]] = 1.0
    judged = (gains > 0).any(axis=1)
    if not judged.any():
        raise ValueError("no query has a relevant document")
    each = [
        rank_one(row, relevant=gain > 0, k=k)
        for row, gain in zip(scores[judged], gains[judged], strict=True)
    ]
    ndcg, mrr = np.mean(each, axis=0)
    return RankingScore(ndcg=float(ndcg), mrr=float(mrr), k=k, queries=int(judged.sum()))


def rank_one(scores: AnyFloats, *, relevant: npt.NDArray[np.bool_], k: int) -> tuple[float, float]:
    """Returns nDCG@k and the reciprocal rank of one query.

    Args:
        scores: Score of every document (N,).
        relevant: Whether each document is relevant (N,); at least one is.
        k: Cut-off of nDCG.
    """
    return _ndcg(scores, relevant, k=k), _reciprocal_rank(scores, relevant)


def _ndcg(scores: AnyFloats, relevant: npt.NDArray[np.bool_], *, k: int) -> float:
    """Returns nDCG@k; averages over the orders of ties, which are left to scikit-learn.

    Its checks of the input take longer than the ranking of some hundred documents.
    """
    best = np.argsort(-scores, kind="stable")[: k + 1]
    if len(scores) > 1 and not np.diff(scores[best]).all():
        return float(ndcg_score(relevant[None].astype(np.float64), scores[None], k=k))
    discounts = 1 / np.log2(np.arange(2, len(best[:k]) + 2))
    ideal = discounts[: int(relevant.sum())].sum()
    return float(discounts[relevant[best[:k]]].sum() / ideal)


def _reciprocal_rank(scores: AnyFloats, relevant: npt.NDArray[np.bool_]) -> float:
    """Returns the expected 1 / rank of the first relevant document over all orders of ties.

    So equal scores gain nothing from the order of the file (McSherry and Najork 2008). `ndcg_score`
    averages over ties as well.
    """
    best = scores[relevant].max()
    above = int((scores > best).sum())
    tied = scores == best
    ties, hits = int(tied.sum()), int((tied & relevant).sum())
    places = np.arange(1, ties - hits + 2)
    chances = np.exp(_log_comb(ties - places, hits - 1) - _log_comb(ties, hits))
    return float((chances / (above + places)).sum())


def _log_comb(n: npt.ArrayLike, k: int) -> Floats:
    """Returns the logarithm of the binomial coefficient "n choose k" (0 <= k <= n).

    The coefficient itself overflows from about 1,000 ties.
    """
    n = np.asarray(n, dtype=np.float64)
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
