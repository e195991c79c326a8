"""Checkpoint: what a trained projection promises, written and read without pickle.

Two forms hold the same things and are read alike:

- a folder to use and to hand on: `model.safetensors` (weight and mean; offset, query_weight and
  query_offset where queries are projected apart) and `config.json` (the manifest);
- a Lightning file to resume from, `*.ckpt`: the same manifest and tensors among the trainer's
  state, read with `torch.load(weights_only=True)`.

The manifest (format 2; format 1 is the same without the tensors of queries)::

    format_version   2
    package_version  of subspace
    blocks           {"topic": 96, ...}: the layout, in order
    input_dim        dimension of the embeddings
    encoder          {"model": what to load it by, "fingerprint": {...}}
    data             {"source": "sha256 of its records", ...}
    training         {"solver": ..., "step": ...}: how it was made, for people
    tensors_sha256   of `model.safetensors` (folder only)

A folder is written tensors first, as `model.safetensors.new`; putting the manifest in its place is
what makes the change, and the new tensors get their name after it. The manifest's hash tells which
of the two files is its own, so that a save killed at any moment leaves the old checkpoint or the
new one.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.blocks import BlockLayout
from subspace.encoder import EncoderSpec, Fingerprint
from subspace.errors import CheckpointError, EncoderError, LayoutError
from subspace.projection import Projection, QuerySide

FORMAT_VERSION = 2
_READABLE = (1, FORMAT_VERSION)
# Key of the manifest in a Lightning file, and names of the tensors in its state_dict.
MANIFEST_KEY = "subspace"
WEIGHT_KEY = "weight"
MEAN_KEY = "mean"
OFFSET_KEY = "offset"
QUERY_WEIGHT_KEY = "query_weight"
QUERY_OFFSET_KEY = "query_offset"
_REQUIRED = (WEIGHT_KEY, MEAN_KEY)
_OF_QUERIES = (OFFSET_KEY, QUERY_WEIGHT_KEY, QUERY_OFFSET_KEY)

_CONFIG = "config.json"
_TENSORS = "model.safetensors"
_NEW_TENSORS = "model.safetensors.new"


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
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
        differences = self.encoder_differences(fingerprint)
        if differences:
            raise CheckpointError(
                "the checkpoint was made for another encoder: it wants " + "; ".join(differences)
            )

    def encoder_differences(self, fingerprint: Fingerprint) -> list[str]:
        """One `field: mine, not theirs` per field in which another encoder differs.

        Models known by the hash of their files are compared by it alone: a copy may lie in a
        folder of another name. A commit of the hub and such a hash cannot be compared, which is
        one difference too.
        """
        mine, theirs = self.fingerprint, fingerprint
        hashed = [one.revision.startswith("sha256:") for one in (mine, theirs)]
        if not any(hashed) or (all(hashed) and mine.revision != theirs.revision):
            return mine.differences(theirs)
        same_model = replace(theirs, model=mine.model, revision=mine.revision)
        others = mine.differences(same_model)
        if all(hashed):
            return others
        remedy = (
            f"give the files it was trained with, or train on {theirs.model!r}"
            if hashed[0]
            else f"give {mine.model!r} (what was downloaded before is found without a network), "
            "or train on the folder"
        )
        return [
            f"revision: {_say_revision(mine)}, which cannot be compared with "
            f"{_say_revision(theirs)}; {remedy}",
            *others,
        ]

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

    @staticmethod
    def check_target(folder: Path | str) -> None:
        """Whether `save` can write there: to be asked before training. Makes the folder.

        Raises:
            CheckpointError: The folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        try:
            config = folder / _CONFIG
            foreign = config if config.exists() else folder / _TENSORS
            if foreign.exists() and not _is_ours(config):
                raise CheckpointError(
                    f"{foreign} was not written by subspace, or is damaged; choose another folder "
                    "or move the file away"
                )
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryDirectory(prefix=".partial-", dir=folder).cleanup()
        except OSError as error:
            raise CheckpointError(f"cannot write the checkpoint {folder}: {error}") from error

    def save(self, folder: Path | str) -> None:
        """Writes the folder to use: whole, or not at all; other files there stay.

        Raises:
            CheckpointError: The folder holds something else, or the disk refuses.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        folder = Path(folder)
        self.check_target(folder)
        # safetensors writes memory as it lies: a transposed or strided array would be scrambled.
        tensors = {
            name: np.ascontiguousarray(array) for name, array in _tensors(self.projection).items()
        }
        try:
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
            try:
                save_file(tensors, partial / _TENSORS)
                (partial / _TENSORS).chmod(0o644)  # safetensors makes it private
                manifest = {**self.manifest(), "tensors_sha256": _sha256(partial / _TENSORS)}
                text = json.dumps(manifest, indent=2, ensure_ascii=False)
                (partial / _CONFIG).write_text(text + "\n", encoding="utf-8")
                _put_in_place(partial, folder)
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
        return _read_folder(path)
    if path.is_file():
        return read_state(_read_lightning(path), name=path)
    raise CheckpointError(
        f"there is no checkpoint {path}; give a folder with {_CONFIG} and {_TENSORS}, "
        "or a .ckpt file"
    )


def read_state(state: Any, *, name: Path | str) -> Checkpoint:
    """The checkpoint in the trainer's state, which is what a Lightning file holds.

    Args:
        state: What `torch.load` gives.
        name: What to call it in messages.

    Raises:
        CheckpointError: It is of another project, damaged, of another format version, or holds
            NaN.
    """
    import torch

    if not isinstance(state, dict) or MANIFEST_KEY not in state:
        raise CheckpointError(f"{name} was not written by subspace: it has no manifest")
    weights = state.get("state_dict", {})
    tensors = {key: weights[key] for key in (*_REQUIRED, *_OF_QUERIES) if key in weights}
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{name} is damaged: {', '.join(tensors)} must be tensors")
    arrays = {key: value.cpu().float().numpy() for key, value in tensors.items()}
    return _build(state[MANIFEST_KEY], arrays, name=name)


def _tensors(projection: Projection) -> dict[str, npt.NDArray[np.float32]]:
    """What a projection consists of, by its name in a file."""
    tensors = {WEIGHT_KEY: projection.weight, MEAN_KEY: projection.mean}
    if projection.offset is not None:
        tensors[OFFSET_KEY] = projection.offset
    if projection.query is not None:
        tensors[QUERY_WEIGHT_KEY] = projection.query.weight
        tensors[QUERY_OFFSET_KEY] = projection.query.offset
    return tensors


def _say_revision(fingerprint: Fingerprint) -> str:
    if fingerprint.revision.startswith("sha256:"):
        return f"the hash of the files of {fingerprint.model!r} ({fingerprint.revision!r})"
    return f"the commit {fingerprint.revision!r} of {fingerprint.model!r} on the hub"


def _is_ours(config: Path) -> bool:
    """Whether a `config.json` is a manifest of this package, of whatever version."""
    try:
        manifest = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"format_version", "blocks"} <= manifest.keys()


def _put_in_place(partial: Path, folder: Path) -> None:
    """Moves a manifest and its tensors from `partial`; the move of the manifest is the change."""
    for name in (_TENSORS, _CONFIG):
        with (partial / name).open("r+b") as stream:
            os.fsync(stream.fileno())
    if _own_tensors(folder) == _NEW_TENSORS:  # a save was killed just before its last step
        os.replace(folder / _NEW_TENSORS, folder / _TENSORS)
    os.replace(partial / _TENSORS, folder / _NEW_TENSORS)
    try:
        os.replace(partial / _CONFIG, folder / _CONFIG)
    except OSError:
        (folder / _NEW_TENSORS).unlink(missing_ok=True)
        raise
    os.replace(folder / _NEW_TENSORS, folder / _TENSORS)


def _own_tensors(folder: Path) -> str:
    """Name of the tensor file that the manifest was written for."""
    try:
        wanted = json.loads((folder / _CONFIG).read_bytes())["tensors_sha256"]
        if wanted == _sha256(folder / _NEW_TENSORS):
            return _NEW_TENSORS
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # no such file, or a manifest that is refused where it is read
    return _TENSORS


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_folder(folder: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    tensor_file = _own_tensors(folder)
    for name in (_CONFIG, tensor_file):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no checkpoint: it has no {name}")
    try:
        manifest = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        content = (folder / tensor_file).read_bytes()
        tensors = load(content)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {error}") from error
    checkpoint = _build(manifest, tensors, name=folder)
    if manifest.get("tensors_sha256") != hashlib.sha256(content).hexdigest():
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: {_TENSORS} is not the file that {_CONFIG} "
            "was written for"
        )
    return checkpoint


def _read_lightning(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            # torch doubts other pickle protocols than its own; what it cannot read, it refuses.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling rubbish can raise anything; nothing else is tried
        raise CheckpointError(
            f"{path} is no checkpoint that can be read safely: it is not a .ckpt file, is damaged, "
            f"or holds objects that only unpickling could read ({type(error).__name__})"
        ) from error


def _build(
    manifest: Any, tensors: Mapping[str, npt.NDArray[Any]], *, name: Path | str
) -> Checkpoint:
    found = manifest.get("format_version") if isinstance(manifest, dict) else None
    if type(found) is not int or found not in _READABLE:
        raise CheckpointError(
            f"{name} has format version {found!r}, this version of subspace reads "
            f"{' and '.join(map(str, _READABLE))}; use the version that wrote it "
            f"({manifest.get('package_version', 'unknown') if found is not None else 'unknown'})"
        )
    if set(tensors) not in ({*_REQUIRED}, {*_REQUIRED, *_OF_QUERIES}):
        raise CheckpointError(
            f"{name} must hold the tensors {' and '.join(_REQUIRED)}, and either all or none of "
            f"{', '.join(_OF_QUERIES)}; got {sorted(tensors)}"
        )
    try:
        fingerprint = Fingerprint.from_json(manifest["encoder"]["fingerprint"])
        projection = _read_projection(
            {key: np.asarray(tensor, dtype=np.float32) for key, tensor in tensors.items()},
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
        raise CheckpointError(f"the checkpoint {name} cannot be used: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the manifest of {name} lacks or garbles {error}") from error


def _read_projection(
    tensors: Mapping[str, npt.NDArray[np.float32]], *, layout: BlockLayout
) -> Projection:
    """The inverse of `_tensors`."""
    query = None
    if QUERY_WEIGHT_KEY in tensors:
        query = QuerySide(weight=tensors[QUERY_WEIGHT_KEY], offset=tensors[QUERY_OFFSET_KEY])
    return Projection(
        weight=tensors[WEIGHT_KEY],
        mean=tensors[MEAN_KEY],
        layout=layout,
        offset=tensors.get(OFFSET_KEY),
        query=query,
    )
