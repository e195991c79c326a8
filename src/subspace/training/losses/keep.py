"""Keep loss: a block must rank texts like the raw embedding."""

import torch
from torch import Tensor
from torch.nn.functional import kl_div


def keep_loss(raw: Tensor, similarity: Tensor, *, temperature: float) -> Tensor:
    """Computes how much the neighbours of texts in a block differ from those in the raw embedding.

    Args:
        raw: Unit vectors of the raw embedding (N, D).
        similarity: Cosines of the texts in the block (N, N).
        temperature: Above 0; divides both kinds of cosines.

    Returns:
        Mean over texts of KL(raw neighbours || block neighbours). Both are softmax distributions
        over the other texts of the batch. It is 0 if and only if the cosines agree up to a constant
        per row.
    """
    others = ~torch.eye(len(raw), dtype=torch.bool, device=raw.device)
    count = len(raw)
    target = ((raw @ raw.T) / temperature)[others].view(count, count - 1).log_softmax(dim=1)
    learned = (similarity / temperature)[others].view(count, count - 1).log_softmax(dim=1)
    return kl_div(learned, target, log_target=True, reduction="batchmean")
