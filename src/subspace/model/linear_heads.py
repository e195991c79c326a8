"""BlockProbes: a checkpoint's own reading of its blocks, one linear head per factor.

A head for numbers is a ridge regression, whose direction is where texts of higher labels lie; a
head for categories is a multinomial logistic regression. Both read unit blocks. They lie beside
the checkpoint's tensors as `probes.safetensors` (`FACTOR.weight` (K, width) and `FACTOR.bias`
(K,), float32) and `probes.json`::

    format_version   1
    factors          {"topic": ["arts", "sport"], "complexity": null}: classes, null for numbers
    tensors_sha256   of `probes.safetensors`
    checkpoint       `tensors_sha256` of the checkpoint that they were fitted on
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.errors import CheckpointError, QueryError

FORMAT_VERSION = 1
PROBES_TENSORS = "probes.safetensors"
PROBES_CONFIG = "probes.json"


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Head:
    """One factor's linear reading of its block.

    Attributes:
        weight: Float32 (K, width).
        bias: Float32 (K,).
        classes: What the K outputs stand for; None for numbers, where K is 1.
    """

    weight: Vectors
    bias: Vectors
    classes: tuple[str, ...] | None

    def __call__(self, block: Vectors) -> Sequence[str | float]:
        """Labels of unit blocks (N, width): classes, or numbers."""
        outputs = block @ self.weight.T + self.bias
        if self.classes is None:
            numbers: list[float] = outputs[:, 0].tolist()
            return numbers
        return [self.classes[code] for code in outputs.argmax(axis=1)]


@dataclass(frozen=True, eq=False)
class BlockProbes:
    """The heads of a checkpoint.

    Attributes:
        layout: The checkpoint's blocks.
        heads: By factor, which is the name of the block that it reads.

    Raises:
        CheckpointError: A head does not fit its block, or holds NaN or infinity.
    """

    layout: BlockLayout
    heads: Mapping[str, Head]

    def __post_init__(self) -> None:
        """Checks shapes and values."""
        widths = self.layout.to_widths()
        for factor, head in self.heads.items():
            outputs = 1 if head.classes is None else len(head.classes)
            if head.weight.shape != (outputs, widths.get(factor)) or head.bias.shape != (outputs,):
                raise CheckpointError(
                    f"the probe of '{factor}' has shapes {head.weight.shape} and "
                    f"{head.bias.shape}, its block and classes need ({outputs}, "
                    f"{widths.get(factor)}) and ({outputs},)"
                )
            if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
                raise CheckpointError(f"the probe of '{factor}' holds NaN or infinity")

    def predict(self, z: Vectors) -> dict[str, Sequence[str | float]]:
        """Labels by factor of unit blocks (N, layout.dim)."""
        return {
            factor: head(z[:, self.layout.slice(factor)]) for factor, head in self.heads.items()
        }

    def direction(self, factor: str) -> Vectors:
        """Where texts of higher labels lie (layout.dim,), zero outside the factor's block.

        Raises:
            QueryError: There is no probe of numbers for that factor.
        """
        numbers = [name for name, head in self.heads.items() if head.classes is None]
        if factor not in numbers:
            raise QueryError(
                f"no direction for '{factor}': this checkpoint has directions for "
                f"{', '.join(numbers) or 'nothing'} (factors of numbers that it was fitted on)"
            )
        direction = np.zeros(self.layout.dim, dtype=np.float32)
        direction[self.layout.slice(factor)] = self.heads[factor].weight[0]
        return direction

    def save(self, folder: Path | str) -> None:
        """Writes them beside the checkpoint in `folder`, which they belong to from then on.

        Raises:
            CheckpointError: There is no checkpoint, or the disk refuses.
        """
        from safetensors.numpy import save

        folder = Path(folder)
        content = save({name: np.ascontiguousarray(array) for name, array in self._tensors()})
        config = {
            "format_version": FORMAT_VERSION,
            "factors": {name: head.classes for name, head in self.heads.items()},
            "tensors_sha256": hashlib.sha256(content).hexdigest(),
            "checkpoint": _checkpoint_digest(folder),
        }
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        # Killed between the two moves, the hash refuses what is left.
        for name, data in ((PROBES_TENSORS, content), (PROBES_CONFIG, text.encode())):
            try:
                partial = folder / f".{name}.partial"
                partial.write_bytes(data)
                os.replace(partial, folder / name)
            except OSError as error:
                raise CheckpointError(f"cannot write {folder / name}: {error}") from error

    def _tensors(self) -> Iterator[tuple[str, Vectors]]:
        for factor, head in self.heads.items():
            yield f"{factor}.weight", head.weight
            yield f"{factor}.bias", head.bias


def load_probes(folder: Path | str | None, *, layout: BlockLayout) -> BlockProbes:
    """Reads the probes beside a checkpoint.

    Args:
        folder: The checkpoint's folder; None for a file, which has none.
        layout: The checkpoint's blocks.

    Raises:
        CheckpointError: There are none, they are damaged, or belong to other tensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if folder is None or not (Path(folder) / PROBES_CONFIG).is_file():
        raise CheckpointError(
            f"{folder or 'a .ckpt file'} has no probes ({PROBES_CONFIG}); `subspace fit` writes "
            "them into the folder of its run: give that folder, or fit again"
        )
    folder = Path(folder)
    try:
        config = json.loads((folder / PROBES_CONFIG).read_text(encoding="utf-8"))
        content = (folder / PROBES_TENSORS).read_bytes()
        tensors = load(content)
        found = config["format_version"]
        if found != FORMAT_VERSION:
            raise CheckpointError(
                f"the probes of {folder} have format version {found!r}, this version of subspace "
                f"reads {FORMAT_VERSION}"
            )
        if config["tensors_sha256"] != hashlib.sha256(content).hexdigest():
            raise CheckpointError(
                f"the probes of {folder} are damaged: {PROBES_TENSORS} is not the file that "
                f"{PROBES_CONFIG} was written for"
            )
        if config["checkpoint"] != _checkpoint_digest(folder):
            raise CheckpointError(
                f"the probes of {folder} belong to other tensors than its model.safetensors; "
                "fit it again with `subspace fit`"
            )
        heads = {factor: _read_head(factor, config, tensors) for factor in config["factors"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"the probes of {folder} are damaged: {error}") from error
    return BlockProbes(layout=layout, heads=heads)


def _read_head(factor: str, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> Head:
    classes = config["factors"][factor]
    if classes is not None and not all(isinstance(name, str) for name in classes):
        raise TypeError(f"the classes of '{factor}' are no texts")
    weight, bias = (
        np.asarray(tensors[f"{factor}.{part}"], dtype=np.float32) for part in ("weight", "bias")
    )
    return Head(weight=weight, bias=bias, classes=None if classes is None else tuple(classes))


def _checkpoint_digest(folder: Path) -> str:
    """Hash of the tensors that the checkpoint's manifest promises; what is loaded is checked."""
    try:
        manifest = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(manifest["tensors_sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder} is no checkpoint folder: {error}") from error
