"""Checkpoint: what a trained projection promises, written and read without pickle.

Two forms hold the same things and are read alike:

- a folder to use and to hand on: `model.safetensors` (weight, mean) and `config.json` (the
  manifest);
- a Lightning file to resume from, `*.ckpt`: the same manifest and tensors among the trainer's
  state, read with `torch.load(weights_only=True)`.

The manifest (format 1)::

    format_version   1
    package_version  of subspace
    blocks           {"topic": 96, ...}: the layout, in order
    input_dim        dimension of the embeddings
    encoder          {"model": what to load it by, "fingerprint": {...}}
    data             {"source": "sha256 of its records", ...}
    training         {"solver": ..., "step": ...}: how it was made, for people
    tensors_sha256   of `model.safetensors` (folder only)
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.blocks import BlockLayout
from subspace.encoder import EncoderSpec, Fingerprint
from subspace.errors import CheckpointError, EncoderError, LayoutError
from subspace.projection import Projection

FORMAT_VERSION = 1
# Key of the manifest in a Lightning file, and names of the tensors in its state_dict.
MANIFEST_KEY = "subspace"
WEIGHT_KEY = "weight"
MEAN_KEY = "mean"

_CONFIG = "config.json"
_TENSORS = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A trained projection and everything that is needed to use it.

    Attributes:
        projection: W, mu and the layout.
        encoder_model: What the encoder is loaded by: `minilm`, a folder or a hub id.
        fingerprint: What its embeddings depend on.
        data_sha256: Hash of the records of each source it was trained on.
        training: How it was made, for people to read.
    """

    projection: Projection
    encoder_model: str
    fingerprint: Fingerprint
    data_sha256: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def encoder_spec(self, *, model: str | None = None) -> EncoderSpec:
        """The spec of the encoder that this projection was trained on.

        Args:
            model: Where the encoder lies on this machine, if not where it was trained.
        """
        return EncoderSpec.from_fingerprint(self.fingerprint, model=model or self.encoder_model)

    def check_encoder(self, fingerprint: Fingerprint) -> None:
        """Refuses another encoder than the one trained on.

        Raises:
            CheckpointError: With every field that differs.
        """
        differences = self.fingerprint.differences(fingerprint)
        if differences:
            raise CheckpointError(
                "the checkpoint was made for another encoder: it wants " + "; ".join(differences)
            )

    def manifest(self) -> dict[str, Any]:
        """The manifest, JSON-ready."""
        return {
            "format_version": FORMAT_VERSION,
            "package_version": version("subspace"),
            "blocks": self.projection.layout.to_widths(),
            "input_dim": self.projection.input_dim,
            "encoder": {"model": self.encoder_model, "fingerprint": self.fingerprint.to_json()},
            "data": dict(self.data_sha256),
            "training": dict(self.training),
        }

    def save(self, folder: Path | str) -> None:
        """Writes the folder to use: whole, or not at all.

        Raises:
            CheckpointError: The folder holds something else, or the disk refuses.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        folder = Path(folder)
        # safetensors writes memory as it lies: a transposed or strided array would be scrambled.
        tensors = {
            WEIGHT_KEY: np.ascontiguousarray(self.projection.weight),
            MEAN_KEY: np.ascontiguousarray(self.projection.mean),
        }
        if (folder / _TENSORS).exists() and not _is_ours(folder / _CONFIG):
            raise CheckpointError(f"{folder} holds another model; choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
            try:
                save_file(tensors, partial / _TENSORS)
                (partial / _TENSORS).chmod(0o644)  # safetensors makes it private
                manifest = {**self.manifest(), "tensors_sha256": _sha256(partial / _TENSORS)}
                text = json.dumps(manifest, indent=2, ensure_ascii=False)
                (partial / _CONFIG).write_text(text + "\n", encoding="utf-8")
                # The manifest last: a folder without one is no checkpoint.
                for name in (_TENSORS, _CONFIG):
                    os.replace(partial / name, folder / name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot write the checkpoint {folder}: {error}") from error


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Reads a checkpoint folder or a Lightning file.

    Raises:
        CheckpointError: It is missing, damaged, of another format version, or holds NaN.
    """
    path = Path(path)
    if path.is_dir():
        manifest, tensors = _read_folder(path)
        checkpoint = _build(manifest, tensors, path=path)
        if manifest.get("tensors_sha256") != _sha256(path / _TENSORS):
            raise CheckpointError(
                f"the checkpoint {path} is damaged: {_TENSORS} is not the file that {_CONFIG} "
                "was written for"
            )
        return checkpoint
    if path.is_file():
        manifest, tensors = _read_lightning(path)
        return _build(manifest, tensors, path=path)
    raise CheckpointError(
        f"there is no checkpoint {path}; give a folder with {_CONFIG} and {_TENSORS}, "
        "or a .ckpt file"
    )


