"""A checkpoint's folder: written atomically, and read only as it was written.

The tensors are written first, as `model.safetensors.new`. Moving the manifest to its place
completes the change, and the new tensors get their final name last. The manifest holds the hash of
its tensor file, so that a save killed at any moment leaves the old checkpoint or the new one.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.arrays import Vectors
from subspace.errors import CheckpointError

CONFIG = "config.json"
TENSORS = "model.safetensors"
_NEW_TENSORS = "model.safetensors.new"


def check_target(folder: Path | str) -> None:
    """Raises unless a checkpoint can be written to `folder`. Call before long work.

    Creates the folder.

    Raises:
        CheckpointError: The folder holds files of another program, or cannot be written.
    """
    folder = Path(folder)
    try:
        taken = [folder / name for name in (CONFIG, TENSORS)]
        there = [path for path in taken if path.exists()]
        if there and not is_ours(folder / CONFIG):
            raise CheckpointError(
                f"{there[0]} was not written by subspace, or is damaged; choose another folder "
                "or move the file away"
            )
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=".partial-", dir=folder).cleanup()
    except OSError as error:
        raise CheckpointError(f"cannot write the checkpoint {folder}: {error}") from error


def write_folder(
    folder: Path | str,
    *,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, Vectors],
) -> None:
    """Writes manifest and tensors, replacing an earlier checkpoint; other files stay.

    Raises:
        CheckpointError: The folder holds files of another program, or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    folder = Path(folder)
    check_target(folder)
    # safetensors writes memory as it is: a transposed or strided array would be scrambled.
    whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    try:
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
        try:
            save_file(whole, partial / TENSORS)
            (partial / TENSORS).chmod(0o644)  # safetensors lets only its owner read it
            text = json.dumps(
                {**manifest, "tensors_sha256": _sha256(partial / TENSORS)},
                indent=2,
                ensure_ascii=False,
            )
            (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
            _put_in_place(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write the checkpoint {folder}: {error}") from error


def read_folder(folder: Path) -> tuple[Any, dict[str, npt.NDArray[Any]], str]:
    """Reads the manifest and the tensors, and computes the SHA-256 of the tensor file.

    The caller must compare the SHA-256 with the one in the manifest.

    Raises:
        CheckpointError: A file is missing or unreadable.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    tensor_file = _own_tensors(folder)
    for name in (CONFIG, tensor_file):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no checkpoint: it has no {name}")
    try:
        manifest = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        content = (folder / tensor_file).read_bytes()
        tensors = load(content)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {error}") from error
    return manifest, tensors, hashlib.sha256(content).hexdigest()


def is_ours(config: Path) -> bool:
    """Tells whether a `config.json` is a manifest of this package, of any version."""
    try:
        manifest = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"format_version", "blocks"} <= manifest.keys()


def _put_in_place(partial: Path, folder: Path) -> None:
    """Moves tensors and manifest from `partial`; moving the manifest is the atomic step."""
    for name in (TENSORS, CONFIG):
        with (partial / name).open("r+b") as stream:
            os.fsync(stream.fileno())
    if _own_tensors(folder) == _NEW_TENSORS:  # finish a save killed before its last step
        os.replace(folder / _NEW_TENSORS, folder / TENSORS)
    os.replace(partial / TENSORS, folder / _NEW_TENSORS)
    try:
        os.replace(partial / CONFIG, folder / CONFIG)
    except OSError:
        (folder / _NEW_TENSORS).unlink(missing_ok=True)
        raise
    os.replace(folder / _NEW_TENSORS, folder / TENSORS)


def _own_tensors(folder: Path) -> str:
    """Returns the name of the tensor file that belongs to the manifest."""
    try:
        wanted = json.loads((folder / CONFIG).read_bytes())["tensors_sha256"]
        if wanted == _sha256(folder / _NEW_TENSORS):
            return _NEW_TENSORS
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # no such file, or a damaged manifest, which raises when it is read
    return TENSORS


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
