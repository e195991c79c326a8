"""Loading of a model's weights, which must be complete, and access to its layers."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from subspace.errors import EncoderError


def load_weights(folder: Path, *, dtype: str) -> Any:
    """Loads the model in a folder.

    Raises:
        EncoderError: The files cannot be read, or lack tensors.
    """
    import torch
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    shows_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model, found = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise EncoderError(f"{folder} holds no readable model: {error}") from error
    finally:
        if shows_bars:
            transformers_logging.enable_progress_bar()
    # transformers fills missing tensors with random numbers. Poolers may be missing: none is used.
    missing = sorted(name for name in found["missing_keys"] if "pooler" not in name)
    if missing:
        raise EncoderError(
            f"the weights in {folder} lack {len(missing)} tensors of a {model.config.model_type} "
            f"model, the first of them {missing[0]}"
        )
    return model


def count_weights(model: Any) -> int:
    """Counts the weights that every token is multiplied with: all but those of embeddings."""
    from torch import nn

    return sum(
        weight.numel()
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        for weight in module.parameters(recurse=False)
    )


def find_layers(model: Any, *, depth: int) -> Any:
    """Finds the list of a model's layers.

    Raises:
        EncoderError: The model has no list of `depth` layers.
    """
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise EncoderError(
        f"a {model.config.model_type} model does not have its {depth} layers in a list, "
        "which is not supported"
    )
