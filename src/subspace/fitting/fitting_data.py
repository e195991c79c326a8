"""FittingData: encoded labelled texts and the moments that the solver needs."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from subspace.arrays import Floats, Vectors
from subspace.data.records import Record
from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError, check_type
from subspace.fitting.block_spec import DEFAULT_LAYERS, TOPIC, BlockSpec, default_blocks
from subspace.fitting.moments import SourceMoments
from subspace.fitting.recipe import Recipe
from subspace.fitting.solve import count_pseudo_labels, solve_model
from subspace.fitting.stored_sources import StoredSource, store_sources, training_moments
from subspace.fitting.weak.weak_supervision import WeakSupervision, rewrite_sources
from subspace.model.model import Model

# Default folder of stored embeddings, the same as on the command line.
DEFAULT_STORE = "runs/embeddings"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)  # comparing arrays gives an array, not a bool
class FittingData:
    """Encoded sources and their moments.

    Attributes:
        sources: The given labelled texts, by source.
        rewrites: Sources that were made by rewriting texts of `sources`.
        moments: Moments of the training texts of `sources` and `rewrites`, by source.
        encoder: The frozen encoder and its store.
    """

    sources: Mapping[str, StoredSource]
    rewrites: Mapping[str, StoredSource]
    moments: Mapping[str, SourceMoments]
    encoder: CachedEncoder

    @classmethod
    def encode(
        cls,
        sources: Mapping[str, tuple[Record, ...]],
        *,
        encoder: EncoderSpec,
        weak: WeakSupervision,
        origin_weights: Mapping[str, float] | None = None,
        store: Path | str = DEFAULT_STORE,
        progress: bool = False,
    ) -> "FittingData":
        """Encodes the texts that are not stored yet, and collects the moments.

        If it is interrupted, the next call does not encode again what is stored.

        Raises:
            ConfigError: There are no training texts.
            EncoderError: The encoder cannot be loaded.
            StoreError: The store cannot be used.
        """
        if not any(record.split == "train" for of_one in sources.values() for record in of_one):
            raise ConfigError("there are no texts in the split 'train': there is nothing to fit")
        opened = CachedEncoder.open(encoder, root=store)
        stored = store_sources(
            sources, encoder=opened, origin_weights=origin_weights, progress=progress
        )
        made = rewrite_sources(sources, settings=weak) if weak.rewrites else {}
        rewrites = store_sources(made, encoder=opened, progress=progress) if made else {}
        moments = training_moments({**stored, **rewrites}, vectors=opened.store.vectors)
        return cls(sources=stored, rewrites=rewrites, moments=moments, encoder=opened)

    @property
    def vectors(self) -> Vectors:
        """All stored embeddings (rows, D)."""
        return self.encoder.store.vectors

    @property
    def factors(self) -> list[str]:
        """Factors that the texts are labelled with, in the order of first occurrence."""
        return list(
            dict.fromkeys(factor for one in self.sources.values() for factor in one.labels.columns)
        )

    def default_blocks(self) -> dict[str, BlockSpec]:
        """Returns the blocks to solve if none are named.

        A factor that no block could learn gets none, which a warning says.
        """
        fingerprint = self.encoder.encoder.fingerprint
        learned = []
        for factor in self.factors:
            if any(_has_classes(one, factor) for one in self.moments.values()):
                learned.append(factor)
            elif factor != TOPIC:
                _log.warning(
                    "there is no block of '%s': in no source have the training texts two different "
                    "labels of it, so that nothing could be learned",
                    factor,
                )
        return default_blocks(learned, dim=fingerprint.dim, layers=fingerprint.layers)

    def blocks_of(self, names: Iterable[str]) -> dict[str, BlockSpec]:
        """Returns the usual blocks of these names, no wider than what they read.

        Raises:
            ConfigError: `names` is no list of texts, or names a block twice.
        """
        hint = "give a list of names, or a mapping from names to widths or settings"
        if isinstance(names, str):
            raise ConfigError(f"blocks must be a list or a mapping, got the text '{names}': {hint}")
        check_type(names, Iterable, name="blocks", hint=hint)
        given = list(names)
        for name in given:
            check_type(name, str, name="each of the blocks", hint=hint)
            if given.count(name) > 1:
                raise ConfigError(f"blocks name '{name}' twice")
        fingerprint = self.encoder.encoder.fingerprint
        usual = default_blocks(given, dim=fingerprint.dim, layers=fingerprint.layers)
        return {name: usual[name] for name in given}

    def without(self, *left_out: str) -> "FittingData":
        """Returns the same data without some sources and their rewrites."""
        gone = {*left_out, *(f"{name} (rewrites)" for name in left_out)}
        return FittingData(
            sources={n: one for n, one in self.sources.items() if n not in gone},
            rewrites={n: one for n, one in self.rewrites.items() if n not in gone},
            moments={n: one for n, one in self.moments.items() if n not in gone},
            encoder=self.encoder,
        )

    def only(self, *kept: str) -> "FittingData":
        """Returns the same data with only some sources and their rewrites."""
        return self.without(*(name for name in self.sources if name not in kept))

    def pseudo_labels(self) -> dict[str, dict[str, Floats]]:
        """Returns scores counted in the training texts (N,), by factor and source."""
        return count_pseudo_labels(self.sources)

    def solve(self, recipe: Recipe) -> Model:
        """Solves for a model in closed form.

        Raises:
            ConfigError: A block cannot be solved.
        """
        return solve_model(
            self.sources,
            moments=self.moments,
            recipe=recipe,
            vectors=self.vectors,
            encoder=self.encoder.encoder.spec,
            fingerprint=self.encoder.encoder.fingerprint,
        )


def _has_classes(moments: SourceMoments, factor: str) -> bool:
    return factor in moments.factors and int((moments.factors[factor].counts > 0).sum()) > 1


def encoder_spec(encoder: EncoderSpec | str) -> EncoderSpec:
    """Returns the spec of an encoder. For a name, the spec reads up to four of its layers.

    Raises:
        ConfigError: It is neither a name nor a spec.
    """
    check_type(
        encoder, EncoderSpec, str, name="encoder", hint="give 'minilm', a folder or a hub id"
    )
    if isinstance(encoder, EncoderSpec):
        return encoder
    if encoder == "minilm":
        return EncoderSpec(model=encoder, layers=DEFAULT_LAYERS)
    deepest = Encoder(EncoderSpec(model=encoder)).fingerprint.layers[-1]
    return EncoderSpec(model=encoder, layers=tuple(sorted({0, 1, deepest // 2, deepest})))
