"""Checkpoint: what a trained projection promises, written and read without pickle.

Two forms hold the same things and are read alike:

- a folder to use and to hand on: `model.safetensors` (weight and mean; offset, query_weight and
  query_offset where queries are projected apart) and `config.json` (the manifest); the hub holds
  the same two files;
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
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from huggingface_hub import ModelCard, ModelHubMixin

from subspace.blocks import BlockLayout
from subspace.encoder import EncoderSpec, Fingerprint
from subspace.errors import CheckpointError, EncoderError, LayoutError
from subspace.model.checkpoint_folder import (
    COMPANIONS,
    CONFIG,
    TENSORS,
    check_target,
    copy_companions,
    read_folder,
    write_folder,
)
from subspace.model.encoder_check import encoder_differences
from subspace.model.hub import HubId, fetch, kept_files
from subspace.model.projection import Projection, digest_projection
from subspace.model.tensors import NAMES, check_names, from_tensors, to_tensors

FORMAT_VERSION = 2
_READABLE = (1, FORMAT_VERSION)
# Key of the manifest in a Lightning file.
MANIFEST_KEY = "subspace"


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Checkpoint(ModelHubMixin, library_name="subspace"):
    """A trained projection and everything that is needed to use it.

    Attributes:
        projection: W, mu and the layout.
        encoder_model: What the encoder is loaded by: `minilm`, a folder or a hub id.
        fingerprint: What its embeddings depend on.
        data_sha256: Hash of the records of each source it was trained on.
        training: How it was made, for people to read.
        folder: Where it was read from, if from a folder: what lies beside its tensors (probes) is
            handed on with it.
    """

    projection: Projection
    encoder_model: str
    fingerprint: Fingerprint
    data_sha256: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Not the mixin's, which would set a configuration on the frozen value."""
        return object.__new__(cls)

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
        """One `field: mine, not theirs` per field in which another encoder differs."""
        return encoder_differences(self.fingerprint, fingerprint)

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
        check_target(folder)

    def save(self, folder: Path | str) -> None:
        """Writes the folder to use: whole, or not at all; other files there stay.

        Raises:
            CheckpointError: The folder holds something else, or the disk refuses.
        """
        write_folder(folder, manifest=self.manifest(), tensors=to_tensors(self.projection))

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: Any = None,  # noqa: ARG002
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Writes the folder as `save` does, with its model card and what lay beside the tensors.

        Args:
            save_directory: The folder; a `README.md` that was written by hand stays.
            config: Of the mixin, unused: the manifest is the configuration.
            repo_id: Where to push to; the folder's name if None.
            push_to_hub: Pushes it as well.
            model_card_kwargs: Of `generate_model_card`.
            push_to_hub_kwargs: Of `push_to_hub`.

        Returns:
            The address of the commit, if it was pushed.

        Raises:
            CheckpointError: The folder holds something else, or the disk refuses.
            ConfigError: The card's report or licences cannot be used.
        """
        from subspace.model.model_card import write_card

        folder = Path(save_directory)
        own_name = folder.resolve().name  # also of "."
        card = self.generate_model_card(**{"name": own_name, **(model_card_kwargs or {})})
        self.save(folder)
        copy_companions(self.folder, folder)
        write_card(card, folder)
        if not push_to_hub:
            return None
        name = repo_id or own_name
        return self.push_to_hub(name, model_card_kwargs=model_card_kwargs, **push_to_hub_kwargs)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Pushes what `save_pretrained` writes, as `huggingface_hub` does; see its options.

        A card there that was written by hand stays, and probes of an earlier push go.

        Raises:
            CheckpointError: The repository holds another model.
        """
        card = {"name": repo_id, **(options.pop("model_card_kwargs", None) or {})}
        kept = kept_files(repo_id, token=options.get("token"))
        options["ignore_patterns"] = [*(options.get("ignore_patterns") or ()), *kept]
        options.setdefault("delete_patterns", list(COMPANIONS))
        return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        **options: Any,
    ) -> "Checkpoint":
        """Reads a folder, or what the hub has under `owner/name`; see `load_checkpoint`.

        Args:
            pretrained_model_name_or_path: Folder, `owner/name` or `owner/name@revision`.
            revision: Branch, tag or, better, commit.
            options: `token`, `cache_dir`, `force_download` and `local_files_only`, as
                `huggingface_hub` has them.

        Raises:
            CheckpointError: It cannot be had, is damaged, holds NaN, or is a folder here, which
                has no revisions.
        """
        name = str(pretrained_model_name_or_path)
        asked = f"{name}@{revision}" if revision else name
        if revision and Path(name).exists():
            raise CheckpointError(
                f"{name} is on this machine and has no revisions: leave `revision` out to read it, "
                f"or give '{asked}' alone to read that of the hub"
            )
        hub_id = None if Path(name).exists() else HubId.parse(asked)
        return _read_folder(fetch(hub_id, **options)) if hub_id else load_checkpoint(name)

    def generate_model_card(self, **options: Any) -> ModelCard:
        """The card of what is known; see `model_card.make_card` for the options."""
        from subspace.model.model_card import make_card

        return make_card(
            self.manifest(),
            digest=digest_projection(self.projection),
            queries=self.projection.query is not None,
            **options,
        )


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Reads a checkpoint folder, a Lightning file, or a repository of the hub.

    Args:
        path: The folder or file; else `owner/name` or `owner/name@revision`. Where the revision is
            a commit that was downloaded before, the network is not touched.

    Raises:
        CheckpointError: It is missing, damaged, of another format version, or holds NaN.
    """
    folder = Path(path)
    if folder.is_dir():
        return _read_folder(folder)
    if folder.is_file():
        return read_state(_read_lightning(folder), name=folder)
    hub_id = HubId.parse(str(path))
    if hub_id is None:
        raise CheckpointError(
            f"there is no checkpoint {path}; give a folder with {CONFIG} and {TENSORS}, a .ckpt "
            "file, or a hub id (owner/name or owner/name@revision)"
        )
    return _read_folder(fetch(hub_id))


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
    tensors = {key: weights[key] for key in NAMES if key in weights}
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{name} is damaged: {', '.join(tensors)} must be tensors")
    arrays = {key: value.cpu().float().numpy() for key, value in tensors.items()}
    return _build(state[MANIFEST_KEY], arrays, name=name)


def _read_folder(folder: Path) -> Checkpoint:
    manifest, tensors, sha256 = read_folder(folder)
    checkpoint = _build(manifest, tensors, name=folder)
    if manifest.get("tensors_sha256") != sha256:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: {TENSORS} is not the file that {CONFIG} "
            "was written for"
        )
    return replace(checkpoint, folder=folder)


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
    check_names(tensors, name=name)
    try:
        fingerprint = Fingerprint.from_json(manifest["encoder"]["fingerprint"])
        projection = from_tensors(
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
