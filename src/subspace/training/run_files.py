"""Lightning checkpoints of a run: last.ckpt to resume from, best.ckpt to evaluate."""

from pathlib import Path

from subspace.errors import ConfigError
from subspace.model.checkpoint import load


def find_run_file(path: str | None, *, output: Path, required: bool) -> str | None:
    """Returns the checkpoint to resume from or to evaluate; None to start a new run.

    Loads the file once, so that a wrong one raises before the work.

    Args:
        path: A file, or `best` or `last` for the checkpoint of this name in `output`.
        output: Folder of the run.
        required: Whether a checkpoint must be given. If not, `last` may be given before the file
            exists, so that the same command starts a run and resumes it.

    Raises:
        ConfigError: The file does not exist, or a checkpoint is required and none is given.
        CheckpointError: The file cannot be read, or was not written by this package.
    """
    if path is None:
        if required:
            raise ConfigError(
                "--ckpt_path is missing: say which checkpoint to score, a run's best.ckpt or "
                f"last.ckpt (such as {output / 'best.ckpt'})"
            )
        return None
    # Lightning itself resolves `best` and `last` only after a fit in the same process.
    file = output / f"{path}.ckpt" if path in ("best", "last") else Path(path)
    if path == "last" and not required and not file.exists():
        return None
    if not file.is_file():
        raise ConfigError(
            f"--ckpt_path: there is no file {file} (only training writes one: model.solver: sgd)"
        )
    load(file)
    return str(file)
