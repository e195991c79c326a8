"""Model: the result of a fit; turns texts and stored vectors into blocks."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout, Blocks
from subspace.data.comparisons import Comparison
from subspace.data.ratings import Rating
from subspace.data.records import Record
from subspace.encoder import Encoder, EncoderSpec, Fingerprint, Kind
from subspace.errors import CheckpointError, ConfigError, LayoutError, QueryError
from subspace.model.adapt_labels import adapt_to_labels
from subspace.model.adapt_layers import RawVectors
from subspace.model.centre import PRIOR_TEXTS, Centre, mean_of
from subspace.model.class_nearness import ClassNearness, nearness_tensors
from subspace.model.document_sample import DocumentSample
from subspace.model.encoder_check import encoder_differences
from subspace.model.fold import BlockWeights, FoldQuery, fold_query
from subspace.model.linear_heads import Heads, check_heads, head_tensors, read_by
from subspace.model.projection import Projection
from subspace.model.score_spread import SPREAD_SAMPLE, measure_score_spread
from subspace.model.toward import Toward

# Where `Model.adapt` looks for directions.
Depth = Literal["block", "layers"]
DEPTHS: tuple[Depth, ...] = ("block", "layers")
# Maximum number of names that a message lists.
_SHOWN = 12


@dataclass(frozen=True, eq=False, repr=False)  # == on arrays gives no single bool
class Model:
    """A fitted projection and everything needed to use it.

    Attributes:
        projection: Maps raw vectors of the encoder to blocks.
        encoder: How to load the frozen encoder.
        fingerprint: Everything that determines the encoder's vectors.
        heads: By factor, the head that reads it from its block: a direction for numbers, classes
            for categories. Empty if none was fitted.
        default_weights: Weight of each block in a search without weights; if empty, equal weights
            with sum 1.
        score_spreads: By block, the standard deviation of the cosine between two training texts;
            if empty, 1 for each.
        data: Hash of the records of each source that it was fitted on.
        recipe: How it was fitted, JSON-ready; `subspace.fitting.Recipe` reads it.
        nearness: By block, how queries prefer texts of their own classes, which `adapt` learned.
        adapted: What `adapt` was given: the digest of the model before (`parent`); by factor the
            numbers of labels and comparisons, the labels' origins, how far they are trusted, from
            0 to 1, the ratings of hits by search (`feedback`), and how a new direction goes along
            with those that were there (`follows`, correlations) (`factors`); and keys of the texts
            that were labelled (`texts`). Empty if the model was not adapted.
        folder: The checkpoint folder that it was read from, or None.

    Raises:
        LayoutError: The projection does not fit the encoder, a head does not fit its block, or
            weights or score spreads are not one valid number per block.
    """

    projection: Projection
    encoder: EncoderSpec
    fingerprint: Fingerprint
    heads: Heads = field(default_factory=dict)
    default_weights: Mapping[str, float] = field(default_factory=dict)
    score_spreads: Mapping[str, float] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    nearness: Mapping[str, ClassNearness] = field(default_factory=dict)
    adapted: Mapping[str, Any] = field(default_factory=dict)
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
        for block, near in self.nearness.items():
            if near.weight.shape[1] != self.layout.to_widths().get(block):
                raise LayoutError(f"the classes of '{block}' do not fit the block")
            if self.default_weights.get(block):
                raise LayoutError(f"classes would change what a plain search finds in '{block}'")

    def __repr__(self) -> str:
        """Returns blocks, encoder and folder in one line."""
        blocks = ", ".join(f"{name} {width}" for name, width in self.layout.to_widths().items())
        layers = ", ".join(map(str, self.fingerprint.layers))
        where = "" if self.folder is None else f", from {self.folder}"
        return f"Model({blocks}; layers {layers} of {self.fingerprint.model}{where})"

    @property
    def layout(self) -> BlockLayout:
        """The blocks of a vector."""
        return self.projection.layout

    @property
    def score_scales(self) -> Mapping[str, float]:
        """Factor by block that gives its scores the standard deviation of the first block."""
        first = self.score_spreads[self.layout.names[0]]
        return {name: first / spread for name, spread in self.score_spreads.items()}

    @property
    def digest(self) -> str:
        """SHA-256 over projection, heads and nearness."""
        numbers = {block: near.numbers() for block, near in sorted(self.nearness.items())}
        classes = {factor: head.classes for factor, head in sorted(self.heads.items())}
        names = json.dumps([self.projection.digest, classes, numbers])
        digest = hashlib.sha256(names.encode())
        parts = [*head_tensors(self.heads), *nearness_tensors(self.nearness)]
        for name, array in sorted(parts, key=lambda part: part[0]):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def encode_document(self, texts: Sequence[str]) -> Blocks:
        """Encodes documents, which are the texts to search, to blocks.

        Raises:
            EncoderError: The encoder cannot be loaded, or a text is empty.
            CheckpointError: The encoder is not the one that the model was fitted on.
        """
        return self.project(self.open_encoder().encode(texts))

    def encode_query(self, texts: Sequence[str]) -> Blocks:
        """Encodes queries to blocks, with the encoder's prompt for queries.

        Classes that `adapt` learned are not in them: `near_classes` adds these.

        Raises:
            EncoderError: The encoder cannot be loaded, or a text is empty.
            CheckpointError: The encoder is not the one that the model was fitted on.
        """
        return self.project(self.open_encoder().encode(texts, kind="query"), kind="query")

    def project(self, vectors: Vectors, *, kind: Kind = "document") -> Blocks:
        """Projects raw vectors of the encoder to blocks.

        Args:
            vectors: Float32 (N, D), each layer's part of unit length, as the encoder gives them.
            kind: Whether the texts are documents or queries.

        Raises:
            LayoutError: The vectors have the wrong dimension, or are not finite.
        """
        project = self.projection.queries if kind == "query" else self.projection
        return Blocks(project(vectors), self.layout)

    def centred_on(self, vectors: Vectors) -> "Model":
        """Returns a copy whose blocks are centred on given texts, such as those of an index.

        Texts of one kind share properties in which they differ from the training texts. Centring
        removes these, so that blocks distinguish the texts better (docs/results.md). Blocks that
        a search without weights uses stay as they are: `subspace.adapt` centres these, on queries
        and documents each. Score spreads are those of the given texts. Heads stay as
        directions; those of classes predict no labels any more, as classes were told apart around
        the other centre, and what those of numbers predict is off by a constant.

        Args:
            vectors: Raw vectors of the encoder (N, D). The mean of few texts says little: the
                training mean counts as another 5.

        Raises:
            LayoutError: The vectors have the wrong dimension, or are not finite.
        """
        return self.centred_at(self.centre_of(vectors))

    def centre_of(self, vectors: Vectors) -> Centre:
        """Measures where `centred_on` centres the blocks, and how their scores vary there.

        Raises:
            LayoutError: The vectors have the wrong dimension, or are not finite.
        """
        embedding = mean_of(vectors, training=self.projection.mean)
        step = -(-len(vectors) // SPREAD_SAMPLE) or 1
        blocks = self.centred_projection(embedding)(np.asarray(vectors[::step], np.float32))
        found = measure_score_spread(blocks, layout=self.layout)
        share = found.items / (found.items + PRIOR_TEXTS)  # variances of few texts say little, too
        return Centre(
            embedding=embedding,
            score_spreads={
                name: float(np.sqrt(share * found.blocks[name] ** 2 + (1 - share) * spread**2))
                for name, spread in self.score_spreads.items()
            },
        )

    def centred_at(self, centre: Centre) -> "Model":
        """Returns a copy with its blocks centred as `centred_on` does.

        Raises:
            LayoutError: The centre is of another encoder or other blocks, or too large.
        """
        heads = {
            factor: head
            if head.classes is None or self.default_weights.get(factor)
            else replace(head, bias=None)
            for factor, head in self.heads.items()
        }
        return self.changed(
            projection=self.centred_projection(centre.embedding),
            heads=heads,
            score_spreads=centre.score_spreads,
        )

    def changed(self, **parts: Any) -> "Model":
        """Returns a copy with other parts, which is no folder's; a loaded encoder stays loaded."""
        made = replace(self, **parts, folder=None)
        if "_encoder" in self.__dict__:
            made.__dict__["_encoder"] = self._encoder
        return made

    def centred_projection(self, mean: Vectors) -> Projection:
        """Returns the projection that `centred_on` makes of texts with this mean embedding (D,)."""
        others = [name for name, weight in self.default_weights.items() if not weight]
        if not others:
            return self.projection
        with np.errstate(all="ignore"):  # what is too large is refused by the projection
            return self.projection.centred(others, documents=mean, queries=mean)

    def adapt(
        self,
        records: Sequence[Record],
        *,
        comparisons: Sequence[Comparison] = (),
        ratings: Sequence[Rating] = (),
        corpus: Vectors | None = None,
        vectors: Vectors | None = None,
        depth: Depth = "block",
    ) -> "Model":
        """Returns a copy that is adapted to a few labels of the user's own texts, in seconds.

        An index that was built with this model serves the adapted one. `Index.adapt` takes what it
        needs from an index. Numbers turn the factor's direction. Classes give directions; in an
        index, a weight on their block then prefers texts of the query's own classes, unless it is a
        block that a search without weights uses. A factor that has no block is a direction over all
        blocks: a search can move toward it. The labels move the model as far as labels that are
        left out can be predicted from the others; if they cannot, the factor stays as it was.

        Adapt the model that was there first, with all labels, rather than an adapted one with the
        same labels again, which would count them twice.

        Args:
            records: Texts with labels (`factors`): 5 or more numbers, or 5 or more classes, two
                texts of each class. Texts without labels may be among them.
            comparisons: Which of two of the records has more of a factor; 5 or more of a factor.
            ratings: How well records served as hits of a search. Within each search, hits that did
                well are compared with those that did not: they have more of the factor.
            corpus: Raw vectors of texts of the same kind (M, D), such as all that are searched;
                those of the records if None. The blocks are centred on their mean.
            vectors: Raw vectors of the records (N, D), if they were computed before.
            depth: `block` turns directions inside the blocks, so that an index that was built
                before serves the new model. `layers` gives a block a dimension that is fitted on
                all layers (for classes, one for each class), where labels that are left out say
                that this helps; an index has then to be built again, from stored vectors.

        Raises:
            ConfigError: The depth is neither, labels are too few, all alike or of two kinds, or a
                comparison names a text that is not there.
            EncoderError: The encoder cannot be loaded, or a text is empty.
            LayoutError: Vectors have the wrong shape, or are not finite.
        """
        records = list(records)
        if vectors is None:
            texts = [record.text for record in records]
            vectors = self.open_encoder().encode(texts) if texts else self.projection.mean[None][:0]
        if len(vectors) != len(records):
            raise LayoutError(f"{len(records)} records, {len(vectors)} vectors")
        if depth not in DEPTHS:
            raise ConfigError(f"the depth is one of {', '.join(DEPTHS)}, not {depth!r}")
        around = vectors if corpus is None else corpus
        centred = self.centred_on(around) if len(around) else self
        step = -(-len(around) // SPREAD_SAMPLE) or 1
        raw = None
        if depth == "layers" and len(around):
            centre = mean_of(around, training=self.projection.mean)
            raw = RawVectors(vectors, around[::step], centre)
        return adapt_to_labels(
            self,
            records,
            centred.project(vectors).array,
            comparisons=comparisons,
            ratings=ratings,
            corpus=centred.project(around[::step]).array,
            raw=raw,
        )

    def near_classes(self, queries: Vectors) -> Vectors:
        """Returns queries (N, layout.dim) that prefer texts of their own classes; see `nearness`.

        Args:
            queries: Unit blocks (N, layout.dim), centred as the texts that are searched.
        """
        if not self.nearness:
            return queries
        queries = queries.copy()
        for block, near in self.nearness.items():
            place = self.layout.slice(block)
            queries[:, place] = near(queries[:, place])
        return queries

    def default_weights_with(self, blocks: Iterable[str]) -> dict[str, float]:
        """Returns the default weights, in which some blocks count as much as the largest.

        Args:
            blocks: Blocks that a query names; unknown names are left out.
        """
        weights = dict(self.default_weights)
        largest = max(weights.values())
        return weights | {name: largest for name in blocks if name in weights}

    def fold(
        self,
        query: FoldQuery,
        weights: BlockWeights | None = None,
        *,
        toward: Toward | str | None = None,
        sample: DocumentSample | None = None,
    ) -> Vectors:
        """Returns the vector whose inner product with a document is its weighted score.

        So any store of vectors that searches by inner product can be filled once and searched with
        other weights at every query. Documents are `encode_document(texts).array`, stored as they
        are; as each of their blocks has unit length, they are all equally long, and cosine and
        Euclidean distance give the same order. Inner products are the scores of `Index.search`, to
        rounding, if the model is the one that the index searches with (`Index.model`): centred on
        the same texts by `centred_on`. With `toward` they are that and a constant. What `adapt`
        learned counts. Recency and importance come from the usage log of an `Index`.

        Args:
            query: A text; texts by block, of which the others add nothing; or the blocks of any N
                vectors, such as those of stored documents for more like these.
            weights: Weight by block name, or a text such as `topic=0.7,style=0.3`; 0 for blocks
                left out. If None, the default weights count, and blocks that the query names.
            toward: More (above 0) or less of a factor or a class, as in `Index.search`.
            sample: Some of the stored documents, among which `toward` counts in standard
                deviations; the same for all queries.

        Returns:
            Float32 (layout.dim,); for `Blocks` of N vectors (N, layout.dim).

        Raises:
            EncoderError: A text is empty, or the encoder cannot be loaded.
            QueryError: A block or a direction is unknown, or `toward` lacks a sample.
            WeightsError: A weight is wrong.
            LayoutError: Vectors have other blocks than the model.
        """
        return fold_query(self, query, weights, toward=toward, sample=sample)

    def predict(self, blocks: Blocks) -> dict[str, Sequence[str | float]]:
        """Predicts the labels of N texts by factor, each from what the factor's head reads."""
        return {
            factor: head(blocks.array[:, read_by(factor, self.layout)])
            for factor, head in self.heads.items()
            if head.bias is not None
        }

    @property
    def directions(self) -> dict[str, Vectors]:
        """The directions (layout.dim,) along which texts can be ordered, by name.

        A direction is 0 outside the factor's block. `complexity` points toward higher numbers,
        `style:formal` toward the class `formal` and away from the other classes. If a factor has
        two classes, its name alone points from the first to the second in alphabetical order.
        """
        found = {}
        for factor, head in self.heads.items():
            for name, part in head.directions.items():
                whole = np.zeros(self.layout.dim, dtype=np.float32)
                whole[read_by(factor, self.layout)] = part
                found[f"{factor}:{name}" if name else factor] = whole
        return found

    def direction(self, name: str) -> Vectors:
        """Returns a direction (layout.dim,) by its name; see `directions`.

        `blocks.array @ direction` orders texts by the factor.

        Raises:
            QueryError: The model has no direction of that name.
        """
        known = self.directions
        if name not in known:
            own = [one for one in known if one.startswith(f"{name}:")]
            others = own or sorted(known, key=lambda one: ":" in one)  # factors alone come first
            shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
            raise QueryError(
                f"no direction for '{name}': this model has directions for {shown or 'nothing'} "
                "(numbers it was fitted on, or a class as `factor:class`)"
            )
        return known[name]

    def open_encoder(self) -> Encoder:
        """Returns the frozen encoder; its weights are loaded when the first text is encoded.

        Raises:
            EncoderError: The encoder cannot be loaded.
            CheckpointError: The encoder is not the one that the model was fitted on.
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
            CheckpointError: It is another encoder; lists every field that differs.
        """
        differences = encoder_differences(self.fingerprint, fingerprint)
        if differences:
            raise CheckpointError(
                "the checkpoint was made for another encoder: it wants " + "; ".join(differences)
            )

    def save(self, folder: Path | str, **card: Any) -> None:
        """Writes a checkpoint folder atomically; other files in it stay.

        Args:
            folder: The folder; created if missing.
            card: Arguments of `model_card.make_card`, such as `report` and `licences`. If any is
                given, a model card is written too, but not over one that was written by hand.

        Raises:
            CheckpointError: The folder holds files of another program, or cannot be written.
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
        """Pushes a checkpoint with a model card to the hub; creates the repository if needed.

        Args:
            repo_id: `owner/name`.
            private: Whether a new repository is private; None for the owner's default.
            token: Token of the Hugging Face hub; None for that of the logged-in user.
            commit_message: Message of the commit.
            card: Arguments of `model_card.make_card`, such as `report` and `licences`.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: The name is invalid, the repository holds another model, or the hub
                refuses or cannot be reached.
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
