"""Anchor: a block's matrix stays near its closed-form start.

Distance is measured by what a change does to texts: along directions in which texts hardly differ
the matrix may move freely, along those in which they differ most it is held.
"""

from torch import Tensor


def anchor_penalty(
    weight: Tensor, *, start: Tensor, scatter: Tensor, energy: Tensor | float
) -> Tensor:
    """How far a block has moved: tr((W - W0) T (W - W0)^T) over tr(W0 T W0^T).

    Args:
        weight: W, the block's rows (width, D).
        start: W0, the same rows at the start (width, D).
        scatter: T, total covariance of the embeddings (D, D), symmetric.
        energy: tr(W0 T W0^T), above 0; it never changes, so it is computed once.

    Returns:
        0 exactly where no text's block has moved; 1 where the change is as large as the block.
    """
    change = weight - start
    # T is symmetric, so this one product is half of the gradient as well: differentiating it would
    # cost a second one, and the product is the dearest step of the loss.
    product = change.detach() @ scatter
    twice = 2 * (change * product).sum()
    return (twice - (change.detach() * product).sum()) / energy
