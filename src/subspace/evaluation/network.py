"""Small networks, one per seed, trained side by side as one batched product."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from subspace.arrays import Ints, Vectors
from subspace.data.labels import Column

# Steps between two looks at the validation texts.
_LOOK = 20
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
    """Trains S networks with one hidden layer.

    Args:
        features: Standardised vectors of all texts (N, D).
        draws: Training texts of each network (S, M).
        columns: Labels of each network, all of one kind and class count.
        hidden: Units of the hidden layer.
        steps: Steps of Adam.
        batch: Texts per step and network.
        learning_rate: Of Adam.
        judge: Scores of the outputs (S, N_validation, targets), one per network.
        validation: Texts that choose the step each network is taken from.

    Returns:
        The trained networks: features (N', D) -> outputs (S, N', targets).
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
    best_score = np.full(count, -np.inf)
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
    return lambda x: _apply(best, x.expand(count, -1, -1)).numpy()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Products this small are slower on several threads than on one."""
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
    """Targets (S, M, 1) and weights (S, M): standardised numbers, or codes weighted by rarity."""
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
    """Sum over the networks, so that each has the gradient it would have alone."""
    if ordered:
        return ((outputs - targets).square().mean(dim=(1, 2))).sum()
    losses = torch.nn.functional.cross_entropy(
        outputs.transpose(1, 2), targets[..., 0].long(), reduction="none"
    )
    return (losses * weights).mean(dim=1).sum()
