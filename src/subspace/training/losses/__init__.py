"""The terms of the training loss; each is a function of tensors, weighted by `LossWeights`."""

from subspace.training.losses.anchor import anchor_penalty
from subspace.training.losses.contrastive import class_contrastive, ordered_contrastive
from subspace.training.losses.erasure import erasure_penalty, other_class_means
from subspace.training.losses.keep import keep_loss
from subspace.training.losses.loss_weights import LossWeights
from subspace.training.losses.probe import TrainingHead

__all__ = [
    "LossWeights",
    "TrainingHead",
    "anchor_penalty",
    "class_contrastive",
    "erasure_penalty",
    "keep_loss",
    "ordered_contrastive",
    "other_class_means",
]
