"""GuardedFile: a file that is written whole again and again, and never over another's change."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from subspace.errors import ConfigError


class GuardedFile:
    """Remembers how a file was left, and refuses to change it if another program did since."""

    def __init__(self, path: Path) -> None:
        """Remembers the file as it is; call before it is read."""
        self.path = path
        self._left = _state(path)

    @property
    def is_empty(self) -> bool:
        """Whether there was no such file, or an empty one."""
        return self._left is None or self._left[-1] == 0

    @contextmanager
    def changing(self) -> Iterator[Path]:
        """Guards a block that writes or removes the file.

        Raises:
            ConfigError: Another program changed the file since.
        """
        if _state(self.path) != self._left:
            raise ConfigError(
                f"{self.path} was changed by another program while this one asked; the last answer "
                "is not kept: start again to go on from the answers in it"
            )
        yield self.path
        self._left = _state(self.path)


def _state(path: Path) -> tuple[int, int, int] | None:
    """Returns what changes whenever a file is written; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
