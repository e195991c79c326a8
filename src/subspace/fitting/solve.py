"""Fits a model in closed form from stored sources and a recipe."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.encoder import EncoderSpec, Fingerprint
from subspace.fitting.block_spec import TOPIC
from subspace.fitting.closed_form import solve_closed_form
from subspace.fitting.heads import fit_heads
from subspace.fitting.moments import SourceMoments
from subspace.fitting.recipe import Recipe
from subspace.fitting.stored_sources import StoredSource
from subspace.fitting.weak.feature_scores import score_features
from subspace.model.model import Model
from subspace.model.projection import Projection
from subspace.model.score_spread import SPREAD_SAMPLE, measure_score_spread

# A block of a factor with fewer labelled training texts is said to be learned from few.
_FEW_LABELS = 10

_log = logging.getLogger(__name__)


def solve_model(
    sources: Mapping[str, StoredSource],
    *,
    moments: Mapping[str, SourceMoments],
    recipe: Recipe,
    vectors: Vectors,
    encoder: EncoderSpec,
    fingerprint: Fingerprint,
) -> Model:
    """Solves for the projection and completes the model with heads, weights and score spreads.

    Args:
        sources: Texts to learn from.
        moments: Moments of the training texts, by source.
        recipe: Settings of the fit.
        vectors: All stored embeddings (rows, D).
        encoder: Spec of the encoder that made the embeddings.
        fingerprint: Fingerprint of this encoder.

    Raises:
        ConfigError: A block cannot be solved.
    """
    projection = solve_closed_form(moments, blocks=recipe.blocks, layers=fingerprint.layers)
    return complete_model(
        projection,
        sources,
        recipe=recipe,
        vectors=vectors,
        encoder=encoder,
        fingerprint=fingerprint,
    )


def complete_model(
    projection: Projection,
    sources: Mapping[str, StoredSource],
    *,
    recipe: Recipe,
    vectors: Vectors,
    encoder: EncoderSpec,
    fingerprint: Fingerprint,
) -> Model:
    """Completes a model from its projection: adds heads, default weights and score spreads.

    Args:
        projection: Projection that was solved or trained.
        sources: Texts that the projection was learned from.
        recipe: Settings of the fit.
        vectors: All stored embeddings (rows, D).
        encoder: Spec of the encoder that made the embeddings.
        fingerprint: Fingerprint of this encoder.
    """
    layout = projection.layout
    heads = fit_heads(
        projection,
        sources,
        vectors=vectors,
        pseudo_labels=count_pseudo_labels(sources) if recipe.weak.features else None,
        pseudo_weight=recipe.weak.features,
    )
    _warn_of_few_labels(sources, recipe=recipe, directions=heads)
    searched = TOPIC if TOPIC in layout.names else layout.names[0]
    return Model(
        projection=projection,
        encoder=encoder,
        fingerprint=fingerprint,
        heads=heads,
        # A search without weights compares topics only; other blocks count on request.
        default_weights={name: float(name == searched) for name in layout},
        score_spreads=_score_spreads(projection, sources, vectors=vectors),
        data={name: source.sha256 for name, source in sources.items()},
        recipe=replace(recipe, blocks=dict(recipe.blocks)).to_json(),
    )


def _warn_of_few_labels(
    sources: Mapping[str, StoredSource], *, recipe: Recipe, directions: Collection[str]
) -> None:
    """Says which blocks are learned from few labels, and which numbers give no direction."""
    for block, spec in recipe.blocks.items():
        columns = {
            name: one.labels.take(one.labels.positions("train")).columns[block]
            for name, one in sources.items()
            if block in one.labels.columns
        }
        count = sum(len(column.labelled) for column in columns.values())
        named = ", ".join(f"'{name}'" for name in columns)
        if spec.signal_power and 0 < count < _FEW_LABELS:
            _log.warning(
                "the block of '%s' is learned from %d labelled texts (%s), which is too few to "
                "tell what other texts have in common with them: label more",
                block,
                count,
                named,
            )
        numbers = any(column.ordered for column in columns.values())
        if numbers and count and block not in directions:
            _log.warning(
                "'%s' has no direction to search toward: without what follows the number of words, "
                "its labels (%s) do not vary",
                block,
                named,
            )


def _score_spreads(
    projection: Projection, sources: Mapping[str, StoredSource], *, vectors: Vectors
) -> dict[str, float]:
    """Returns the standard deviation of the cosine of two training texts, by block.

    It is measured within each source, since an index usually holds texts of one kind, and averaged
    over sources. It is 1 for a block in which it is 0 or cannot be measured.
    """
    spreads = []
    for source in sources.values():
        rows = source.rows[source.labels.positions("train")]
        if len(rows) < 3:
            continue
        taken = rows[np.linspace(0, len(rows) - 1, min(len(rows), SPREAD_SAMPLE // 4)).astype(int)]
        blocks = projection(np.asarray(vectors[taken], dtype=np.float32))
        spreads.append(measure_score_spread(blocks, layout=projection.layout).blocks)
    means = {
        name: float(np.mean([spread[name] for spread in spreads])) if spreads else 1.0
        for name in projection.layout
    }
    return {name: spread if spread > 0 else 1.0 for name, spread in means.items()}


def count_pseudo_labels(sources: Mapping[str, StoredSource]) -> dict[str, dict[str, Floats]]:
    """Returns scores counted in the training texts (N,), by factor and source."""
    counted: dict[str, dict[str, Floats]] = {}
    for name, source in sources.items():
        train = source.labels.positions("train")
        scores = score_features([source.records[position].text for position in train])
        for factor, numbers in scores.items():
            counted.setdefault(factor, {})[name] = numbers
    return counted
