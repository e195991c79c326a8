"""A file of texts to one .npz file of blocks, and the embedder that shards are made with too."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from subspace.blocks import Blocks
from subspace.data.retrieval_sets import read_documents
from subspace.encoder import Kind
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.files import whole_file
from subspace.model.model import Model


def open_stored_encoder(
    model: Model, *, store: Path | str, dtype: str | None = None, device: str | None = None
) -> CachedEncoder:
    """A model's encoder with the vectors that it has computed before.

    Args:
        model: Whose.
        store: Folder of computed embeddings.
        dtype: In what the encoder computes, if not as in training.
        device: Where it computes, if not where the model says.

    Raises:
        EncoderError: It cannot be had.
        CheckpointError: It is not the one that the model was fitted on.
        StoreError: The store cannot be used.
    """
    spec = model.encoder
    asked_for = replace(spec, dtype=dtype or spec.dtype, device=device or spec.device)
    encoder = CachedEncoder.open(asked_for, root=store)
    # Another precision is what the user chose; all else must be as in training.
    model.check_encoder(replace(encoder.encoder.fingerprint, dtype=model.fingerprint.dtype))
    return encoder


@dataclass(frozen=True)
class Embedded:
    """Blocks of texts, and what was lost on the way.

    Attributes:
        blocks: Of N texts, in order.
        truncated: How many of the texts were longer than the encoder reads, and cut.
    """

    blocks: Blocks
    truncated: int


@dataclass(frozen=True)
class TextEmbedder:
    """How texts become blocks; the encoder is opened when it is first needed.

    One that has not been used yet can be sent to another process.

    Attributes:
        model: Whose blocks.
        store: Folder of computed embeddings.
        dtype: In what the encoder computes, if not as in training; see `EncoderSpec`.
        device: Where it computes, if not where the model says.
        kind: What the texts are.
    """

    model: Model
    store: Path | str
    dtype: str | None = None
    device: str | None = None
    kind: Kind = "document"

    def __call__(self, texts: Sequence[str], *, progress: bool = False) -> Embedded:
        """Embeds texts.

        Raises:
            EncoderError: The encoder cannot be had, or a text is empty.
            CheckpointError: It is not the one that the model was fitted on.
            StoreError: The store cannot be used.
        """
        vectors = self._encoder.encode(texts, kind=self.kind, progress=progress)
        return Embedded(
            blocks=self.model.project(vectors, kind=self.kind),
            # Not what was computed: some may have been stored.
            truncated=self._encoder.encoder.count_truncated(texts, kind=self.kind),
        )

    @property
    def encoder_dtype(self) -> str:
        """In what the encoder computes: `float32` or `bfloat16`."""
        return self._encoder.encoder.fingerprint.dtype

    @cached_property
    def _encoder(self) -> CachedEncoder:
        encoder = open_stored_encoder(
            self.model, store=self.store, dtype=self.dtype, device=self.device
        )
        encoder.warns = False  # who calls is given the number of texts that were cut
        return encoder


def embed_to_file(
    texts: Path, output: Path, *, embedder: TextEmbedder, progress: bool = False
) -> Embedded:
    """Writes `embeddings`, `ids` and `layout` (JSON) of a file of texts to an .npz file.

    It is written whole, or not at all; memory must hold all of it.

    Args:
        texts: JSONL with `id` (or `_id`) and `text`.
        output: The .npz file; its folder must be there.
        embedder: What makes the blocks.
        progress: Whether to show how far it is.

    Raises:
        RecordError: Lines of the file are wrong.
        EncoderError: The encoder cannot be had.
        CheckpointError: It is not the one that the model was fitted on.
        StoreError: The store cannot be used.
        ConfigError: The file cannot be written.
    """
    documents = read_documents(texts)
    embedded = embedder([document.text for document in documents], progress=progress)
    try:
        with whole_file(output) as stream:
            np.savez(
                stream,
                embeddings=embedded.blocks.array,
                ids=np.array([document.id for document in documents]),
                layout=np.array(json.dumps(embedded.blocks.layout.to_widths())),
            )
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error}") from error
    return embedded
