"""Probe loss: a linear head on a block must predict the block's own factor."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss


class TrainingHead(nn.Module):
    """A linear head for one factor of one source; sources differ in their scales and classes."""

    def __init__(self, *, width: int, class_count: int, mean: float, scale: float) -> None:
        """Initialises all weights with zero, which predicts the mean, or all classes alike.

        Args:
            width: Number of dimensions of the block.
            class_count: Number of classes, or 0 for a factor of numbers.
            mean: Mean of the numbers; not used for classes.
            scale: Standard deviation of the numbers; not used for classes.
        """
        super().__init__()
        self.linear = nn.Linear(width, class_count or 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.ordered = class_count == 0
        self.mean = mean
        self.scale = scale

    def loss(self, z: Tensor, *, labels: Tensor) -> Tensor:
        """Computes the cross-entropy for classes, or the mean squared error of scaled numbers.

        Args:
            z: Unit vectors of the block (N, width).
            labels: Class codes (N,) as integers, or numbers (N,).
        """
        # The entries of a unit vector are about width ** -0.5 in size; this scales them to about 1.
        predicted = self.linear(z * z.shape[1] ** 0.5)
        if self.ordered:
            return mse_loss(predicted[:, 0], ((labels - self.mean) / self.scale).to(z.dtype))
        return cross_entropy(predicted, labels.to(torch.int64))
