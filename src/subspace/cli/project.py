"""`subspace project`: stored embeddings to blocks, without encoding any text again."""

import argparse
import contextlib
import json
import mmap
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.arrays import AnyFloats, Ints, Vectors
from subspace.blocks import BlockLayout
from subspace.cli.arguments import Commands, check_file
from subspace.errors import ConfigError, EncoderError, RecordError

if TYPE_CHECKING:
    from subspace.encoder import Fingerprint
    from subspace.model import Checkpoint


# Numbers per step: 16 MiB in float32.
_CHUNK = 2**22
# Lengths closer to 1 than this are rounding: float16 moves them by up to 1/2048.
_ROUNDING = 1e-3
# Rows that a message names.
_NAMED = 10


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "project",
        help="turn stored embeddings into blocks, without encoding again",
        description="Writes the blocks of embeddings that are stored already (rows x dimensions, "
        "float32, each block of unit length) to an .npy file, and their layout beside it "
        "(blocks.npy: blocks.json). Row i is of row i of the input. The embeddings must be of the "
        "checkpoint's encoder and layers; those that are not of unit length are scaled to it, as "
        "the encoder scales them. Where a file beside the input (vectors.npy: vectors.json) holds "
        "their encoder's `fingerprint`, as the manifest of an embedding store does, it must be the "
        "checkpoint's. Memory does not grow with the number of embeddings.",
        epilog="example: subspace project --checkpoint checkpoints/minilm --input vectors.npy "
        "--output blocks.npy --blocks topic,style",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="K",
        help="a folder with config.json and model.safetensors, a .ckpt file, or a hub id "
        "(owner/name[@revision])",
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="F",
        help="an .npy file of embeddings: rows x dimensions, float16, float32 or float64",
    )
    parser.add_argument("--output", required=True, metavar="F", help="the .npy file to write")
    parser.add_argument(
        "--queries",
        action="store_true",
        help="they are of queries: differs where blocks are learned from pairs",
    )
    parser.add_argument(
        "--blocks", metavar="B,...", help="which blocks to write, in this order (default: all)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.model import load_checkpoint
    from subspace.model.projection import digest_projection

    source, output = Path(arguments.input), Path(arguments.output)
    _check_output(output, source=source)
    checkpoint = load_checkpoint(arguments.checkpoint)
    layout = _choose_blocks(arguments.blocks, layout=checkpoint.projection.layout)
    vectors = _open(source)
    _check_origin(vectors, _read_fingerprint(source), checkpoint=checkpoint, name=source)
    layers = len(checkpoint.fingerprint.layers)
    scaled = _check_rows(vectors, layers=layers, name=source)
    if scaled:
        print(
            f"warning: {scaled} of {len(vectors)} embeddings were not of unit length and are "
            "scaled to it, every layer by itself, as the checkpoint's encoder does"
        )
    description = {
        "layout": layout.to_widths(),
        "rows": len(vectors),
        "side": "queries" if arguments.queries else "documents",
        "projection": digest_projection(checkpoint.projection),
    }
    project = checkpoint.projection.queries if arguments.queries else checkpoint.projection
    blocks = (
        _select(checkpoint.projection.layout.split(project(x)), layout=layout)
        for x in _unit_chunks(vectors, layers=layers)
    )
    _write(output, blocks, shape=(len(vectors), layout.dim), description=description)
    print(f"{len(vectors)} embeddings, {layout.dim} dimensions -> {output}")


def _check_output(output: Path, *, source: Path) -> None:
    if output.suffix != ".npy":
        raise ConfigError(f"--output must end in .npy, got {output}")
    if output.resolve() == source.resolve():
        raise ConfigError(f"--output: {output} is the input, which would be lost")
    check_file(output)
    beside = output.with_suffix(".json")
    if {"layout", "projection"} <= _read_object(beside).keys():
        return
    for taken, what in ((beside, ", where the layout goes,"), (output, "")):
        if taken.exists():
            raise ConfigError(
                f"--output: {taken}{what} was not written by this command; choose another name"
            )


def _choose_blocks(named: str | None, *, layout: BlockLayout) -> BlockLayout:
    """The blocks that are written.

    Raises:
        LayoutError: One of them is not there, or is named twice.
    """
    if named is None:
        return layout
    names = tuple(name.strip() for name in named.split(","))
    slices = [layout.slice(name) for name in names]
    return BlockLayout(names=names, widths=tuple(part.stop - part.start for part in slices))


def _select(parts: Mapping[str, Vectors], *, layout: BlockLayout) -> Vectors:
    return np.concatenate([parts[name] for name in layout], axis=1)


def _open(path: Path) -> AnyFloats:
    """Maps embeddings (N, D).

    Raises:
        ConfigError: They cannot be read, or are no table of floating-point numbers.
    """
    if path.is_dir():
        raise ConfigError(
            f"--input: {path} is a folder; give an .npy file (texts whose embeddings lie in an "
            "embedding store are projected by `subspace embed`)"
        )
    try:
        vectors = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        if zipfile.is_zipfile(path):
            raise ConfigError(
                f"--input: {path} is an archive, which cannot be read piece by piece; save the "
                "array by itself with numpy.save"
            ) from error
        raise ConfigError(f"--input: cannot read {path}: {error}") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or vectors.dtype.itemsize > 8:
        raise ConfigError(
            f"--input: {path} holds {vectors.dtype} of shape {vectors.shape}; needed are rows x "
            "dimensions of float16, float32 or float64"
        )
    if not vectors.size:
        raise ConfigError(f"--input: {path} holds no embeddings: its shape is {vectors.shape}")
    return vectors


def _read_fingerprint(path: Path) -> "Fingerprint | None":
    """The encoder that is recorded beside the embeddings, if one is.

    Raises:
        ConfigError: It is not a whole fingerprint.
    """
    from subspace.encoder import Fingerprint

    beside = path.with_suffix(".json")
    found = _read_object(beside).get("fingerprint")
    if found is None:
        return None
    try:
        return Fingerprint.from_json(found)
    except (EncoderError, TypeError) as error:
        raise ConfigError(f"{beside}: {error}") from error


def _check_origin(
    vectors: AnyFloats, fingerprint: "Fingerprint | None", *, checkpoint: "Checkpoint", name: Path
) -> None:
    """Refuses embeddings of another encoder, as far as that is known."""
    if fingerprint is not None:
        checkpoint.check_encoder(fingerprint)
    wanted = checkpoint.fingerprint
    said = f"{wanted.model!r}, layers {', '.join(map(str, wanted.layers))} side by side"
    if vectors.shape[1] != wanted.dim:
        raise ConfigError(
            f"{name} has {vectors.shape[1]} dimensions, the checkpoint takes {wanted.dim} "
            f"({said}); give a checkpoint that was fitted on what is stored (data.encoder.layers)"
        )
    if fingerprint is None:
        print(f"the encoder of {name} is not recorded; it must be {said}, {wanted.pooling} pooling")


def _check_rows(vectors: AnyFloats, *, layers: int, name: Path) -> int:
    """How many embeddings are not of unit length.

    Raises:
        RecordError: Some have no direction: NaN, infinity, or a layer of zeros.
    """
    start, scaled = 0, 0
    broken: list[Ints] = []
    for x in _chunks(vectors, "checking"):
        norms = _norms(x, layers=layers)
        with np.errstate(invalid="ignore"):
            sound = (np.isfinite(norms) & (norms > 0)).all(axis=1)
        broken.append(start + np.flatnonzero(~sound))
        scaled += int((np.abs(norms[sound] - 1) > _ROUNDING).any(axis=1).sum())
        start += len(x)
    rows = np.concatenate(broken)
    if len(rows):
        shown = ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
        raise RecordError(
            [
                f"{name}: {len(rows)} of {len(vectors)} rows hold NaN, infinity, a layer of "
                f"zeros or numbers beyond float32 (counted from 0): {shown}"
            ]
        )
    return scaled


def _chunks(vectors: AnyFloats, what: str) -> Iterator[Vectors]:
    """The rows as float32, so many at a time that memory stays bounded."""
    from tqdm import tqdm

    step = max(1, _CHUNK // vectors.shape[1])
    with tqdm(total=len(vectors), desc=what, unit="vector") as bar:
        for start in range(0, len(vectors), step):
            with np.errstate(over="ignore"):  # what float32 cannot hold is refused
                x = vectors[start : start + step].astype(np.float32)
            # What was read of a mapped file need not stay in memory (Linux and macOS).
            release = getattr(vectors.base, "madvise", None)
            if release:
                release(mmap.MADV_DONTNEED)
            yield x
            bar.update(len(x))


def _unit_chunks(vectors: AnyFloats, *, layers: int) -> Iterator[Vectors]:
    """The rows with every layer's part of unit length; what is so already stays, to the bit."""
    for x in _chunks(vectors, "projecting"):
        norms = _norms(x, layers=layers)
        norms[np.abs(norms - 1) <= _ROUNDING] = 1
        x /= np.repeat(norms, x.shape[1] // layers, axis=1)
        yield x


def _norms(x: Vectors, *, layers: int) -> Vectors:
    """Length of every layer's part (N, layers)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.linalg.norm(x.reshape(len(x), layers, -1), axis=2))


def _write(
    output: Path, blocks: Iterator[Vectors], *, shape: tuple[int, int], description: dict[str, Any]
) -> None:
    """Writes both files under other names first, so that neither is ever seen half."""
    beside = output.with_suffix(".json")
    partial = output.with_name(f".{output.stem}.partial.npy")
    partial_beside = partial.with_suffix(".json")
    try:
        with partial.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                file.write(block.astype("<f4", copy=False).data)
        partial_beside.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        beside.unlink(missing_ok=True)  # blocks without a layout, rather than with another's
        os.replace(partial, output)
        os.replace(partial_beside, beside)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error}") from error
    finally:
        for file_name in (partial, partial_beside):
            with contextlib.suppress(OSError):  # the error that led here says more
                file_name.unlink(missing_ok=True)


def _read_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds; empty if there is no such file, or it holds no object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
