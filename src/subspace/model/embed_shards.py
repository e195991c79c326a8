"""A file of texts to a folder of shards: planned once, written by as many processes as there are.

One process plans: it reads the file once and starts the folder, or goes on with one that an earlier
run began. Others join, as soon as the plan is there.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from subspace.data.document_file import DocumentFile
from subspace.model.embed_texts import TextEmbedder
from subspace.model.embedding_shards import MANIFEST, EmbeddingShards

# Seconds that the other processes wait for the first to read the input.
_PATIENCE = 3600.0


@dataclass(frozen=True)
class ShardJob:
    """All that a process has to know to write shards; can be sent to another one.

    Attributes:
        shards: Where they go and what is in them.
        embedder: What makes the blocks.
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
        """Reads the texts once and starts the folder, or goes on with it.

        Args:
            texts: JSONL with `id` (or `_id`) and `text`.
            folder: New, empty, or that of an earlier run.
            embedder: What makes the blocks.
            texts_per_shard: How many texts go into one file.
            progress: Whether to show how far the reading is.

        Raises:
            RecordError: Lines of the file are wrong.
            StoreError: The folder holds something else or another run, or cannot be written to.
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
        """What another process plans, which may be at it still.

        Args:
            texts: Where the texts are for this process.
            folder: Where the plan is, or will be.
            embedder: What makes the blocks.

        Raises:
            StoreError: There is no plan, an hour later.
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
            RecordError: The texts are not what they were when the job was planned.
            EncoderError: The encoder cannot be had.
            CheckpointError: It is not the one that the model was fitted on.
            StoreError: The store cannot be used, or the disk refuses.
        """
        if self.shards.is_done(number):
            return
        documents = self.shards.source.read(number)
        embedded = self.embedder([document.text for document in documents])
        self.shards.write(
            number,
            ids=[document.id for document in documents],
            embeddings=embedded.blocks.array,
            truncated=embedded.truncated,
        )

    def write_missing(self, *, progress: bool = False) -> None:
        """Writes what is missing, one after the other; raises what `write` raises."""
        missing = self.shards.missing()
        total = len(self.shards)
        done = total - len(missing)
        for number in tqdm(missing, desc="shards", initial=done, total=total, disable=not progress):
            self.write(number)
