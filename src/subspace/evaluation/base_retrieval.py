"""Base retrieval: compares search with a model to search with the raw embedding."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from subspace.arrays import AnyFloats, Vectors
from subspace.blocks import unit
from subspace.data.retrieval_sets import RetrievalSet
from subspace.evaluation.ranking import rank_score
from subspace.model.model import Model

_PAIRS = 20_000
CUT_OFF = 10


@dataclass(frozen=True)
class BaseRetrieval:
    """One retrieval set, searched with the model's default weights and with the raw embedding.

    Attributes:
        name: Name of the set.
        queries: Number of queries that have a relevant document.
        raw_ndcg: nDCG@10 of the raw embedding's cosine.
        ndcg: nDCG@10 at the model's default weights.
        by_block: nDCG@10 of each block alone.
        correlation: Spearman correlation between the model's score and the raw cosine over
            random pairs of documents; NaN if there is none.
    """

    name: str
    queries: int
    raw_ndcg: float
    ndcg: float
    by_block: dict[str, float]
    correlation: float

    @property
    def relative(self) -> float:
        """Ratio of the two nDCG@10, model over raw embedding; NaN if the latter is 0."""
        return self.ndcg / self.raw_ndcg if self.raw_ndcg > 0 else float("nan")


def measure_base_retrieval(
    model: Model,
    *,
    name: str,
    data: RetrievalSet,
    documents: Vectors,
    queries: Vectors,
) -> BaseRetrieval:
    """Ranks every document for every query, and scores the rankings.

    Args:
        model: The model; gives the blocks and their default weights.
        name: Name of the set.
        data: Documents, queries and judgements.
        documents: Embeddings of the documents (N, D), in the order of `data.documents`.
        queries: Embeddings of the queries (Q, D), in the order of `data.queries`.

    Raises:
        ValueError: No query has a relevant document.
    """
    projection, raw = model.projection, model.fingerprint.last_layer
    weights = {name: w * model.score_scales[name] for name, w in model.default_weights.items()}
    ids = list(data.queries)

    def ndcg(scores: AnyFloats) -> float:
        return rank_score(scores, query_ids=ids, data=data, k=CUT_OFF).ndcg

    by_document = projection.layout.split(projection(documents))
    by_query = projection.layout.split(projection.queries(queries))
    by_block = {block: by_query[block] @ by_document[block].T for block in projection.layout}
    raw_documents = unit(documents[:, raw])
    raw_scores = unit(queries[:, raw]) @ raw_documents.T
    judged = rank_score(raw_scores, query_ids=ids, data=data, k=CUT_OFF)
    first, second = np.random.default_rng(0).integers(0, len(documents), (2, _PAIRS))
    first, second = first[first != second], second[first != second]
    ours = sum(
        weights[block] * (z[first] * z[second]).sum(axis=1) for block, z in by_document.items()
    )
    theirs = (raw_documents[first] * raw_documents[second]).sum(axis=1)
    return BaseRetrieval(
        name=name,
        queries=judged.queries,
        raw_ndcg=judged.ndcg,
        ndcg=ndcg(np.sum([weights[b] * scores for b, scores in by_block.items()], axis=0)),
        by_block={block: ndcg(scores) for block, scores in by_block.items()},
        correlation=float(spearmanr(ours, theirs).statistic) if len(first) > 1 else float("nan"),
    )