def _is_ours(config: Path) -> bool:
    """Whether a `config.json` is a manifest of this package; a damaged one may be replaced."""
    try:
        return "format_version" in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return config.exists()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_folder(folder: Path) -> tuple[Any, Mapping[str, npt.NDArray[Any]]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    for name in (_CONFIG, _TENSORS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no checkpoint: it has no {name}")
    try:
        manifest = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        return manifest, load_file(folder / _TENSORS)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {error}") from error


def _read_lightning(path: Path) -> tuple[Any, Mapping[str, npt.NDArray[Any]]]:
    import torch

    try:
        with warnings.catch_warnings():
            # torch doubts other pickle protocols than its own; what it cannot read, it refuses.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling rubbish can raise anything; nothing else is tried
        raise CheckpointError(
            f"{path} is no checkpoint that can be read safely: it is not a .ckpt file, is damaged, "
            f"or holds objects that only unpickling could read ({type(error).__name__})"
        ) from error
    if not isinstance(state, dict) or MANIFEST_KEY not in state:
        raise CheckpointError(f"{path} was not written by subspace: it has no manifest")
    weights = state.get("state_dict", {})
    tensors = {key: weights[key] for key in (WEIGHT_KEY, MEAN_KEY) if key in weights}
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path} is damaged: {WEIGHT_KEY} and {MEAN_KEY} must be tensors")
    return state[MANIFEST_KEY], {key: value.float().numpy() for key, value in tensors.items()}


def _build(manifest: Any, tensors: Mapping[str, npt.NDArray[Any]], *, path: Path) -> Checkpoint:
    found = manifest.get("format_version") if isinstance(manifest, dict) else None
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {found!r}, this version of subspace reads "
            f"{FORMAT_VERSION}; use the version that wrote it "
            f"({manifest.get('package_version', 'unknown') if found is not None else 'unknown'})"
        )
    if set(tensors) != {WEIGHT_KEY, MEAN_KEY}:
        raise CheckpointError(
            f"{path} must hold the tensors {WEIGHT_KEY} and {MEAN_KEY}, got {sorted(tensors)}"
        )
    try:
        fingerprint = Fingerprint.from_json(manifest["encoder"]["fingerprint"])
        projection = Projection(
            weight=np.asarray(tensors[WEIGHT_KEY], dtype=np.float32),
            mean=np.asarray(tensors[MEAN_KEY], dtype=np.float32),
            layout=BlockLayout.from_widths(manifest["blocks"]),
        )
        if projection.input_dim != fingerprint.dim or projection.input_dim != manifest["input_dim"]:
            raise LayoutError(
                f"the projection takes {projection.input_dim} dimensions, its manifest says "
                f"{manifest['input_dim']} and its encoder gives {fingerprint.dim}"
            )
        model = manifest["encoder"]["model"]
        if not isinstance(model, str):
            raise TypeError(f"'encoder.model', which is {model!r}")
        return Checkpoint(
            projection=projection,
            encoder_model=model,
            fingerprint=fingerprint,
            data_sha256=dict(manifest["data"]),
            training=dict(manifest["training"]),
        )
    except (LayoutError, EncoderError) as error:
        raise CheckpointError(f"the checkpoint {path} cannot be used: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the manifest of {path} lacks or garbles {error}") from error
