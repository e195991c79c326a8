"""Projection of stored embeddings to blocks, in pieces, without encoding any text again."""

import json
import logging
import mmap
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from subspace.arrays import AnyFloats, Ints, Vectors, map_array
from subspace.blocks import BlockLayout, Blocks
from subspace.encoder import Fingerprint, Kind
from subspace.errors import ConfigError, EncoderError, RecordError
from subspace.files import whole_files
from subspace.model.model import Model
from subspace.outputs import refuse_same_file

_log = logging.getLogger(__name__)

# Numbers per step: 16 MiB in float32.
_CHUNK = 2**22
# Lengths this close to 1 count as 1: rounding to float16 changes them by up to 1/2048.
_ROUNDING = 1e-3
# Maximum number of rows that a message names.
_NAMED = 10


@dataclass(frozen=True)
class Projected:
    """Size and layout of the blocks that `project_file` wrote.

    Attributes:
        rows: Number of embeddings.
        layout: The blocks of each.
    """

    rows: int
    layout: BlockLayout


def project_file(
    source: Path,
    output: Path,
    *,
    model: Model,
    kind: Kind = "document",
    blocks: Sequence[str] | None = None,
    progress: bool = False,
) -> Projected:
    """Writes the blocks of an .npy file of embeddings to another, and their layout beside it.

    Row i of the output belongs to row i of the input. Both files are written atomically; memory
    holds one piece at a time. If a JSON file beside the embeddings (`x.json` for `x.npy`) has the
    encoder's `fingerprint`, it is checked; otherwise a warning says which encoder is required.

    Args:
        source: Embeddings (N, D) of the model's encoder and layers; float16, float32 or float64.
            Layers that are not of unit length are scaled to it, with a warning.
        output: The .npy file; its folder must exist. The layout goes to `output` with `.json`.
        model: The model that projects.
        kind: Whether the embeddings are of documents or queries.
        blocks: Names of the blocks to write, in this order; None for all.
        progress: Whether to show progress bars.

    Raises:
        ConfigError: A file cannot be read or written, the embeddings do not fit the model, or an
            existing output was not written by this command.
        RecordError: Rows hold NaN, infinity or a layer of zeros.
        CheckpointError: The embeddings are of another encoder.
        LayoutError: A block does not exist, or is named twice.
    """
    _check_output(output, source=source)
    layout = _choose_blocks(blocks, layout=model.layout)
    vectors = _open(source)
    _check_origin(vectors, _read_fingerprint(source), model=model, name=source)
    layers = len(model.fingerprint.layers)
    scaled = _check_rows(vectors, layers=layers, name=source, progress=progress)
    if scaled:
        _log.warning(
            "%d of %d embeddings of %s were not of unit length and are scaled to it, every layer "
            "by itself, as the encoder does",
            *(scaled, len(vectors), source),
        )
    description = {
        "layout": layout.to_widths(),
        "rows": len(vectors),
        "side": "queries" if kind == "query" else "documents",
        "projection": model.projection.digest,
    }
    projected = project_in_pieces(vectors, model=model, kind=kind, progress=progress)
    chosen = (np.concatenate([piece[name] for name in layout], axis=1) for piece in projected)
    _write(output, chosen, shape=(len(vectors), layout.dim), description=description)
    return Projected(rows=len(vectors), layout=layout)


