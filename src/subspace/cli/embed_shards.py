"""What a process does that writes shards: plans them, encodes its share, writes what is missing."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from subspace.cli.arguments import corpus_file, open_encoder
from subspace.data.document_file import DocumentFile
from subspace.encoder import Kind
from subspace.model import Checkpoint, load_checkpoint
from subspace.model.embedding_shards import EmbeddingShards
from subspace.retrieval.index import digest_projection

# Seconds that the other processes wait for the first to read the input.
_PATIENCE = 3600.0


@dataclass(frozen=True)
class ShardJob:
    """All that a process has to know; can be sent to another one.

    Attributes:
        shards: Where they go and what is in them.
        checkpoint: Whose projection, and which encoder.
        encoder: Where the encoder lies, if not where the checkpoint says.
        dtype: In which the encoder runs, if not as the checkpoint's did.
        store: Folder of computed embeddings.
        kind: What the texts are.
    """

    shards: EmbeddingShards
    checkpoint: Checkpoint
    encoder: str | None
    dtype: str | None
    store: str
    kind: Kind

    def open(self, *, device: str | None = None) -> Callable[[int], None]:
        """Opens the encoder and gives what writes a shard by its number, unless it is done."""
        encoder = open_encoder(
            self.checkpoint,
            encoder=self.encoder,
            store=self.store,
            dtype=self.dtype,
            device=device,
        )
        projection = self.checkpoint.projection
        project = projection.queries if self.kind == "query" else projection
        encoder.warns = False  # said once, of all shards

        def write(number: int) -> None:
            if number not in self.shards.missing():
                return
            documents = self.shards.source.read(number)
            texts = [document.text for document in documents]
            raw = encoder.encode(texts, kind=self.kind)
            self.shards.write(
                number,
                ids=[document.id for document in documents],
                embeddings=project(raw),
                # Not what was computed: some may have been stored.
                truncated=encoder.encoder.count_truncated(texts, kind=self.kind),
            )

        return write


def plan_shards(arguments: argparse.Namespace, *, first: bool) -> ShardJob:
    """Reads the input once and starts the folder, or goes on with it.

    Args:
        arguments: Of `subspace embed`.
        first: False in a process that another one started, which has planned already.
    """
    checkpoint = load_checkpoint(arguments.checkpoint)
    folder, path = Path(arguments.output), corpus_file(arguments.input)
    kind: Kind = "query" if arguments.queries else "document"
    if first:
        source = DocumentFile.scan(path, texts_per_part=arguments.shard_size, progress=True)
        shards = EmbeddingShards.create(
            folder,
            kind=kind,
            encoder_dtype=arguments.encoder_dtype or checkpoint.fingerprint.dtype,
            layout=checkpoint.projection.layout,
            source=source,
            projection_digest=digest_projection(checkpoint.projection),
        )
    else:
        planned = _wait_for_plan(folder)
        shards = replace(planned, source=replace(planned.source, path=path))
    return ShardJob(
        shards=shards,
        checkpoint=checkpoint,
        encoder=arguments.encoder,
        dtype=arguments.encoder_dtype,
        store=arguments.store,
        kind=kind,
    )


def _wait_for_plan(folder: Path) -> EmbeddingShards:
    """What the first process plans, which may be at it still."""
    deadline = time.monotonic() + _PATIENCE
    while not (folder / "manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    return EmbeddingShards.open(folder)


def write_missing(job: ShardJob) -> None:
    """Writes what is missing, one after the other."""
    write = job.open()
    missing = job.shards.missing()
    done = len(job.shards) - len(missing)
    for number in tqdm(missing, desc="shards", initial=done, total=len(job.shards)):
        write(number)
