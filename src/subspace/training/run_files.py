"""The Lightning files of a run: last.ckpt to resume from, best.ckpt to score."""

from pathlib import Path

from subspace.errors import ConfigError
from subspace.model.checkpoint import load


def find_run_file(path: str | None, *, output: Path, required: bool) -> str | None:
    """The file to go on from or to score, after a look into it; None to start anew.

    Args:
        path: A file, or `best` or `last` for that of `output`.
        output: Folder of the run.
        required: Whether there must be one. If not, `last` may be named before there is one, so
            that a run which may be interrupted can be started with it.

    Raises:
        ConfigError: There is no such file, or one is required and none is named.
        CheckpointError: It cannot be read, or was not written by this package.
    """
    if path is None:
        if required:
            raise ConfigError(
                "--ckpt_path is missing: say which checkpoint to score, a run's best.ckpt or "
                f"last.ckpt (such as {output / 'best.ckpt'})"
            )
        return None
    # Lightning itself knows `best` and `last` only of a fit in the same process.
    file = output / f"{path}.ckpt" if path in ("best", "last") else Path(path)
    if path == "last" and not required and not file.exists():
        return None
    if not file.is_file():
        raise ConfigError(
            f"--ckpt_path: there is no file {file} (only training writes one: model.solver: sgd)"
        )
    load(file)
    return str(file)