def project_in_pieces(
    vectors: AnyFloats, *, model: Model, kind: Kind = "document", progress: bool = False
) -> Iterator[Blocks]:
    """Yields the blocks of stored embeddings in pieces, so that memory use stays bounded.

    Args:
        vectors: (N, D) of any floating-point type, memory-mapped or not. Each layer's part is
            scaled to unit length; a part of unit length stays bit-identical.
        model: The model that projects.
        kind: Whether the embeddings are of documents or queries.
        progress: Whether to show a progress bar.

    Raises:
        LayoutError: The embeddings have the wrong dimension, or are not finite.
    """
    layers = len(model.fingerprint.layers)
    for x in _read_pieces(vectors, "projecting", progress=progress):
        norms = _norms(x, layers=layers)
        norms[np.abs(norms - 1) <= _ROUNDING] = 1
        x /= np.repeat(norms, x.shape[1] // layers, axis=1)
        yield model.project(x, kind=kind)


def _check_output(output: Path, *, source: Path) -> None:
    """Raises `ConfigError` unless the output is new or was written by this command."""
    if output.suffix != ".npy":
        raise ConfigError(f"--output must end in .npy, got {output}")
    beside = output.with_suffix(".json")
    for read in (source, source.with_suffix(".json")):  # the latter says whose vectors they are
        refuse_same_file(("--input", read), ("--output", output))
        refuse_same_file(("--input", read), ("--output", beside))
    if {"layout", "projection"} <= _read_object(beside).keys():
        return
    for taken, what in ((beside, ", where the layout goes,"), (output, "")):
        if taken.exists():
            raise ConfigError(
                f"--output: {taken}{what} was not written by this command; choose another name"
            )


def _choose_blocks(names: Sequence[str] | None, *, layout: BlockLayout) -> BlockLayout:
    """Returns the layout of the blocks to write.

    Raises:
        LayoutError: A block does not exist, or is named twice.
    """
    if names is None:
        return layout
    slices = [layout.slice(name) for name in names]
    return BlockLayout(names=tuple(names), widths=tuple(one.stop - one.start for one in slices))


def _open(path: Path) -> AnyFloats:
    """Maps an .npy file of embeddings (N, D) into memory.

    Raises:
        ConfigError: The file cannot be read, or does not hold rows of floating-point numbers.
    """
    if path.is_dir():
        raise ConfigError(
            f"--input: {path} is a folder; give an .npy file (texts whose embeddings lie in an "
            "embedding store are projected by `subspace embed`)"
        )
    try:
        vectors = map_array(path)
    except (OSError, ValueError) as error:
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


def _read_fingerprint(path: Path) -> Fingerprint | None:
    """Reads the encoder's fingerprint from the JSON file beside the embeddings, if it has one.

    Raises:
        ConfigError: The fingerprint is incomplete or invalid.
    """
    beside = path.with_suffix(".json")
    found = _read_object(beside).get("fingerprint")
    if found is None:
        return None
    try:
        return Fingerprint.from_json(found)
    except (EncoderError, TypeError) as error:
        raise ConfigError(f"{beside}: {error}") from error


def _check_origin(
    vectors: AnyFloats, fingerprint: Fingerprint | None, *, model: Model, name: Path
) -> None:
    """Raises if the embeddings are of another encoder; warns if their encoder is not recorded.

    Raises:
        CheckpointError: The fingerprint is of another encoder.
        ConfigError: The embeddings have the wrong dimension.
    """
    if fingerprint is not None:
        model.check_encoder(fingerprint)
    wanted = model.fingerprint
    said = f"{wanted.model!r}, layers {', '.join(map(str, wanted.layers))} side by side"
    if vectors.shape[1] != wanted.dim:
        raise ConfigError(
            f"{name} has {vectors.shape[1]} dimensions, the checkpoint takes {wanted.dim} "
            f"({said}); give a checkpoint that was fitted on what is stored (data.encoder.layers)"
        )
    if fingerprint is None:
        poolings = dict.fromkeys((wanted.pooling, wanted.early_pooling or wanted.pooling))
        _log.warning(
            "the encoder of %s is not recorded; it must be %s, %s pooling",
            *(name, said, " and ".join(poolings)),
        )


def _check_rows(vectors: AnyFloats, *, layers: int, name: Path, progress: bool) -> int:
    """Counts the embeddings in which a layer's part is not of unit length.

    Raises:
        RecordError: Rows hold NaN, infinity or a layer of zeros.
    """
    start, scaled = 0, 0
    broken: list[Ints] = []
    for x in _read_pieces(vectors, "checking", progress=progress):
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


def _read_pieces(vectors: AnyFloats, what: str, *, progress: bool) -> Iterator[Vectors]:
    """Yields the rows as float32 in pieces, so that memory use stays bounded."""
    step = max(1, _CHUNK // vectors.shape[1])
    # Releases pages of a read-only map once they are read (Linux and macOS). In a writable map
    # this could lose changes.
    release = None
    if getattr(vectors, "mode", None) == "r":
        release = getattr(vectors.base, "madvise", None)
    with tqdm(total=len(vectors), desc=what, unit="vector", disable=not progress or None) as bar:
        for start in range(0, len(vectors), step):
            with np.errstate(over="ignore"):  # too large for float32: infinite, refused
                x = vectors[start : start + step].astype(np.float32)
            if release is not None:
                release(mmap.MADV_DONTNEED)
            yield x
            bar.update(len(x))


def _norms(x: Vectors, *, layers: int) -> Vectors:
    """Computes the length of each layer's part (N, layers)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.linalg.norm(x.reshape(len(x), layers, -1), axis=2))


def _write(
    output: Path, blocks: Iterator[Vectors], *, shape: tuple[int, int], description: dict[str, Any]
) -> None:
    """Writes both files; a killed run may leave blocks without a layout, never with a wrong one."""
    try:
        with whole_files(output, output.with_suffix(".json")) as (file, beside):
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                file.write(block.astype("<f4", copy=False).data)
            beside.write(json.dumps(description, indent=1).encode() + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error}") from error


def _read_object(path: Path) -> dict[str, Any]:
    """Reads the object in a JSON file; empty if the file is missing or holds no object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
