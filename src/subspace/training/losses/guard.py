"""Guard: nothing linear may predict another factor from a block.

By the LEACE theorem (Belrose et al. 2023) no linear probe beats a constant on W_f x exactly when
W_f Sigma_xg = 0. The columns of `classes` below span Sigma_xg, and come from one pass over all
training data: the penalty is exact, not estimated from the batch.
"""

from torch import Tensor


def guard_penalty(weight: Tensor, *, classes: Tensor, z: Tensor) -> Tensor:
    """How far other factors' class means lie apart inside a block, relative to its variance.

    Args:
        weight: W_f, the block's rows (width, D).
        classes: Class means of the other factors, weighted by the root of their share (D, R).
        z: The block of a batch before normalisation (N, width); its variance is the scale, so
            that the block cannot lower the penalty by shrinking.

    Returns:
        Squared Frobenius norm of `weight @ classes` over the batch's variance; 0 if and only
        if the cross-covariance is zero.
    """
    variance = (z - z.mean(dim=0)).square().sum(dim=1).mean()
    return (weight @ classes).square().sum() / variance.clamp(min=1e-12)
