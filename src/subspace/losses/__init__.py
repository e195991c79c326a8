"""The terms of the training loss; each is a function of tensors, weighted by `LossWeights`."""

from subspace.losses.contrastive import class_contrastive, ordered_contrastive
from subspace.losses.guard import guard_penalty
from subspace.losses.keep import keep_loss
from subspace.losses.pairs import pair_contrastive
from subspace.losses.probe import ProbeHead
from subspace.losses.weights import LossWeights

__all__ = [
    "LossWeights",
    "ProbeHead",
    "class_contrastive",
    "guard_penalty",
    "keep_loss",
    "ordered_contrastive",
    "pair_contrastive",
]
