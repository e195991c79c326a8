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
    if settings.check_val_every_n_epoch not in (1, None):
        raise ConfigError(
            f"trainer.check_val_every_n_epoch is {settings.check_val_every_n_epoch}, but an epoch "
            "is what lies between two validations: set data.steps_per_epoch, its number of steps"
        )
    watching = [name for name in _monitored(trainer) if not name.startswith("train/")]
    if watching and settings.limit_val_batches == 0:
        raise ConfigError(
            f"trainer.limit_val_batches is 0, so nothing can be said of {watching[0]}, which early "
            "stopping and the choice of the best checkpoint look at; set it to 1.0, or let "
            "early_stopping.monitor and checkpoint.monitor name train/loss"
        )


def check_interval(trainer: pl.Trainer, *, steps_per_epoch: int) -> None:
    """Raises if validation is to come after more batches than an epoch has.

    Raises:
        ConfigError: `trainer.val_check_interval` is larger.
    """
    settings = cast(Any, trainer)
    interval, most = settings.val_check_interval, settings.limit_train_batches
    steps = min(steps_per_epoch, most) if isinstance(most, int) else int(most * steps_per_epoch)
    counted = isinstance(interval, int) and settings.check_val_every_n_epoch is not None
    if counted and interval > steps > 0:
        raise ConfigError(
            f"trainer.val_check_interval is {interval}, but an epoch has {steps} batches "
            "(data.steps_per_epoch) and ends with a validation: set a smaller one, or leave it out"
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
