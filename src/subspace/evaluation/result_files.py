"""Files of a result: all are written, or none."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from subspace.errors import ConfigError
from subspace.files import partial_folder, write_whole
from subspace.outputs import is_stream


@contextmanager
def result_files(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder; if the block succeeds, its files move to `folder`.

    Older files of the same names are replaced; a link stays, and what it leads to is replaced.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial_folder(folder, name="results") as partial:
            yield partial
            for path in sorted(partial.iterdir()):
                target = folder / path.name
                if target.is_symlink() or is_stream(target):
                    write_whole(target, path.read_bytes())
                else:
                    os.replace(path, target)
    except OSError as error:
        raise ConfigError(f"--output: cannot write to {folder}: {error}") from error


def write_json(value: Any, path: Path) -> None:
    """Writes indented JSON; NaN and infinity, which JSON does not have, become null."""
    text = json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """Returns a JSON-ready value with null in the place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
