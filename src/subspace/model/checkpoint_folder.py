"""A checkpoint's folder: written atomically, and read only as it was written.

The tensors are written first, as `model.safetensors.new`. Moving the manifest to its place
completes the change, and the new tensors get their final name last. The manifest holds the hash of
its tensor file, so that a save killed at any moment leaves the old checkpoint or the new one.

Writers hold the file `.lock` and so come one after another; each removes what killed ones left. A
reader takes no lock: if the tensors are not those of the manifest, it looks whether the manifest is
still the same, and reads again if it was overtaken by a writer.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from subspace.arrays import Vectors
from subspace.errors import CheckpointError
from subspace.files import check_writable, is_hidden, partial_folder, sha256_file

CONFIG = "config.json"
TENSORS = "model.safetensors"
_NEW_TENSORS = "model.safetensors.new"
LOCK = ".lock"
_CARD = "README.md"
# What `subspace fit` writes to the folder before the checkpoint itself.
_OF_A_FIT = ("training.yaml", "best.ckpt", "last.ckpt")


def check_target(folder: Path | str) -> None:
    """Raises unless a checkpoint can be written to `folder`. Call before long work.

    Creates nothing.

    Raises:
        CheckpointError: The folder holds files of another program, or cannot be written.
    """
    folder = Path(folder)
    taken = [folder / name for name in (CONFIG, TENSORS)]
    there = [path for path in taken if path.exists()]
    if there and not is_ours(folder / CONFIG):
        raise CheckpointError(
            f"{there[0]} was not written by subspace, or is damaged; choose another folder "
            "or move the file away"
        )
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        check_writable(folder)
    except OSError as error:
        raise CheckpointError(f"cannot write the checkpoint {folder}: {error}") from error


def check_new_target(folder: Path | str, *, beside: Iterable[Path | str] = ()) -> None:
    """Raises unless a checkpoint can be written to `folder`, and other things do not lie there.

    A checkpoint, and what an interrupted fit left, may be replaced. Call before long work.

    Args:
        folder: The folder.
        beside: Files and folders that may lie in it as well.

    Raises:
        CheckpointError: The folder holds other things, such as an index, or cannot be written.
    """
    check_target(folder)
    folder = Path(folder)
    if not folder.exists() or any((folder / name).exists() for name in (CONFIG, *_OF_A_FIT)):
        return
    allowed = [Path(path).resolve() for path in beside]
    for path in sorted(folder.iterdir()):
        kept = any(one == path.resolve() or path.resolve() in one.parents for one in allowed)
        if not kept and path.name != _CARD and not is_hidden(path):
            raise CheckpointError(
                f"{folder} is no checkpoint and not empty: it holds {path.name}; choose another "
                "folder"
            )


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
    # safetensors writes memory as it is: a transposed or strided array would be scrambled.
    whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    check_target(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            check_target(folder)
            with partial_folder(folder, name="checkpoint") as partial:
                save_file(whole, partial / TENSORS)
                (partial / TENSORS).chmod(0o644)  # safetensors lets only its owner read it
                text = json.dumps(
                    {**manifest, "tensors_sha256": sha256_file(partial / TENSORS)},
                    indent=2,
                    ensure_ascii=False,
                )
                (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
                _put_in_place(partial, folder)
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

    try:
        config, content = _read_files(folder)
        manifest, tensors = json.loads(config), load(content)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {error}") from error
    return manifest, tensors, hashlib.sha256(content).hexdigest()


def _read_files(folder: Path) -> tuple[bytes, bytes]:
    """Reads the manifest and the tensors that belong to it, or the others if there are none."""
    while True:
        config = _read(folder, CONFIG)
        # In this order: the new tensors are moved to the place of the others, never back.
        files = [_read(folder, name) for name in (_NEW_TENSORS, TENSORS)]
        wanted = _wanted(config)
        own = [file for file in files if file is not None and _is(file, wanted)]
        if config is not None and own:
            return config, own[0]
        if _read(folder, CONFIG) != config:
            continue  # a writer was faster
        tensors = files[1]
        if config is None or tensors is None:
            name = CONFIG if config is None else TENSORS
            raise CheckpointError(f"{folder} is no checkpoint: it has no {name}")
        return config, tensors


def _read(folder: Path, name: str) -> bytes | None:
    try:
        return (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _wanted(config: bytes | None) -> Any:
    """Returns the SHA-256 of the tensors that a manifest names; None if it cannot be read."""
    try:
        return json.loads(config or b"")["tensors_sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


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
    new = _read(folder, _NEW_TENSORS)
    if new is not None and _is(
        new, _wanted(_read(folder, CONFIG))
    ):  # finish a save killed before its last step
        os.replace(folder / _NEW_TENSORS, folder / TENSORS)
    os.replace(partial / TENSORS, folder / _NEW_TENSORS)
    try:
        os.replace(partial / CONFIG, folder / CONFIG)
    except OSError:
        (folder / _NEW_TENSORS).unlink(missing_ok=True)
        raise
    os.replace(folder / _NEW_TENSORS, folder / TENSORS)


def _is(content: bytes, wanted: Any) -> bool:
    return bool(hashlib.sha256(content).hexdigest() == wanted)
