"""Keeps Lightning from telling what is meant to be so."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_EXPECTED = (
    # Batches are slices of a memory-mapped file: worker processes would only add copying.
    ".*does not have many workers.*",
    # Lightning uses a name that torch is about to drop.
    ".*isinstance.treespec, LeafSpec.*",
)


@contextmanager
def quiet_trainer(*expected: str) -> Iterator[None]:
    """Keeps back Lightning's notes, and warnings of what is meant to be so, inside a `with`.

    Args:
        expected: Further patterns of warnings.
    """
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (*_EXPECTED, *expected):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
