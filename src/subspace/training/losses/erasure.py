"""Erasure penalty: no linear probe may predict another factor from a block.

By the LEACE theorem (Belrose et al. 2023), no linear probe on W_f x beats a constant if and only if
W_f Sigma_xg = 0, where Sigma_xg is the cross-covariance of the embedding and factor g. The class
means of g span Sigma_xg. They are computed from all training texts, so that the condition is exact
and not estimated from a batch.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from subspace.arrays import Floats
from subspace.fitting.moments import SourceMoments


def erasure_penalty(weight: Tensor, *, means: Tensor, z: Tensor) -> Tensor:
    """Computes the scatter of other factors' class means in a block, relative to its variance.

    Args:
        weight: W_f, the block's rows (width, D).
        means: Class means of the other factors (D, R), from `other_class_means`.
        z: The block of a batch before normalisation (N, width). The penalty is divided by its
            variance, so that the block cannot lower it by shrinking.

    Returns:
        Squared Frobenius norm of `weight @ means` over the batch's variance; 0 if and only if
        the cross-covariance is zero.
    """
    variance = (z - z.mean(dim=0)).square().sum(dim=1).mean()
    return (weight @ means).square().sum() / variance.clamp(min=1e-12)


def other_class_means(moments: Mapping[str, SourceMoments], *, block: str) -> Floats:
    """Returns the class means of all factors but the block's own, as columns (D, R) with R <= D.

    The columns C are multiplied by the root of the share of their class and divided by the root of
    the total variance of their source. The squared norm `||W_f C||^2` is then the between-class
    variance in block f, relative to the variance of the embedding, averaged over sources and
    factors.

    Args:
        moments: Moments of the training texts, by source.
        block: Name of the block.
    """
    columns = [
        (factor.means * np.sqrt(factor.counts / max(factor.counts.sum(), 1))[:, None]).T
        / np.sqrt(max(np.trace(source.covariance), 1e-12))
        for source in moments.values()
        for name, factor in source.factors.items()
        if name != block
    ]
    dim = len(next(iter(moments.values())).mean)
    if not columns:
        return np.zeros((dim, 1))
    joined = np.concatenate(columns, axis=1) / np.sqrt(len(columns))
    if joined.shape[1] <= dim:
        return np.asarray(joined)
    # The penalty depends on C only through C C^T, and a root of C C^T needs no more than D columns.
    values, vectors = np.linalg.eigh(joined @ joined.T)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))
