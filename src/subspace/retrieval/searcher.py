"""Searcher: text in, weighted hits out."""

from collections.abc import Mapping
from pathlib import Path

from subspace.checkpoint import Checkpoint, load_checkpoint
from subspace.encoder import Encoder
from subspace.retrieval.index import BlockIndex, Hit
from subspace.retrieval.weights import BlockWeights


class Searcher:
    """Searches an index with the checkpoint that made it.

    Attributes:
        index: What is searched.
    """

    def __init__(self, checkpoint: Checkpoint, index: BlockIndex, *, encoder: Encoder) -> None:
        """Checks that the three belong together.

        Raises:
            CheckpointError: The encoder is not the one the checkpoint was trained on.
            IndexFolderError: The index was built with another checkpoint.
        """
        checkpoint.check_encoder(encoder.fingerprint)
        index.check_projection(checkpoint.projection)
        self.index = index
        self._projection = checkpoint.projection
        self._encoder = encoder

    @classmethod
    def open(
        cls, checkpoint: Path | str, index: Path | str, *, encoder_model: str | None = None
    ) -> "Searcher":
        """Opens a checkpoint and an index from disk.

        Args:
            checkpoint: Folder or Lightning file.
            index: Folder written by `BlockIndex.save`.
            encoder_model: Where the encoder lies, if not where the checkpoint says.
        """
        loaded = load_checkpoint(checkpoint)
        encoder = Encoder(loaded.encoder_spec(model=encoder_model))
        return cls(loaded, BlockIndex.load(index), encoder=encoder)

    def search(
        self,
        text: str,
        *,
        weights: BlockWeights | Mapping[str, float] | None = None,
        k: int = 10,
    ) -> list[Hit]:
        """The best `k` documents for `text`.

        Args:
            text: What to search for.
            weights: Weight by block name, blocks left out count 0; equal ones if None.
            k: How many; more than there are gives all.

        Raises:
            EncoderError: The text is empty.
            ConfigError: `k` is no number from 1.
            WeightsError: A weight is wrong, or they are for another layout.
        """
        query = self._projection(self._encoder.encode([text], kind="query"))[0]
        return self.index.search(query, weights=weights, k=k)
