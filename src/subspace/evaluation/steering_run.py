"""Steering of a model on labelled sources, compared with baselines.

Blocks are centred as an index of the source's texts centres them, which needs no labels. By
default, no text was used for fitting the blocks that it measures: a source that the model was
fitted on is measured with a projection that is solved again without it and its kin.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from subspace.arrays import AnyFloats, Floats, Ints, Vectors
from subspace.blocks import unit
from subspace.data.labels import Column, control_labels
from subspace.data.retrieval_sets import query_key
from subspace.errors import ConfigError
from subspace.evaluation.cross_corpus import folds
from subspace.evaluation.steering import KEPT, STRENGTHS, Curve, SteeringTask
from subspace.evaluation.steering_baselines import (
    classified_inside,
    control_length,
    counted_scores,
    early_layers,
    fitted_inside,
    other_numbers,
    ridge_directions,
)
from subspace.evaluation.taste import TASTE_RATINGS, measure_taste
from subspace.fitting.closed_form import solvable, solve_closed_form
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.heads import fit_heads
from subspace.fitting.recipe import Recipe
from subspace.fitting.stored_sources import StoredSource
from subspace.model.centre import mean_of
from subspace.model.class_nearness import ClassNearness
from subspace.model.length import LengthTrend, log_words
from subspace.model.linear_heads import LinearHead
from subspace.model.model import Model
from subspace.model.projection import Projection

Kind = Literal["toward", "alike"]
BLOCKS, UNCENTRED, EARLY, COUNTING, RIDGE, CEILING = (
    "blocks",
    "blocks, not centred",
    "early layers",
    "counting",
    "ridge on layers",
    "fitted inside",
)
# Most texts of one source that are searched.
_TEXTS = 3000
# A factor with fewer labelled texts in a source is not measured.
_MIN_TEXTS = 100
_QUERIES = 150


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class SteeringRow:
    """Steering of one factor of one source by one contender.

    Attributes:
        source: The source of the texts.
        factor: The factor.
        kind: `toward` more or less of a number, or `alike` in a class.
        contender: Name of the score that was added to the relevance.
        in_corpus: Whether the blocks were fitted on texts of this source.
        curve: Relevance and gain at every strength.
        taste: By number of rated pairs, the share of unseen pairs in the order that the user
            likes; see `measure_taste`. Empty if it was not measured.
    """

    source: str
    factor: str
    kind: Kind
    contender: str
    in_corpus: bool
    curve: Curve
    taste: Mapping[int, float]

    def to_json(self) -> dict[str, Any]:
        """Returns the figures and the curve, JSON-ready."""
        return {
            "source": self.source,
            "factor": self.factor,
            "kind": self.kind,
            "contender": self.contender,
            "in_corpus": self.in_corpus,
            "gain": {str(kept): self.curve.at(kept) for kept in KEPT},
            "interval": {str(kept): list(self.curve.interval(kept)) for kept in KEPT},
            "strengths": STRENGTHS.tolist(),
            "kept": self.curve.kept.tolist(),
            "gained": self.curve.gained.tolist(),
            "off_target": {str(kept): self.curve.off_target_at(kept) for kept in KEPT},
            "taste": {str(count): value for count, value in self.taste.items()},
        }


def measure_steering(
    model: Model,
    data: FittingData,
    *,
    seen: Collection[str] = (),
    kin: Sequence[Iterable[str]] = (),
    solve_again: bool = True,
    queries: int = _QUERIES,
    left_out: Collection[str] = (),
    progress: bool = False,
) -> list[SteeringRow]:
    """Measures steering by every factor of every source that has a block of this name.

    Args:
        model: The model. It is measured as it is on sources that it was not fitted on.
        data: The labelled sources, encoded by the model's encoder.
        seen: Names of the sources that the model was fitted on.
        kin: Groups of similar sources that are left out together.
        solve_again: Whether to measure each source in `seen`, and its kin, with the recipe solved
            on the other sources in `seen`, where there are any.
        queries: Number of queries per factor and source.
        left_out: Keys of texts (`query_key`) that are neither queries nor hits, nor are other
            versions of them, such as those that the model was adapted to.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: No source has enough texts that are labelled with the factor of a block.
        CheckpointError: The recipe is needed, and the model does not have it.
    """
    fitted = data.only(*seen)
    itself: _Contender | None = None  # its ridge regression takes seconds
    # Counting takes longer than solving, so it is done once for all folds.
    recipe = Recipe.from_json(model.recipe) if solve_again and fitted.sources else None
    counted = fitted.pseudo_labels() if recipe and recipe.weak.features else {}
    rows: list[SteeringRow] = []
    for fold in tqdm(
        folds(data.sources, kin), desc="steering", unit="fold", disable=not progress or None
    ):
        solved, others = None, fitted.without(*fold)
        if recipe and others.sources and not set(fold).isdisjoint(seen):
            labelled = {f for name in fold for f in data.sources[name].labels.columns}
            solved = _solve_again(
                replace(recipe, blocks={n: s for n, s in recipe.blocks.items() if n in labelled}),
                others,
                layers=model.fingerprint.layers,
                counted=counted,
            )
            if solved is None:  # no other source labels a factor of these
                continue
        elif itself is None:
            itself = _as_it_is(model, fitted)
        contender = solved or itself
        assert contender is not None
        for name in fold:
            rows += _measure_source(
                data.sources[name],
                contender,
                data,
                searched={block for block, weight in model.default_weights.items() if weight},
                in_corpus=solved is None and name in seen,
                queries=queries,
                left_out=left_out,
            )
    if not rows:
        raise ConfigError(
            f"no source has {_MIN_TEXTS} texts labelled with a factor of the blocks "
            f"{', '.join(model.layout)}"
        )
    return rows


@dataclass(frozen=True, eq=False)
class _Contender:
    """A projection, its heads, and the ridge directions on its input, which is a baseline."""

    projection: Projection
    heads: Mapping[str, LinearHead]
    layers: tuple[int, ...]
    ridge: Mapping[str, Floats]
    nearness: Mapping[str, ClassNearness] = field(default_factory=dict)


def _as_it_is(model: Model, fitted: FittingData) -> _Contender:
    ridge = ridge_directions(fitted, model.layout)
    return _Contender(
        model.projection, model.heads, model.fingerprint.layers, ridge, nearness=model.nearness
    )


def _solve_again(
    recipe: Recipe,
    others: FittingData,
    *,
    layers: tuple[int, ...],
    counted: Mapping[str, Mapping[str, Floats]],
) -> _Contender | None:
    blocks = solvable(others.moments, blocks=recipe.blocks)
    if not others.moments or not blocks:
        return None
    projection = solve_closed_form(others.moments, blocks=blocks, layers=layers)
    heads = fit_heads(
        projection,
        others.sources,
        vectors=others.vectors,
        pseudo_labels=counted,
        pseudo_weight=recipe.weak.features,
        numbers_only=True,
    )
    return _Contender(projection, heads, layers, ridge_directions(others, blocks))


def _measure_source(
    source: StoredSource,
    contender: _Contender,
    data: FittingData,
    *,
    searched: Collection[str],
    in_corpus: bool,
    queries: int,
    left_out: Collection[str],
) -> list[SteeringRow]:
    chosen = _choose(source, left_out=left_out)
    if not len(chosen):
        return []
    x = data.encoder.store.read(source.rows[chosen])
    width = x.shape[1] // len(contender.layers)
    deepest = int(np.argmax(contender.layers)) * width
    raw = unit(x[:, deepest : deepest + width])
    columns = {
        factor: column
        for factor, column in source.labels.take(chosen).columns.items()
        if factor in contender.projection.layout.names
        and len(column.labelled) >= _MIN_TEXTS
        and len(np.unique(column.codes[column.labelled])) > 1  # or there is nothing to move
    }
    counted: Mapping[str, Floats] = {}
    if any(column.ordered for column in columns.values()):
        counted = counted_scores([source.records[position].text for position in chosen])
    rows = []
    for factor, column in columns.items():
        known = column.labelled
        place = contender.projection.layout.slice(factor)
        groups = source.labels.groups[chosen]
        task, halves = (
            SteeringTask.draw(raw, groups=groups, among=known, count=queries, copies=copies)
            for copies in (1, 2)
        )
        block = contender.projection(x)[:, place]
        spaces = {BLOCKS: block, EARLY: early_layers(x, width=width, deepest=deepest)}
        if factor not in searched:  # as `Model.centred_on`, and so an index, does
            mean = mean_of(x, training=contender.projection.mean)
            centred = contender.projection.centred([factor], documents=mean, queries=mean)
            spaces |= {BLOCKS: centred(x)[:, place], UNCENTRED: block}
        steers: Mapping[str, AnyFloats]
        labels = np.zeros(len(chosen))
        if column.ordered:
            labels[known] = control_length(source, column, known, chosen=chosen)
            texts = [source.records[position].text for position in chosen]
            steers = _toward_scores(x, counted, labels, known, factor, contender, spaces, texts)
            taste_of = _levels(column)
        else:
            steers = {**spaces, CEILING: classified_inside(x, column, known)}
            taste_of = column.codes
        rel = task.standardize(task.raw)
        for what, steer in steers.items():
            which = halves if what == CEILING else task
            if column.ordered:
                others = other_numbers(source, factor, chosen=chosen)
                curve = which.toward(rel, steer, labels=labels, others=others)
            else:
                asked = np.asarray(steer[task.queries], dtype=np.float32)
                if what == BLOCKS and factor in contender.nearness:
                    asked = contender.nearness[factor](asked)
                curve = which.alike(rel, asked @ steer.T, codes=column.codes)
            taste = (
                measure_taste(spaces[what], codes=taste_of, groups=groups) if what in spaces else {}
            )
            kind: Kind = "toward" if column.ordered else "alike"
            rows.append(
                SteeringRow(
                    source=source.labels.source,
                    factor=factor,
                    kind=kind,
                    contender=what,
                    in_corpus=in_corpus,
                    curve=curve,
                    taste=taste,
                )
            )
    return rows


def _choose(source: StoredSource, *, left_out: Collection[str] = ()) -> Ints:
    """Draws at most `_TEXTS` texts with a fixed seed; returns their positions.

    Some texts, given by their keys, are left out together with other versions of them.

    Groups are kept together, except that the last one may be cut.
    """
    groups = source.labels.groups
    own = np.where(groups >= 0, groups, groups.max(initial=0) + 1 + np.arange(len(groups)))
    _, key = np.unique(own, return_inverse=True)
    order = np.random.default_rng(0).permutation(key.max() + 1)[key]
    found = np.argsort(order, kind="stable")
    if left_out:
        keys = [query_key(record.text) for record in source.records]
        gone = key[[position for position, one in enumerate(keys) if one in left_out]]
        found = found[~np.isin(key[found], gone)]
    return np.sort(found[:_TEXTS])


def _levels(column: Column) -> Ints:
    """Splits numbers at the median of the labelled texts; returns levels 0 and 1, -1 for none."""
    assert column.values is not None
    middle = np.median(column.values[column.labelled])
    high = column.values > middle
    if not high[column.labelled].any():
        high = column.values >= middle
    return np.where(column.codes >= 0, high.astype(np.int64), -1)


def _toward_scores(
    x: Vectors,
    counted: Mapping[str, Floats],
    labels: Floats,
    known: Ints,
    factor: str,
    contender: _Contender,
    spaces: Mapping[str, Vectors],
    texts: Sequence[str],
) -> dict[str, Floats]:
    """Returns the scores (N,) of each contender, higher for more of the factor.

    What follows the number of words, which is known without labels, is taken out of all of them.
    """
    scores: dict[str, Floats] = {}
    head = contender.heads.get(factor)
    if head is not None and head.classes is None:
        for name in (BLOCKS, UNCENTRED):
            if name in spaces:
                trend = LengthTrend.measure(spaces[name], texts)
                direction = trend.taken_out_of(head.weight[0])
                scores[name] = spaces[name].astype(np.float64) @ direction
    words = log_words(texts)
    if factor in counted:
        scores[COUNTING] = control_labels(counted[factor], [words])
    if factor in contender.ridge:
        ridge = (x - x.mean(axis=0)) @ contender.ridge[factor]
        scores[RIDGE] = control_labels(ridge, [words])
    scores[CEILING] = control_labels(fitted_inside(x, labels, known), [words])
    return scores


__all__ = ["TASTE_RATINGS", "SteeringRow", "measure_steering"]
