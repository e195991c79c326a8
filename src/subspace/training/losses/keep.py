"""Keep: a block must still rank like the raw embedding."""

import torch
from torch import Tensor
from torch.nn.functional import kl_div


def keep_loss(raw: Tensor, similarity: Tensor, *, temperature: float) -> Tensor:
    """Distils the raw embedding's neighbourhoods into a block's.

    Args:
        raw: Unit vectors of the raw embedding (N, D).
        similarity: Cosines of the texts in the block (N, N).
        temperature: Above 0, for both sides.

    Returns:
        Mean over texts of KL(raw neighbours || block neighbours), each a softmax over the
        other texts of the batch; 0 if and only if the two agree up to a constant per row.
    """
    others = ~torch.eye(len(raw), dtype=torch.bool, device=raw.device)
    count = len(raw)
    target = ((raw @ raw.T) / temperature)[others].view(count, count - 1).log_softmax(dim=1)
    learned = (similarity / temperature)[others].view(count, count - 1).log_softmax(dim=1)
    return kl_div(learned, target, log_target=True, reduction="batchmean")
