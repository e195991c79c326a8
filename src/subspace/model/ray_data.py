"""Embedding of texts with Ray Data, for corpora that one machine cannot hold.

::

    import ray
    from subspace.model.ray_data import EmbedTexts

    texts = ray.data.read_parquet("s3://bucket/texts")
    blocks = texts.map_batches(
        EmbedTexts,
        fn_constructor_kwargs={"checkpoint": "checkpoints/minilm"},
        batch_size=1024,
        compute=ray.data.ActorPoolStrategy(size=4),  # number of encoders
        num_gpus=1,  # per encoder; leave it out on CPUs
    )
    blocks.write_parquet("s3://bucket/blocks")

This needs `pip install 'subspace-embeddings[ray]'`. Ray distributes the work, repeats batches that
failed, and writes the results.
"""

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from subspace.encoder import Encoder, Kind, find_fault
from subspace.errors import ConfigError
from subspace.model.checkpoint import load

_log = logging.getLogger(__name__)


class EmbedTexts:
    """A callable for `map_batches` that adds the blocks of each row's text; one per worker."""

    def __init__(
        self,
        *,
        checkpoint: str,
        encoder: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        queries: bool = False,
        text: str = "text",
        embedding: str = "embedding",
        error: str = "embedding_error",
    ) -> None:
        """Opens the checkpoint; the encoder's weights are loaded at the first batch.

        Args:
            checkpoint: Checkpoint folder or file, present on every machine.
            encoder: Folder or hub id of the encoder, if it is not where the checkpoint says.
            device: A device name of torch; None for the best that the worker is given.
            dtype: Precision of the encoder, if another than in training; see `EncoderSpec`.
            queries: Whether the texts are queries.
            text: Column to read.
            embedding: Column to add: float32 (D_out,), block by block; zeros for a text that cannot
                be encoded.
            error: Column to add: the reason why a text cannot be encoded, or an empty text. Such
                texts neither stop a run nor go unnoticed.

        Raises:
            CheckpointError: The checkpoint cannot be used.
            EncoderError: The encoder cannot be loaded.
        """
        self._model = load(checkpoint, encoder=encoder, device=device)
        spec = self._model.encoder
        self._encoder = Encoder(replace(spec, dtype=dtype or spec.dtype))
        self._model.check_encoder(replace(self._encoder.fingerprint, dtype=spec.dtype))
        self._kind: Kind = "query" if queries else "document"
        self._text, self._embedding, self._error = text, embedding, error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Returns the batch, whose columns are arrays, with the columns of blocks and errors.

        Raises:
            ConfigError: The batch has no column of texts.
        """
        if self._text not in batch:
            raise ConfigError(f"there is no column {self._text!r}, only {', '.join(sorted(batch))}")
        texts = list(batch[self._text])
        faults = [find_fault(text) for text in texts]
        good = [place for place, fault in enumerate(faults) if fault is None]
        blocks = np.zeros((len(texts), self._model.layout.dim), dtype=np.float32)
        vectors = self._encoder.encode([texts[place] for place in good], kind=self._kind)
        blocks[good] = self._model.project(vectors, kind=self._kind).array
        errors = np.array([f"text {fault}" if fault else "" for fault in faults], dtype=object)
        return {**batch, self._embedding: blocks, self._error: errors}
