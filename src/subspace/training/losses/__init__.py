"""The terms of the training loss; each is a function of tensors, weighted by `LossWeights`."""

from subspace.training.losses.contrastive import class_contrastive, ordered_contrastive
from subspace.training.losses.guard import guard_penalty
from subspace.training.losses.keep import keep_loss
from subspace.training.losses.loss_weights import LossWeights
from subspace.training.losses.pairs import pair_contrastive
from subspace.training.losses.probe import ProbeHead

__all__ = [
    "LossWeights",
    "ProbeHead",
    "class_contrastive",
    "guard_penalty",
    "keep_loss",
    "ordered_contrastive",
    "pair_contrastive",
]
