"""Contrastive losses in one block: texts with the same label are close, others apart."""

import torch
from torch import Tensor


def class_contrastive(
    z: Tensor, *, codes: Tensor, groups: Tensor, temperature: float, hard_weight: float
) -> Tensor:
    """Computes the supervised contrastive loss (Khosla et al. 2020, L_out) for categories.

    Two texts with the same content (equal group) and different labels are a hard negative pair.
    Its term in the denominator is multiplied by `hard_weight`.

    Args:
        z: Unit vectors of one block (N, width).
        codes: Class of each text (N,). Texts without a label must be left out before.
        groups: Group of each text (N,), -1 for none.
        temperature: Above 0. Lower values concentrate on nearer neighbours.
        hard_weight: 1 or more; 1 treats all negatives alike.

    Returns:
        Mean over the anchors that have a positive; 0 if no anchor has one.
    """
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    same = (codes[:, None] == codes[None, :]) & ~itself
    parallel = (groups[:, None] == groups[None, :]) & (groups[:, None] >= 0)
    hard = parallel & (codes[:, None] != codes[None, :])
    logits = (z @ z.T) / temperature + hard * torch.log(z.new_tensor(hard_weight))
    log_share = logits - logits.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    positives = same.sum(dim=1)
    anchors = positives > 0
    if not anchors.any():
        return z.sum() * 0
    per_anchor = -(log_share * same).sum(dim=1)[anchors] / positives[anchors]
    return per_anchor.mean()


def ordered_contrastive(z: Tensor, *, values: Tensor, temperature: float) -> Tensor:
    """Computes Rank-N-Contrast (Zha et al. 2023) for numbers: near labels need near vectors.

    For anchor i, every other text j is a positive. The denominator runs over all texts k whose
    label is at least as far from the label of i as the label of j is.

    Args:
        z: Unit vectors of one block (N, width).
        values: Label of each text (N,). Texts without a label must be left out before.
        temperature: Above 0.

    Returns:
        Mean over all pairs (i, j); 0 for fewer than two texts.
    """
    count = len(z)
    if count < 2:
        return z.sum() * 0
    others = ~torch.eye(count, dtype=torch.bool, device=z.device)
    similarity = ((z @ z.T) / temperature)[others].view(count, count - 1)
    distance = (values[:, None] - values[None, :]).abs()[others].view(count, count - 1)
    # In order of descending distance, the running log-sum-exp up to j is the denominator of j.
    # Texts at equal distances share the denominator of the last of them.
    distance, order = distance.sort(dim=1, descending=True, stable=True)
    similarity = similarity.gather(1, order)
    running = similarity.logcumsumexp(dim=1)
    last = torch.searchsorted((-distance).contiguous(), -distance, right=True) - 1
    return (running.gather(1, last) - similarity).mean()
