"""Silences expected messages and warnings of Lightning."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_EXPECTED = (
    # Batches are slices of a memory-mapped file, so worker processes would only add copying.
    ".*does not have many workers.*",
    # Lightning uses a name that torch is about to remove.
    ".*isinstance.treespec, LeafSpec.*",
)


@contextmanager
def quiet_trainer(*expected: str) -> Iterator[None]:
    """Hides Lightning's messages and expected warnings inside a `with` block.

    Args:
        expected: Patterns of further warnings to hide.
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
