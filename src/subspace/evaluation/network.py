"""Small networks, one per seed, trained together by batched matrix products."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from subspace.arrays import Ints, Vectors
from subspace.data.labels import Column

# Steps between two evaluations on the validation texts, and how many of these may pass without a
# better one before training stops.
_LOOK, _PATIENCE = 20, 3
_WEIGHT_DECAY = 1e-3


def train_networks(
    features: Tensor,
    *,
    draws: Ints,
    columns: Sequence[Column],
    hidden: int,
    steps: int,
    batch: int,
    learning_rate: float,
    judge: Callable[[Vectors], Sequence[float]],
    validation: Ints,
) -> Callable[[Tensor], Vectors]:
    """Trains S networks with one hidden layer, and keeps each at its best validation step.

    Args:
        features: Standardised vectors of all texts (N, D).
        draws: Positions of the training texts of each network (S, M).
        columns: Labels of each network, all of the same kind and with the same number of classes.
        hidden: Units of the hidden layer.
        steps: Most steps of AdamW; training stops when no network has become better for a while.
        batch: Texts per step and network.
        learning_rate: Learning rate of AdamW.
        judge: Takes outputs (S, N_validation, targets) and returns one score per network.
        validation: Positions of the texts that choose the step of each network.

    Returns:
        A function that applies the networks: features (N', D) to outputs (S, N', targets).
    """
    count, dim = len(draws), features.shape[1]
    targets, weights = _targets(columns, draws)
    outputs = targets.shape[2] if columns[0].ordered else columns[0].class_count
    random = torch.Generator().manual_seed(0)
    parameters = [
        torch.randn(count, dim, hidden, generator=random) / max(dim, 1) ** 0.5,
        torch.zeros(count, 1, hidden),
        torch.randn(count, hidden, outputs, generator=random) / hidden**0.5,
        torch.zeros(count, 1, outputs),
    ]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        parameters, lr=learning_rate, weight_decay=_WEIGHT_DECAY, foreach=True
    )
    best = [parameter.detach().clone() for parameter in parameters]
    best_score, stale = np.full(count, -np.inf), 0
    known, held = features[torch.from_numpy(draws)], features[torch.from_numpy(validation)]
    rows = torch.arange(count)[:, None]
    with _one_thread():
        for step in range(1, steps + 1):
            picked = torch.randint(draws.shape[1], (count, batch), generator=random)
            loss = _loss(
                _apply(parameters, known[rows, picked]),
                targets[rows, picked],
                weights[rows, picked],
                ordered=columns[0].ordered,
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if step % _LOOK == 0:
                with torch.no_grad():
                    scores = np.array(judge(_apply(parameters, held.expand(count, -1, -1)).numpy()))
                    better = scores > best_score
                    best_score = np.where(better, scores, best_score)
                    for kept, parameter in zip(best, parameters, strict=True):
                        kept[better] = parameter.detach()[better]
                stale = 0 if better.any() else stale + 1
                if stale == _PATIENCE:
                    break
    return lambda x: _apply(best, x.expand(count, -1, -1)).numpy()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Limits torch to one thread, which is faster than several for products this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _apply(parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    first, first_bias, second, second_bias = parameters
    return torch.baddbmm(second_bias, torch.relu(torch.baddbmm(first_bias, x, first)), second)


def _targets(columns: Sequence[Column], draws: Ints) -> tuple[Tensor, Tensor]:
    """Returns targets (S, M, 1) and weights (S, M).

    Numbers are standardised and weigh 1. Class codes weigh the inverse of their frequency.
    """
    targets, weights = [], []
    for column, train in zip(columns, draws, strict=True):
        if column.values is not None:
            values = column.values[train]
            targets.append((values - values.mean()) / max(values.std(), 1e-12))
            weights.append(np.ones(len(train)))
        else:
            codes = column.codes[train]
            rarity = 1 / np.maximum(np.bincount(codes, minlength=column.class_count), 1)
            targets.append(codes.astype(np.float64))
            weights.append(rarity[codes] / rarity[codes].mean())
    return (
        torch.from_numpy(np.stack(targets)).float()[..., None],
        torch.from_numpy(np.stack(weights)).float(),
    )


def _loss(outputs: Tensor, targets: Tensor, weights: Tensor, *, ordered: bool) -> Tensor:
    """Sums the losses of the networks, so that each gets the same gradient as on its own."""
    if ordered:
        return ((outputs - targets).square().mean(dim=(1, 2))).sum()
    losses = torch.nn.functional.cross_entropy(
        outputs.transpose(1, 2), targets[..., 0].long(), reduction="none"
    )
    return (losses * weights).mean(dim=1).sum()
