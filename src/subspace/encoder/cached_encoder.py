"""CachedEncoder: an encoder that asks its store first and remembers what it computed."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from subspace.arrays import Ints, Vectors
from subspace.encoder import Encoder, EncoderSpec, Kind
from subspace.encoder.embedding_store import EmbeddingStore, StoreDtype

_log = logging.getLogger(__name__)


class CachedEncoder:
    """Encodes texts once: vectors go to a store on disk and come from there ever after.

    Attributes:
        encoder: Computes what is not stored; its weights are loaded only then.
        store: Where the vectors are.
        warns: Whether texts that are cut are reported at once, or left to who asks `truncated`.
    """

    def __init__(self, encoder: Encoder, store: EmbeddingStore) -> None:
        """Joins an encoder and the store of its fingerprint; see `open`."""
        self.encoder = encoder
        self.store = store
        self.warns = True
        self._reported = 0

    @property
    def truncated(self) -> int:
        """How many texts so far were longer than the encoder reads, and cut."""
        return self.encoder.truncated

    @classmethod
    def open(
        cls, spec: EncoderSpec, *, root: Path | str, dtype: StoreDtype | None = None
    ) -> "CachedEncoder":
        """Opens the encoder and its store below `root`.

        Args:
            spec: Which encoder.
            root: Folder that holds the stores of all encoders.
            dtype: How a new store keeps numbers; None for float32, or as the store does.

        Raises:
            EncoderError: The encoder cannot be had.
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
        """The store's row of each text, after encoding and storing those that are missing.

        An interrupted call keeps every batch that was finished.
        """
        prompt = self.encoder.prompt(kind)
        prompted = [prompt + text for text in texts]
        rows = self.store.find(prompted)
        missing = np.flatnonzero(rows < 0)
        if not len(missing):
            return rows
        # Equal texts are encoded once; the first of them stands for all.
        first = list({prompted[position]: position for position in reversed(missing)}.values())
        wanted = [texts[position] for position in sorted(first)]
        with tqdm(
            total=len(wanted), desc="encoding", unit="text", disable=not progress
        ) as progress_bar:
            for positions, vectors in self.encoder.encode_batches(wanted, kind=kind):
                batch = [prompt + wanted[position] for position in positions]
                self.store.append(batch, vectors)
                progress_bar.update(len(batch))
        self.report_truncation()
        return self.store.find(prompted)

    def report_truncation(self) -> None:
        """Warns of texts that were cut since it last did."""
        new = self.encoder.truncated - self._reported
        if new and self.warns:
            _log.warning(
                "%d texts are longer than the encoder's %d tokens; what is beyond was not read",
                new,
                self.encoder.fingerprint.max_length,
            )
            self._reported += new

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "document", progress: bool = False
    ) -> Vectors:
        """Vectors (N, dim) in memory, from the store where they are there."""
        prompt = self.encoder.prompt(kind)
        found = self.store.fetch([prompt + text for text in texts])
        if found is not None:
            return found
        return self.store.read(self.rows(texts, kind=kind, progress=progress))
