"""Model: what a fit gives; turns texts and stored vectors into blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout, Blocks
from subspace.encoder import Encoder, EncoderSpec, Fingerprint, Kind
from subspace.errors import CheckpointError, LayoutError, QueryError
from subspace.model.encoder_check import encoder_differences
from subspace.model.linear_heads import Heads, check_heads
from subspace.model.projection import Projection


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Model:
    """A fitted projection and everything that is needed to use it.

    Attributes:
        projection: Maps raw vectors of the encoder to blocks.
        encoder: How to load the frozen encoder.
        fingerprint: What the encoder's vectors depend on.
        heads: By factor, what is read from its block: a direction for numbers, classes for
            categories. Empty where nothing was fitted.
        default_weights: The weight of every block in a search that names none; empty for equal
            ones with sum 1.
        score_spreads: By block, the standard deviation of the cosine of two texts, as it was
            among the training texts; empty if nothing was measured.
        data: Hash of the records of each source that it was fitted on.
        recipe: How it was fitted, JSON-ready; `subspace.fitting.Recipe` reads it.
        folder: Where it was read from; None for one that was not read from a folder.

    Raises:
        LayoutError: The projection does not fit the encoder, a head does not fit its block, or a
            weight is of no block.
    """

    projection: Projection
    encoder: EncoderSpec
    fingerprint: Fingerprint
    heads: Heads = field(default_factory=dict)
    default_weights: Mapping[str, float] = field(default_factory=dict)
    score_spreads: Mapping[str, float] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Checks that the parts fit each other."""
        if self.projection.input_dim != self.fingerprint.dim:
            raise LayoutError(
                f"the projection takes {self.projection.input_dim} dimensions, its encoder gives "
                f"{self.fingerprint.dim}"
            )
        check_heads(self.heads, layout=self.layout)
        weights = dict(self.default_weights) or dict.fromkeys(self.layout, 1 / len(self.layout))
        if set(weights) != set(self.layout):
            raise LayoutError(
                f"default weights are of {', '.join(weights)}, the blocks are "
                f"{', '.join(self.layout)}"
            )
        if not all(0 <= w < np.inf for w in weights.values()) or not any(weights.values()):
            raise LayoutError(f"default weights must be 0 or more, and one above 0, got {weights}")
        object.__setattr__(self, "default_weights", weights)
        spreads = dict(self.score_spreads) or dict.fromkeys(self.layout, 1.0)
        if set(spreads) != set(self.layout) or not all(0 < s < np.inf for s in spreads.values()):
            raise LayoutError(f"score spreads must be above 0, one per block, got {spreads}")
        object.__setattr__(self, "score_spreads", spreads)

    @property
    def layout(self) -> BlockLayout:
        """The blocks of a vector."""
        return self.projection.layout

    @property
    def score_scales(self) -> Mapping[str, float]:
        """What brings every block's scores to the standard deviation of the first block's."""
        first = self.score_spreads[self.layout.names[0]]
        return {name: first / spread for name, spread in self.score_spreads.items()}

    def encode_document(self, texts: Sequence[str]) -> Blocks:
        """Encodes texts that are searched in.

        Raises:
            EncoderError: The encoder cannot be had, or a text is empty.
            CheckpointError: The encoder is not the one that the model was fitted on.
        """
        return self.project(self.open_encoder().encode(texts))

    def encode_query(self, texts: Sequence[str]) -> Blocks:
        """Encodes texts that are searched for: with the encoder's prompt for queries.

        Raises:
            EncoderError: The encoder cannot be had, or a text is empty.
            CheckpointError: The encoder is not the one that the model was fitted on.
        """
        return self.project(self.open_encoder().encode(texts, kind="query"), kind="query")

    def project(self, vectors: Vectors, *, kind: Kind = "document") -> Blocks:
        """Projects raw vectors of the encoder.

        Args:
            vectors: Float32 (N, D), every layer's part of unit length, as the encoder gives them.
            kind: What the vectors are of: `document` or `query`.

        Raises:
            LayoutError: The vectors have another dimension, or are not finite.
        """
        project = self.projection.queries if kind == "query" else self.projection
        return Blocks(project(vectors), self.layout)

    def centred_on(self, vectors: Vectors) -> "Model":
        """The same model with its blocks centred on some texts, such as those of an index.

        Texts of one kind share what tells them from the texts of the fit; without it, blocks tell
        them apart better (docs/results.md). It is another model to an index: save it.

        Args:
            vectors: Raw vectors of the encoder (N, D).

        Raises:
            LayoutError: The vectors have another dimension, or are not finite.
        """
        mean = np.asarray(vectors, dtype=np.float64).mean(axis=0).astype(np.float32)
        return replace(self, projection=replace(self.projection, mean=mean), folder=None)

    def predict(self, blocks: Blocks) -> dict[str, Sequence[str | float]]:
        """Labels of N texts by factor, as the heads read them from the factors' blocks."""
        return {factor: head(blocks[factor]) for factor, head in self.heads.items()}

    def direction(self, factor: str) -> Vectors:
        """The direction toward more of a factor (layout.dim,), zero outside the factor's block.

        `blocks.array @ direction` orders texts.

        Raises:
            QueryError: The model has no direction for that factor.
        """
        numbers = [name for name, head in self.heads.items() if head.classes is None]
        if factor not in numbers:
            raise QueryError(
                f"no direction for '{factor}': this model has directions for "
                f"{', '.join(numbers) or 'nothing'} (factors of numbers that it was fitted on)"
            )
        direction = np.zeros(self.layout.dim, dtype=np.float32)
        direction[self.layout.slice(factor)] = self.heads[factor].weight[0]
        return direction

    def open_encoder(self) -> Encoder:
        """The frozen encoder; its weights are loaded when the first text is encoded.

        Raises:
            EncoderError: It cannot be had.
            CheckpointError: It is not the one that the model was fitted on.
        """
        return self._encoder

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = Encoder(self.encoder)
        self.check_encoder(encoder.fingerprint)
        return encoder

    def check_encoder(self, fingerprint: Fingerprint) -> None:
        """Raises unless an encoder is the one that the model was fitted on.

        Raises:
            CheckpointError: With every field that differs.
        """
        differences = encoder_differences(self.fingerprint, fingerprint)
        if differences:
            raise CheckpointError(
                "the checkpoint was made for another encoder: it wants " + "; ".join(differences)
            )

    def save(self, folder: Path | str, **card: Any) -> None:
        """Writes a checkpoint folder: whole, or not at all; other files there stay.

        Args:
            folder: Where to.
            card: Of `model_card.make_card`: `report` and `licences`. If given, a model card is
                written too, but not over one that was written by hand.

        Raises:
            CheckpointError: The folder holds something else, or the disk refuses.
            ConfigError: The card's report or licences cannot be used.
        """
        from subspace.model.checkpoint import save

        save(self, folder, card=card or None)

    def save_pretrained(self, save_directory: Path | str, **card: Any) -> None:
        """Writes a checkpoint folder with a model card; see `save`."""
        name = Path(save_directory).resolve().name
        self.save(save_directory, **{"name": name, **card})

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Checkpoint of subspace",
        **card: Any,
    ) -> str:
        """Pushes what `save_pretrained` writes; makes the repository if there is none.

        Args:
            repo_id: `owner/name`.
            private: Of a new repository; None for the owner's default.
            token: Of the Hugging Face hub; None for the one that is logged in.
            commit_message: Of the commit.
            card: Of `model_card.make_card`: `report` and `licences`.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: The name is none of a repository, the repository holds another model,
                or the hub refuses or cannot be reached.
            ConfigError: The card's report or licences cannot be used.
        """
        from subspace.model.hub import push

        return push(
            self,
            repo_id,
            private=private,
            token=token,
            commit_message=commit_message,
            card={"name": repo_id, **card},
        )
