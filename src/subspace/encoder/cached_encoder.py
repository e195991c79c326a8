"""CachedEncoder: an encoder that keeps its vectors in a store on disk."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from subspace.arrays import Ints, Vectors
from subspace.encoder import Encoder, EncoderSpec, Kind
from subspace.encoder.embedding_store import EmbeddingStore, StoreDtype
from subspace.encoder.pooling import OWN_MEAN
from subspace.encoder.truncation import Truncation

_log = logging.getLogger(__name__)


class CachedEncoder:
    """An encoder with a store on disk, so that no text is encoded twice.

    Attributes:
        encoder: Computes vectors that are not stored; its weights are loaded only then.
        store: Holds the vectors.
        warns: Whether to log a warning when texts are cut; `truncated` counts them anyway.
    """

    def __init__(self, encoder: Encoder, store: EmbeddingStore) -> None:
        """Combines an encoder with the store of its fingerprint; see `open`."""
        self.encoder = encoder
        self.store = store
        self.warns = True
        self._reported = Truncation()

    @property
    def truncated(self) -> int:
        """Number of texts so far that were longer than the maximum length and were cut."""
        return self.encoder.truncated

    @classmethod
    def open(
        cls, spec: EncoderSpec, *, root: Path | str, dtype: StoreDtype | None = None
    ) -> "CachedEncoder":
        """Opens the encoder and its store below `root`.

        Args:
            spec: Which encoder to open.
            root: Folder that holds the stores of all encoders.
            dtype: Precision of the stored numbers; None for that of an existing store, or float32
                for a new one.

        Raises:
            EncoderError: The encoder cannot be loaded.
            StoreError: The store cannot be used.
        """
        encoder = Encoder(spec)
        store = EmbeddingStore.open(
            root,
            digest=encoder.fingerprint.digest,
            fingerprint=encoder.fingerprint.to_json(),
            dim=encoder.dim,
            dtype=dtype,
        )
        return cls(encoder, store)

    def rows(
        self, texts: Sequence[str], *, kind: Kind = "document", progress: bool = False
    ) -> Ints:
        """Encodes and stores the texts that are missing, then returns the store's row of each text.

        An interrupted call keeps every finished batch.
        """
        keys = self._keys(texts, kind=kind)
        rows = self.store.find(keys)
        missing = np.flatnonzero(rows < 0)
        if not len(missing):
            return rows
        # Of equal texts only the first is encoded.
        first = list({keys[position]: position for position in reversed(missing)}.values())
        wanted = [texts[position] for position in sorted(first)]
        with tqdm(
            total=len(wanted), desc="encoding", unit="text", disable=not progress or None
        ) as progress_bar:
            for positions, vectors in self.encoder.encode_batches(wanted, kind=kind):
                batch = [wanted[position] for position in positions]
                self.store.append(self._keys(batch, kind=kind), vectors)
                progress_bar.update(len(batch))
        self.report_truncation()
        return self.store.find(keys)

    def _keys(self, texts: Sequence[str], *, kind: Kind) -> list[str]:
        """Returns the keys of texts in the store: what the encoder reads.

        A prompt that is left out of a mean differs from a text that begins with the same words.
        """
        prompt = self.encoder.prompt(kind)
        if prompt and self.encoder.fingerprint.early_pooling == OWN_MEAN:
            prompt += "\0"
        return [prompt + text for text in texts]

    def report_truncation(self) -> None:
        """Logs how many texts were cut since the last such warning, unless `warns` is off."""
        new = self.encoder.truncation - self._reported
        if new and self.warns:
            _log.warning(new.say(max_length=self.encoder.fingerprint.max_length))
            self._reported += new

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "document", progress: bool = False
    ) -> Vectors:
        """Returns vectors (N, dim) in memory; encodes and stores only those that are missing."""
        found = self.store.fetch(self._keys(texts, kind=kind))
        if found is not None:
            return found
        return self.store.read(self.rows(texts, kind=kind, progress=progress))
