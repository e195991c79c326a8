"""The errors that users of this package can cause and mend.

::

    SubspaceError
    ├── ConfigError       a setting is wrong; the message names its key
    ├── RecordError       lines of a data file are invalid; all are listed
    ├── EncoderError      a text encoder cannot be loaded, or cannot do what is asked
    ├── StoreError        an embedding store cannot be used
    ├── LayoutError       block names or widths do not fit
    ├── CheckpointError   a checkpoint is missing, damaged or made for something else
    ├── WeightsError      weights of a query are invalid
    ├── QueryError        a query names an item or a block that does not exist
    ├── IndexFolderError  a search index is missing, damaged or made for another checkpoint
    ├── EngineError       a vector engine refuses items, cannot be reached, or lacks its package
    │   └── MissingIndexError   there is no index; also an IndexFolderError
    ├── UsageLogError     a usage log cannot be used, or a use to log is invalid
    └── BanditError       a reward or a rating is invalid, or the bandit's file cannot be used

The command line prints the message of a `SubspaceError` and exits with 2; any other exception
is a defect of this package and keeps its traceback.
"""

from collections.abc import Sequence
from typing import Any

# The name to install: `subspace` on PyPI is another project.
DISTRIBUTION = "subspace-embeddings"


def install_command(extra: str) -> str:
    """Returns the command that installs this package with an extra, for messages."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


class SubspaceError(Exception):
    """Base class of all errors that the user of this package can mend."""


class ConfigError(SubspaceError, ValueError):
    """A setting is wrong; the message names the key and what to change."""


# Maximum number of problems that a message lists.
_SHOWN_PROBLEMS = 50


class RecordError(SubspaceError, ValueError):
    """Data files have invalid lines.

    Attributes:
        problems: One `file:line: what is wrong` per invalid line, in reading order.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Keeps all `problems`, and joins the first ones into one message."""
        self.problems = tuple(problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        shown = list(self.problems[:_SHOWN_PROBLEMS])
        if count > len(shown):  # a file of another kind has one in every line
            shown.append(f"... and {count - len(shown)} more")
        super().__init__("\n".join([f"{count} {noun} in the data:", *shown]))


class EncoderError(SubspaceError):
    """A text encoder cannot be loaded, or cannot do what is asked of it."""


class StoreError(SubspaceError):
    """An embedding store cannot be opened, read or written."""


class LayoutError(SubspaceError, ValueError):
    """Names or widths of blocks do not fit each other or an array."""


class CheckpointError(SubspaceError):
    """A checkpoint is missing, damaged, of another format, or made for another encoder."""


class WeightsError(SubspaceError, ValueError):
    """Weights of a query are not finite, not positive, or name unknown blocks."""


class IndexFolderError(SubspaceError):
    """A search index is missing, damaged, or was built with another checkpoint."""


class QueryError(SubspaceError, ValueError):
    """A query names items or blocks that do not exist, or has the wrong shape."""


class EngineError(SubspaceError, ValueError):
    """A vector engine refuses items, cannot be reached, or its package is not installed."""


class MissingIndexError(IndexFolderError, EngineError):
    """There is no index in a folder or on a server, which could be reached."""


class UsageLogError(SubspaceError, ValueError):
    """A usage log is damaged or cannot be written, or a use to log is invalid."""


class BanditError(SubspaceError, ValueError):
    """Ratings or rewards are invalid, or the bandit or its file cannot be used."""


def check_type(value: object, *kinds: Any, name: str, hint: str) -> None:
    """Raises unless an argument is of one of some types.

    Args:
        value: The argument.
        kinds: The types.
        name: Name of the argument.
        hint: What to do instead, for the message.

    Raises:
        ConfigError: It is of another type.
    """
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        given = type(value).__name__
        raise ConfigError(f"{name} must be of type {wanted}, got {given}: {hint}")
