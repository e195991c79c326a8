"""Arguments that several commands share, and what they open."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.cached_encoder import CachedEncoder
    from subspace.checkpoint import Checkpoint

Commands = argparse._SubParsersAction  # argparse has no public name for it


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds `--checkpoint` and `--encoder`."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="K",
        help="a folder with config.json and model.safetensors, or a .ckpt file",
    )
    parser.add_argument(
        "--encoder",
        metavar="MODEL",
        help="where the text encoder lies (folder or hub id), if not where the checkpoint says",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Adds `--store`."""
    parser.add_argument(
        "--store",
        default="runs/embeddings",
        metavar="DIR",
        help="folder of computed embeddings; what is there is not computed again "
        "(default: %(default)s)",
    )


def make_folder(path: Path | str) -> Path:
    """Makes a folder to write to, before the work that will fill it.

    Raises:
        ConfigError: It is a file, cannot be written to, or the disk refuses.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"--output: cannot write to {folder}: {error}") from error
    return folder


def check_file(path: Path | str) -> Path:
    """A file to write, asked for before the work that makes its content; makes its folder.

    Raises:
        ConfigError: It is a folder, or its folder cannot be written to.
    """
    file = Path(path)
    make_folder(file.parent)
    if file.is_dir():
        raise ConfigError(f"--output: {file} is a folder; give the name of a file")
    return file


def open_encoder(checkpoint: "Checkpoint", *, encoder: str | None, store: str) -> "CachedEncoder":
    """The checkpoint's encoder with its store.

    Raises:
        EncoderError: It cannot be had.
        CheckpointError: `encoder` is not the one the checkpoint was trained on.
        StoreError: The store cannot be used.
    """
    from subspace.cached_encoder import CachedEncoder

    opened = CachedEncoder.open(checkpoint.encoder_spec(model=encoder), root=store)
    checkpoint.check_encoder(opened.encoder.fingerprint)
    return opened
