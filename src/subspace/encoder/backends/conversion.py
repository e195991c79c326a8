"""Conversion of a model from torch for another runtime, and the comparison of their vectors."""

import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subspace.arrays import Ints, Vectors, to_base64
from subspace.encoder.backends.converted import (
    AGREEMENT,
    TABLE,
    TOKENIZER,
    ConvertedModel,
    smallest_cosine,
)
from subspace.encoder.backends.pooled_module import PooledModule, look_up
from subspace.encoder.backends.prepare import ConversionRefusedError
from subspace.encoder.backends.runtimes import load_runtime
from subspace.encoder.backends.rust_tokenizer import save
from subspace.encoder.backends.sample_texts import PARAGRAPH, SAMPLES, SENTENCE, SHORT
from subspace.encoder.fingerprint import Fingerprint
from subspace.encoder.model_weights import count_weights, load_weights
from subspace.encoder.packing import PackingUnsupportedError, check_sight
from subspace.encoder.pooling import OWN_MEAN
from subspace.encoder.tokens import OwnTokens, Tokenizer, load_tokenizer
from subspace.encoder.torch_backend import TorchBackend

# A converted model is preferred in bulk unless torch takes less than this share of its time.
_NOT_SLOWER = 0.9
_ROUNDS = 3
# Rows of the token embeddings that are made at a time.
_ROWS = 65_536

_Encode = Callable[[], Vectors]


def write_model(
    folder: Path, *, runtime: str, fingerprint: Fingerprint, source: Path, lowercase: bool
) -> dict[str, Any]:
    """Converts a model, compares its vectors with those of torch, and returns its manifest.

    Args:
        folder: Where to write the converted model.
        runtime: What to convert it for.
        fingerprint: Determines the vectors.
        source: The files of the model in torch.
        lowercase: Whether texts are lower-cased before tokenisation.

    Raises:
        ConversionRefusedError: It cannot be converted, or gives other vectors.
        OSError: A file cannot be written.
    """
    loaded = load_tokenizer(source)
    if not getattr(loaded, "is_fast", False):
        raise ConversionRefusedError("its tokenizer is not of the tokenizers library")
    tokenizer = Tokenizer(loaded, max_length=fingerprint.max_length, lowercase=lowercase)
    reference = TorchBackend(source, fingerprint=fingerprint, device="cpu", batch_tokens=None)
    if reference.model.alone:
        raise ConversionRefusedError("other texts in a batch change what it makes of a text")
    weights = _write_graph(folder, runtime, fingerprint, source, causal=reference.model.causal)
    manifest = {
        "fingerprint": fingerprint.to_json(),
        "weights": weights,
        "tokenizer": save(loaded, folder / TOKENIZER),
        "files": {file.name: file.stat().st_size for file in folder.iterdir()},
    }
    made = ConvertedModel(runtime, folder=folder, manifest=manifest, required=True)
    copy = Tokenizer(made.load_tokenizer(), max_length=fingerprint.max_length, lowercase=lowercase)
    try:
        return manifest | _compare(
            made, reference, fingerprint=fingerprint, tokenizer=tokenizer, copy=copy
        )
    except (RuntimeError, ValueError, IndexError) as error:
        raise ConversionRefusedError(f"it cannot be run: {_last_line(error)}") from error


def _write_graph(
    folder: Path, runtime: str, fingerprint: Fingerprint, source: Path, *, causal: bool
) -> int:
    """Writes the table of token embeddings and the rest of a model; returns its weights' number."""
    model = load_weights(source, dtype="float32").eval().requires_grad_(False)
    try:
        check_sight(model.config)
    except PackingUnsupportedError as error:
        raise ConversionRefusedError(str(error)) from error
    kind = load_runtime(runtime)
    module = PooledModule(model, fingerprint=fingerprint, causal=causal).eval()
    try:
        with _quiet(), torch.no_grad():
            table = _write_table(model, folder / TABLE)
            # Two texts of different length, so that neither number is taken for a constant.
            mask = torch.tensor([[1.0] * 7, [1.0] * 5 + [0.0] * 2])
            inputs = [torch.from_numpy(table[:14].reshape(2, 7, -1).copy()), mask]
            if fingerprint.early_pooling == OWN_MEAN:
                inputs.append(mask.clone())
            kind.write_graph(module, inputs, file=folder / kind.FILE, dtype=fingerprint.dtype)
    except (ImportError, OSError):
        raise
    except Exception as error:  # converters raise errors of every kind
        lines = str(error).strip().splitlines() or [repr(error)]
        raise ConversionRefusedError(f"it cannot be converted: {lines[0]}") from error
    return count_weights(model)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[-1]


def _write_table(model: Any, file: Path) -> Vectors:
    count, width = model.get_input_embeddings().weight.shape
    table = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(count, width))
    for start in range(0, count, _ROWS):
        rows = range(start, min(start + _ROWS, count))
        table[rows.start : rows.stop] = look_up(model, rows=rows).float().numpy()
    table.flush()
    return table


def _compare(
    made: ConvertedModel,
    reference: TorchBackend,
    *,
    fingerprint: Fingerprint,
    tokenizer: Tokenizer,
    copy: Tokenizer,
) -> dict[str, Any]:
    """Compares tokens, vectors and times; returns what the manifest says of them.

    Raises:
        ConversionRefusedError: The tokens or the vector of a text are others.
    """
    prompts = dict.fromkeys((fingerprint.document_prompt, fingerprint.query_prompt))
    worst = 1.0
    for prompt in prompts:
        texts = [prompt + text for text in SAMPLES]
        ids = tokenizer(texts).ids
        if not all(map(np.array_equal, copy(texts).ids, ids)):
            raise ConversionRefusedError("its tokenizer gives other tokens without transformers")
        own = tokenizer.own_tokens(prompt)
        wanted, found = _encode(reference, ids, own), _encode(made, ids, own)
        smallest = smallest_cosine(found, wanted, layers=len(fingerprint.layers))
        if not smallest >= AGREEMENT[fingerprint.dtype]:  # nor is it if it is no number
            raise ConversionRefusedError(
                f"its vectors are not those of torch: the smallest cosine is {smallest:.6f}, must "
                f"be {AGREEMENT[fingerprint.dtype]} in {fingerprint.dtype}"
            )
        worst = min(worst, smallest)
    # Of a short and a longer text several, as batches of many texts have hardly any padding.
    timed = [ids[SENTENCE]] * 8 + [ids[PARAGRAPH]] * 2
    both = [partial(_encode, one, timed, own) for one in (reference, made)]
    times = [(_seconds(both[0]), _seconds(both[1])) for _ in range(_ROUNDS)]
    over = statistics.median(a / b for a, b in times)
    return {
        "smallest_cosine": worst,
        "times_as_fast_as_torch": round(over, 3),
        "fast_in_bulk": over >= _NOT_SLOWER,
        "check": {
            "ids": ids[SHORT].tolist(),
            "own": own.pooled(ids[SHORT]).tolist(),
            "vector": to_base64(wanted[SHORT]),
        },
    }


def _encode(backend: ConvertedModel | TorchBackend, ids: Sequence[Ints], own: OwnTokens) -> Vectors:
    parts = list(backend.encode(ids, own=own))
    order = np.argsort(np.concatenate([positions for positions, _ in parts]))
    found: Vectors = np.concatenate([vectors for _, vectors in parts])[order]
    return found


def _seconds(run: _Encode) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what converters say of their own affairs."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
        transformers_logging.set_verbosity(before)
