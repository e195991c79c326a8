"""Contrastive loss of pairs: a query close to what is relevant to it, the rest apart."""

import torch
from torch import Tensor


def pair_contrastive(
    queries: Tensor, documents: Tensor, *, relevant: Tensor, temperature: float
) -> Tensor:
    """InfoNCE (van den Oord et al. 2018) with several positives, from queries to documents.

    Every document of the batch that is not relevant is a negative, hard ones among them.

    Args:
        queries: Unit vectors of one block (Q, width).
        documents: Unit vectors of the same block (N, width).
        relevant: Which document is relevant to which query (Q, N), truth values.
        temperature: Above 0.

    Returns:
        Mean over the queries that have a relevant document; 0 if none has.
    """
    log_share = torch.log_softmax(queries @ documents.T / temperature, dim=1)
    positives = relevant.sum(dim=1)
    anchors = positives > 0
    if not anchors.any():
        return queries.sum() * 0 + documents.sum() * 0
    return -((log_share * relevant).sum(dim=1)[anchors] / positives[anchors]).mean()
