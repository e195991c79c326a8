"""Contrastive losses inside one block: same label close, others apart."""

import torch
from torch import Tensor


def class_contrastive(
    z: Tensor, *, codes: Tensor, groups: Tensor, temperature: float, hard_weight: float
) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, L_out) for categories.

    Where texts say the same thing (equal group) under another label, the pair is a hard
    negative: its term in the denominator counts `hard_weight` times.

    Args:
        z: Unit vectors of one block (N, width).
        codes: Class of each text (N,); texts without a label must be left out before.
        groups: Group of each text (N,), -1 for none.
        temperature: Above 0; smaller looks at nearer neighbours.
        hard_weight: 1 or more; 1 treats all negatives alike.

    Returns:
        Mean over the anchors that have a positive; 0 if none has.
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
    """Rank-N-Contrast (Zha et al. 2023) for numbers: nearer labels must be nearer vectors.

    For anchor i every other text j is a positive, against all k whose label is at least as far
    from i's as j's is.

    Args:
        z: Unit vectors of one block (N, width).
        values: Label of each text (N,); texts without a label must be left out before.
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
    # Farthest first: the running log-sum-exp up to j is then the denominator of j. Among equal
    # distances it is the one after the last of them.
    distance, order = distance.sort(dim=1, descending=True, stable=True)
    similarity = similarity.gather(1, order)
    running = similarity.logcumsumexp(dim=1)
    last = torch.searchsorted((-distance).contiguous(), -distance, right=True) - 1
    return (running.gather(1, last) - similarity).mean()
