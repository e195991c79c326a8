"""Checks of the trainer's settings and of the metrics that its callbacks monitor."""

from collections.abc import Iterable
from typing import Any, cast

import pytorch_lightning as pl

from subspace.errors import ConfigError

# Vectors are stored in float32, and projections are saved in float32.
_PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


def check_trainer(trainer: pl.Trainer) -> None:
    """Raises unless the trainer's settings can be used to train a projection.

    Raises:
        ConfigError: A setting cannot be used. The message names it.
    """
    settings = cast(Any, trainer)
    if settings.overfit_batches:
        raise ConfigError(
            "trainer.overfit_batches cannot be used, as every step draws a batch of its own; set "
            "data.steps_per_epoch and trainer.max_epochs for a short run"
        )
    if settings.precision not in _PRECISIONS:
        raise ConfigError(
            f"trainer.precision is {settings.precision}, but vectors are stored in 32 bits: use "
            f"{', '.join(_PRECISIONS)}"
        )
    watching = [name for name in _monitored(trainer) if not name.startswith("train/")]
    if watching and settings.limit_val_batches == 0:
        raise ConfigError(
            f"trainer.limit_val_batches is 0, so nothing can be said of {watching[0]}, which early "
            "stopping and the choice of the best checkpoint look at; set it to 1.0, or let "
            "early_stopping.monitor and checkpoint.monitor name train/loss"
        )


def check_monitors(trainer: pl.Trainer, *, known: Iterable[str]) -> None:
    """Raises unless validation logs every monitored metric.

    Monitored names that begin with `train/` are not checked.

    Args:
        trainer: Trainer whose callbacks monitor metrics.
        known: Names of the metrics that validation logs.

    Raises:
        ConfigError: A metric is not logged. The message names the first.
    """
    names = sorted(known)
    for monitor in _monitored(trainer):
        if monitor not in names and not monitor.startswith("train/"):
            raise ConfigError(
                f"early_stopping.monitor or checkpoint.monitor is '{monitor}', which nothing logs; "
                f"there are {', '.join(names)}"
            )


def _monitored(trainer: pl.Trainer) -> list[str]:
    callbacks = cast(Any, trainer).callbacks
    found = (getattr(callback, "monitor", None) for callback in callbacks)
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))
