"""Embedding of a file of texts into one .npz file, and the embedder, which shards use too."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from subspace.blocks import Blocks
from subspace.data.retrieval_sets import read_documents
from subspace.encoder import Kind
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.encoder.truncation import Truncation
from subspace.errors import ConfigError
from subspace.files import whole_file
from subspace.model.model import Model
from subspace.outputs import refuse_same_file

# A NumPy array of texts takes the length of the longest for each. Ids are written as one if that
# is no more than this many times their own length, or this many bytes.
_MOST_PADDING, _SMALL = 10, 1 << 20

_log = logging.getLogger(__name__)


def open_stored_encoder(
    model: Model, *, store: Path | str, dtype: str | None = None, device: str | None = None
) -> CachedEncoder:
    """Opens a model's encoder with its store of computed vectors.

    Args:
        model: The model.
        store: Folder of stored embeddings.
        dtype: Precision of the encoder, if another than in training.
        device: Device of the encoder, if another than the model's.

    Raises:
        EncoderError: The encoder cannot be loaded.
        CheckpointError: The encoder is not the one that the model was fitted on.
        StoreError: The store cannot be used.
    """
    spec = model.encoder
    asked_for = replace(spec, dtype=dtype or spec.dtype, device=device or spec.device)
    encoder = CachedEncoder.open(asked_for, root=store)
    # The user may choose another precision; all else must be as in training.
    model.check_encoder(replace(encoder.encoder.fingerprint, dtype=model.fingerprint.dtype))
    return encoder


@dataclass(frozen=True)
class Embedded:
    """Blocks of texts, and the number of texts that were cut.

    Attributes:
        blocks: Blocks of N texts, in order.
        truncation: What was beyond the encoder's maximum length.
    """

    blocks: Blocks
    truncation: Truncation

    @property
    def truncated(self) -> int:
        """Number of texts that were longer than the encoder's maximum length."""
        return self.truncation.texts


@dataclass(frozen=True)
class TextEmbedder:
    """A function from texts to blocks, which opens its encoder on first use.

    Before its first use it can be sent to another process.

    Attributes:
        model: The model that makes the blocks.
        store: Folder of stored embeddings.
        dtype: Precision of the encoder, if another than in training; see `EncoderSpec`.
        device: Device of the encoder, if another than the model's.
        kind: Whether the texts are documents or queries.
    """

    model: Model
    store: Path | str
    dtype: str | None = None
    device: str | None = None
    kind: Kind = "document"

    def __call__(self, texts: Sequence[str], *, progress: bool = False) -> Embedded:
        """Embeds texts.

        Raises:
            EncoderError: The encoder cannot be loaded, or a text is empty.
            CheckpointError: The encoder is not the one that the model was fitted on.
            StoreError: The store cannot be used.
        """
        vectors = self._encoder.encode(texts, kind=self.kind, progress=progress)
        return Embedded(
            blocks=self.model.project(vectors, kind=self.kind),
            # Not the encoder's own count, which lacks texts whose vectors were stored.
            truncation=self._encoder.encoder.measure_truncation(texts, kind=self.kind),
        )

    @property
    def encoder_dtype(self) -> str:
        """Precision of the encoder: `float32` or `bfloat16`."""
        return self._encoder.encoder.fingerprint.dtype

    @cached_property
    def _encoder(self) -> CachedEncoder:
        encoder = open_stored_encoder(
            self.model, store=self.store, dtype=self.dtype, device=self.device
        )
        encoder.warns = False  # callers get the number of cut texts instead
        return encoder


def embed_to_file(
    texts: Path, output: Path, *, embedder: TextEmbedder, progress: bool = False
) -> Embedded:
    """Writes `embeddings`, `ids` and `layout` (JSON) of a file of texts to an .npz file.

    If few ids are much longer than the others, `ids_utf8` (bytes) and `ids_offsets` (N + 1) take
    the place of `ids`: id n is `bytes(ids_utf8[ids_offsets[n] : ids_offsets[n + 1]]).decode()`. A
    warning says so. The file is written atomically; its content must fit in memory.

    Args:
        texts: JSONL with `id` (or `_id`) and `text`.
        output: The .npz file; its folder must exist.
        embedder: Makes the blocks.
        progress: Whether to show a progress bar.

    Raises:
        RecordError: Lines of the file are invalid.
        EncoderError: The encoder cannot be loaded.
        CheckpointError: The encoder is not the one that the model was fitted on.
        StoreError: The store cannot be used.
        ConfigError: The file cannot be written.
    """
    refuse_same_file(("--input", texts), ("--output", output))
    documents = read_documents(texts)
    embedded = embedder([document.text for document in documents], progress=progress)
    ids = _id_arrays([document.id for document in documents])
    if "ids" not in ids:
        longest = max((document.id for document in documents), key=len)
        _log.warning(
            "%s holds `ids_utf8` and `ids_offsets` in the place of `ids`, as an id is %d letters "
            "long ('%.40s...')",
            output,
            len(longest),
            longest,
        )
    try:
        with whole_file(output) as stream:
            np.savez(
                stream,
                embeddings=embedded.blocks.array,
                **ids,
                layout=np.array(json.dumps(embedded.blocks.layout.to_widths())),
            )
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error}") from error
    return embedded


def _id_arrays(ids: Sequence[str]) -> dict[str, Any]:
    """Returns ids as an array of texts, or as bytes with offsets where that would not fit them."""
    padded = 4 * len(ids) * max(map(len, ids))
    fits = padded <= max(_SMALL, _MOST_PADDING * 4 * sum(map(len, ids)))
    if fits:
        return {"ids": np.array(ids)}
    encoded = [one.encode("utf-8", "surrogatepass") for one in ids]
    return {
        "ids_utf8": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "ids_offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
    }
