"""Checkpoint: a model on disk, written and read without pickle.

It has one of two forms:

- a folder to use and to share: `model.safetensors` (weight and mean; offset, query_weight and
  query_offset if queries have a projection of their own; weight and bias of every head) and
  `config.json` (the manifest); a repository on the hub holds the same two files;
- a Lightning file to resume training from, `*.ckpt`: the same manifest and the projection's
  tensors, without heads, in the trainer's state, read with `torch.load(weights_only=True)`.

The manifest (format 3)::

    format_version   3
    package_version  of this package
    blocks           {"topic": 96, ...}: the layout, in order
    default_weights  {"topic": 0.25, ...}: for a search without weights
    score_spreads    {"topic": 0.12, ...}: standard deviation of the cosine between two texts
    input_dim        dimension of the raw vectors
    encoder          {"model": where to load it from, "fingerprint": {...}}
    heads            {"topic": ["arts", "sport"], "complexity": null}: classes, null for numbers
    heads_without_bias  ["topic"]: those that order texts and predict no labels; may be missing
    nearness         {"style": {"sharpness": 4.0, ...}}: blocks with classes that `adapt` learned
    adapted          what `adapt` was given; this and `nearness` only in adapted models
    data             {"source": "sha256 of its records", ...}
    recipe           {"solver": ..., "blocks": ...}: how it was fitted
    tensors_sha256   of `model.safetensors` (folder only)
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.blocks import BlockLayout
from subspace.encoder import EncoderSpec, Fingerprint
from subspace.errors import DISTRIBUTION, CheckpointError, EncoderError, LayoutError
from subspace.model.checkpoint_folder import CONFIG, TENSORS, read_folder, write_folder
from subspace.model.class_nearness import ClassNearness, nearness_tensors
from subspace.model.linear_heads import head_tensors, heads_from_tensors
from subspace.model.model import Model
from subspace.model.tensors import (
    PROJECTION_TENSORS,
    check_names,
    projection_from_tensors,
    projection_tensors,
)

FORMAT_VERSION = 3
# Key of the manifest in a Lightning file.
MANIFEST_KEY = "subspace"


def load(
    path: Path | str,
    *,
    encoder: str | None = None,
    device: str | None = None,
    revision: str | None = None,
    backend: str = "auto",
) -> Model:
    """Loads a model.

    Args:
        path: A checkpoint folder, a Lightning file, the name of a reference model that comes with
            this package (`minilm`, or `minilm-last` for vectors of the last layer alone), or a
            repository of the hub (`owner/name` or `owner/name@revision`). A file or folder of
            that name is preferred. A commit that was downloaded before needs no network.
        encoder: Folder or hub id of the encoder, if it is not where the checkpoint says.
        device: Device of the encoder: `cpu`, `cuda`, or None for the best available.
        revision: Branch, tag or, better, commit of a repository of the hub.
        backend: What computes the encoder's vectors: `auto`, `torch`, `openvino` or `onnx`; see
            `EncoderSpec`.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, of another format version, or holds
            NaN.
    """
    if not isinstance(path, (str, Path)):
        raise CheckpointError(
            "a model is loaded from a folder, a file, or the name of one, got "
            f"{type(path).__name__}"
        )
    model = _load(str(path), revision=revision)
    spec = EncoderSpec.from_fingerprint(model.fingerprint, model=encoder or model.encoder.model)
    return replace(model, encoder=replace(spec, device=device, backend=backend))


def _load(name: str, *, revision: str | None) -> Model:
    from subspace.model.hub import HubId, fetch
    from subspace.model.reference import find_reference

    folder = Path(name)
    if folder.exists() and revision:
        raise CheckpointError(
            f"{name} is on this machine and has no revisions: leave `revision` out to read it, or "
            f"give '{name}@{revision}' alone to read that of the hub"
        )
    if folder.is_dir():
        return _read_folder(folder)
    if folder.is_file():
        return model_from_state(_read_lightning(folder), name=folder)
    reference = find_reference(name)
    if reference is not None:
        return _read_folder(reference)
    hub_id = HubId.parse(f"{name}@{revision}" if revision else name)
    if hub_id is None:
        raise CheckpointError(
            f"there is no checkpoint {name}; give a folder with {CONFIG} and {TENSORS}, a .ckpt "
            "file, a reference model (minilm, minilm-last), or a hub id (owner/name or "
            "owner/name@revision)"
        )
    return _read_folder(fetch(hub_id))


def save(model: Model, folder: Path | str, *, card: Mapping[str, Any] | None = None) -> None:
    """Writes a checkpoint folder atomically; other files in it stay.

    Args:
        model: The model to write.
        folder: The folder; created if missing.
        card: Arguments of `model_card.make_card`; if given, a card is written too, but not over
            one that was written by hand.

    Raises:
        CheckpointError: The folder holds files of another program, or cannot be written.
        ConfigError: The card's report or licences cannot be used.
    """
    from subspace.model.model_card import make_card, write_card

    made = None if card is None else make_card(model, **card)  # raises before anything is written
    tensors = projection_tensors(model.projection) | dict(head_tensors(model.heads))
    tensors |= dict(nearness_tensors(model.nearness))
    write_folder(folder, manifest=manifest(model), tensors=tensors)
    if made is not None:
        write_card(made, Path(folder))


def manifest(model: Model) -> dict[str, Any]:
    """Returns the manifest of a model, JSON-ready, without `tensors_sha256`."""
    unbiased = [factor for factor, head in model.heads.items() if head.bias is None]
    return {
        "format_version": FORMAT_VERSION,
        "package_version": version(DISTRIBUTION),
        "blocks": model.layout.to_widths(),
        "default_weights": dict(model.default_weights),
        "score_spreads": dict(model.score_spreads),
        "input_dim": model.projection.input_dim,
        "encoder": {"model": model.encoder.model, "fingerprint": model.fingerprint.to_json()},
        "heads": {factor: head.classes for factor, head in model.heads.items()},
        **({"heads_without_bias": unbiased} if unbiased else {}),
        **(
            {"nearness": {b: n.numbers() for b, n in model.nearness.items()}}
            if model.nearness
            else {}
        ),
        **({"adapted": dict(model.adapted)} if model.adapted else {}),
        "data": dict(model.data),
        "recipe": dict(model.recipe),
    }


def model_from_state(state: Any, *, name: Path | str) -> Model:
    """Builds a model, without heads, from the trainer's state in a Lightning file.

    Args:
        state: The result of `torch.load`.
        name: Name of the file in messages.

    Raises:
        CheckpointError: The state is of another program, damaged, of another format version, or
            holds NaN.
    """
    import torch

    if not isinstance(state, dict) or MANIFEST_KEY not in state:
        raise CheckpointError(f"{name} was not written by subspace: it has no manifest")
    weights = state.get("state_dict", {})
    tensors = {key: weights[key] for key in PROJECTION_TENSORS if key in weights}
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{name} is damaged: {', '.join(tensors)} must be tensors")
    arrays = {key: value.cpu().float().numpy() for key, value in tensors.items()}
    return _build(state[MANIFEST_KEY], arrays, name=name)


def _read_folder(folder: Path) -> Model:
    found, tensors, sha256 = read_folder(folder)
    model = _build(found, tensors, name=folder)
    if found.get("tensors_sha256") != sha256:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: {TENSORS} is not the file that {CONFIG} "
            "was written for"
        )
    return replace(model, folder=folder)


def _read_lightning(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            # torch warns of unusual pickle protocols; what it cannot read raises.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise any exception
        raise CheckpointError(
            f"{path} is no checkpoint that can be read safely: it is not a .ckpt file, is damaged, "
            f"or holds objects that only unpickling could read ({type(error).__name__})"
        ) from error


def _build(found: Any, tensors: Mapping[str, npt.NDArray[Any]], *, name: Path | str) -> Model:
    written = found.get("format_version") if isinstance(found, dict) else None
    if type(written) is not int or written != FORMAT_VERSION:
        raise CheckpointError(
            f"{name} has format version {written!r}, this version of subspace reads "
            f"{FORMAT_VERSION}: fit it again, or use the version that wrote it "
            f"({found.get('package_version', 'unknown') if written is not None else 'unknown'})"
        )
    arrays = {key: np.asarray(tensor, dtype=np.float32) for key, tensor in tensors.items()}
    extra = ("heads.", "nearness.")
    own = {key: array for key, array in arrays.items() if not key.startswith(extra)}
    check_names(own, name=name)
    blocks_near = {key.split(".")[1] for key in arrays if key.startswith("nearness.")}
    try:
        if blocks_near != set(found.get("nearness", {})):
            raise KeyError("nearness")
        fingerprint = Fingerprint.from_json(found["encoder"]["fingerprint"])
        projection = projection_from_tensors(own, layout=BlockLayout.from_widths(found["blocks"]))
        if projection.input_dim != found["input_dim"]:
            raise LayoutError(
                f"the projection takes {projection.input_dim} dimensions, its manifest says "
                f"{found['input_dim']}"
            )
        model = found["encoder"]["model"]
        if not isinstance(model, str):
            raise TypeError(f"'encoder.model', which is {model!r}")
        return Model(
            projection=projection,
            encoder=EncoderSpec.from_fingerprint(fingerprint, model=model),
            fingerprint=fingerprint,
            heads=heads_from_tensors(
                arrays,
                classes=found["heads"],
                without_bias=found.get("heads_without_bias", ()),
            ),
            default_weights={n: float(w) for n, w in found["default_weights"].items()},
            score_spreads={n: float(s) for n, s in found["score_spreads"].items()},
            data=dict(found["data"]),
            recipe=dict(found["recipe"]),
            nearness={
                block: ClassNearness.from_tensors(arrays, block=block, numbers=numbers)
                for block, numbers in found.get("nearness", {}).items()
            },
            adapted=dict(found.get("adapted", {})),
        )
    except (LayoutError, EncoderError) as error:
        raise CheckpointError(f"the checkpoint {name} cannot be used: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the manifest of {name} lacks or garbles {error}") from error
