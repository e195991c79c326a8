"""Anchor penalty: keeps the matrix of a block near its closed-form start.

The distance is weighted by the covariance of the embeddings. The matrix may move freely along
directions in which texts hardly differ, and is held along those in which they differ most.
"""

from torch import Tensor


def anchor_penalty(
    weight: Tensor, *, start: Tensor, scatter: Tensor, energy: Tensor | float
) -> Tensor:
    """Computes how far a block has moved: tr((W - W0) T (W - W0)^T) / tr(W0 T W0^T).

    Args:
        weight: W, the block's rows (width, D).
        start: W0, the same rows at the start (width, D).
        scatter: T, total covariance of the embeddings (D, D), symmetric.
        energy: tr(W0 T W0^T), above 0. It is constant, so the caller computes it once.

    Returns:
        0 if and only if no text's block has moved; 1 if the change is as large as the block at the
        start.
    """
    change = weight - start
    # T is symmetric, so this product is also half of the gradient. Reusing it saves a second one in
    # the backward pass, and it is the most expensive step of the loss.
    product = change.detach() @ scatter
    twice = 2 * (change * product).sum()
    return (twice - (change.detach() * product).sum()) / energy
