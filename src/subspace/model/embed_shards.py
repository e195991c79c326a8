"""Embedding of a file of texts into a folder of shards, by any number of processes.

One process plans: it reads the file once and creates the folder, or continues an earlier run in it.
Other processes join as soon as the plan exists.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from subspace.data.document_file import DocumentFile
from subspace.model.embed_texts import TextEmbedder
from subspace.model.embedding_shards import MANIFEST, EmbeddingShards

# Seconds that other processes wait for the plan, which takes one reading of the input.
_PATIENCE = 3600.0


@dataclass(frozen=True)
class ShardJob:
    """Everything that a process needs to write shards; can be sent to another process.

    Attributes:
        shards: The folder of shards and their texts.
        embedder: Makes the blocks.
    """

    shards: EmbeddingShards
    embedder: TextEmbedder

    @classmethod
    def plan(
        cls,
        texts: Path,
        folder: Path,
        *,
        embedder: TextEmbedder,
        texts_per_shard: int,
        progress: bool = False,
    ) -> "ShardJob":
        """Reads the texts once and creates the folder of shards, or continues an earlier run.

        Args:
            texts: JSONL with `id` (or `_id`) and `text`.
            folder: New, empty, or of an earlier run.
            embedder: Makes the blocks.
            texts_per_shard: Number of texts per shard.
            progress: Whether to show a progress bar of the reading.

        Raises:
            RecordError: Lines of the file are invalid.
            StoreError: The folder holds other files or another run, or cannot be written.
        """
        model = embedder.model
        shards = EmbeddingShards.create(
            folder,
            layout=model.layout,
            source=DocumentFile.scan(texts, texts_per_part=texts_per_shard, progress=progress),
            projection_digest=model.projection.digest,
            kind=embedder.kind,
            encoder_dtype=embedder.dtype or model.fingerprint.dtype,
        )
        return cls(shards=shards, embedder=embedder)

    @classmethod
    def join(cls, texts: Path, folder: Path, *, embedder: TextEmbedder) -> "ShardJob":
        """Joins the job that another process plans; waits until the plan exists.

        Args:
            texts: Path of the texts for this process.
            folder: Folder of the plan.
            embedder: Makes the blocks.

        Raises:
            StoreError: There is no plan after an hour, or it cannot be read.
        """
        deadline = time.monotonic() + _PATIENCE
        while not (folder / MANIFEST).exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        shards = EmbeddingShards.open(folder)
        own = replace(shards.source, path=texts)
        return cls(shards=replace(shards, source=own), embedder=embedder)

    def write(self, number: int) -> None:
        """Writes one shard, unless it is done.

        Raises:
            RecordError: The texts have changed since the job was planned.
            EncoderError: The encoder cannot be loaded.
            CheckpointError: The encoder is not the one that the model was fitted on.
            StoreError: The store cannot be used, or the shard cannot be written.
        """
        if self.shards.is_done(number):
            return
        documents = self.shards.source.read(number)
        embedded = self.embedder([document.text for document in documents])
        self.shards.write(
            number,
            ids=[document.id for document in documents],
            embeddings=embedded.blocks.array,
            truncation=embedded.truncation,
        )

    def write_missing(self, *, progress: bool = False) -> None:
        """Writes the missing shards one by one; raises the errors of `write`."""
        missing = self.shards.missing()
        total = len(self.shards)
        done = total - len(missing)
        for number in tqdm(
            missing, desc="shards", initial=done, total=total, disable=not progress or None
        ):
            self.write(number)
