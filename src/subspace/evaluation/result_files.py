"""Files of a result: all are written, or none."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from subspace.errors import ConfigError


@contextmanager
def result_files(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder; if the block succeeds, its files move to `folder`.

    Older files of the same names are replaced.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
            yield Path(partial)
            for path in sorted(Path(partial).iterdir()):
                os.replace(path, folder / path.name)
    except OSError as error:
        raise ConfigError(f"--output: cannot write to {folder}: {error}") from error
