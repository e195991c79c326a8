"""Erasure: nothing linear may predict another factor from a block.

By the LEACE theorem (Belrose et al. 2023) no linear probe beats a constant on W_f x exactly when
W_f Sigma_xg = 0. The class means below span Sigma_xg, and come from one pass over all training
texts: the penalty is exact, not estimated from the batch.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from subspace.arrays import Floats
from subspace.fitting.moments import SourceMoments


def erasure_penalty(weight: Tensor, *, means: Tensor, z: Tensor) -> Tensor:
    """How far other factors' class means lie apart inside a block, relative to its variance.

    Args:
        weight: W_f, the block's rows (width, D).
        means: Class means of the other factors (D, R), as `other_class_means` gives them.
        z: The block of a batch before normalisation (N, width); its variance is the scale, so
            that the block cannot lower the penalty by shrinking.

    Returns:
        Squared Frobenius norm of `weight @ means` over the batch's variance; 0 if and only if
        the cross-covariance is zero.
    """
    variance = (z - z.mean(dim=0)).square().sum(dim=1).mean()
    return (weight @ means).square().sum() / variance.clamp(min=1e-12)


def other_class_means(moments: Mapping[str, SourceMoments], *, block: str) -> Floats:
    """Class means of all factors but the block's own, as columns (D, R) with R <= D.

    Columns are weighted by the root of the class's share and scaled by the source's total
    variance, so that `||W_f C||^2` is the mean over sources and factors of the between-class
    variance that block f holds, relative to the embedding's.

    Args:
        moments: Of the training texts, by source.
        block: Its name.
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
    # The penalty depends on C C^T alone; its root has D columns.
    values, vectors = np.linalg.eigh(joined @ joined.T)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))
