"""Steering of a model on labelled sources, compared with baselines.

By default, no text was used for fitting the blocks that it measures: a source that the model was
fitted on is measured with a projection that is solved again without it and its kin.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from subspace.arrays import AnyFloats, Floats, Ints, Vectors
from subspace.blocks import unit
from subspace.data.labels import Column, control_labels
from subspace.errors import ConfigError
from subspace.evaluation.cross_corpus import folds
from subspace.evaluation.steering import KEPT, STRENGTHS, Curve, SteeringTask
from subspace.evaluation.taste import TASTE_RATINGS, measure_taste
from subspace.fitting.closed_form import solvable, solve_closed_form
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.heads import fit_heads
from subspace.fitting.recipe import Recipe
from subspace.fitting.stored_sources import StoredSource
from subspace.fitting.weak.feature_scores import score_features
from subspace.model.linear_heads import LinearHead
from subspace.model.model import Model
from subspace.model.projection import Projection

Kind = Literal["toward", "alike"]
BLOCKS, CENTRED, EARLY, COUNTING, RIDGE, CEILING = (
    "blocks",
    "blocks, centred",
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
_RIDGES = tuple(10.0**power for power in range(-2, 5))


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
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: No source has enough texts that are labelled with the factor of a block.
        CheckpointError: The recipe is needed, and the model does not have it.
    """
    fitted = data.only(*seen)
    itself = _as_it_is(model, fitted)
    # Counting takes longer than solving, so it is done once for all folds.
    recipe = Recipe.from_json(model.recipe) if solve_again and fitted.sources else None
    counted = fitted.pseudo_labels() if recipe and recipe.weak.features else {}
    rows: list[SteeringRow] = []
    for fold in tqdm(folds(data.sources, kin), desc="steering", unit="fold", disable=not progress):
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
        for name in fold:
            rows += _measure_source(
                data.sources[name],
                solved or itself,
                data,
                in_corpus=solved is None and name in seen,
                queries=queries,
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


def _as_it_is(model: Model, fitted: FittingData) -> _Contender:
    ridge = _ridge_on_layers(fitted, model.layout)
    return _Contender(model.projection, model.heads, model.fingerprint.layers, ridge)


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
    return _Contender(projection, heads, layers, _ridge_on_layers(others, blocks))


def _ridge_on_layers(data: FittingData, factors: Iterable[str]) -> dict[str, Floats]:
    """Fits a ridge regression on embeddings for each numeric factor; returns directions (D,)."""
    directions = {}
    for factor in factors:
        x, y = [], []
        for source in data.sources.values():
            column = source.labels.columns.get(factor)
            if column is not None and column.values is not None:
                train = np.intersect1d(source.labels.positions("train"), column.labelled)
                train = train[:: max(1, len(train) // 500)]
                if len(train) > 1:
                    vectors = data.encoder.store.read(source.rows[train])
                    x.append(vectors - vectors.mean(axis=0))
                    y.append(_controlled(source, column, train))
        if x:
            directions[factor] = _ridge(np.concatenate(x), np.concatenate(y))
    return directions


def _measure_source(
    source: StoredSource,
    contender: _Contender,
    data: FittingData,
    *,
    in_corpus: bool,
    queries: int,
) -> list[SteeringRow]:
    chosen = _choose(source)
    x = data.encoder.store.read(source.rows[chosen])
    width = x.shape[1] // len(contender.layers)
    deepest = int(np.argmax(contender.layers)) * width
    raw = unit(x[:, deepest : deepest + width])
    counted = _count_features([source.records[position].text for position in chosen])
    rows = []
    for factor, column in source.labels.take(chosen).columns.items():
        known = column.labelled
        if factor not in contender.projection.layout.names or len(known) < _MIN_TEXTS:
            continue
        place = contender.projection.layout.slice(factor)
        groups = source.labels.groups[chosen]
        task = SteeringTask.draw(raw, groups=groups, among=known, count=queries)
        block = contender.projection(x)[:, place]
        # As `Model.centred_on` does; the mean of the texts is available without labels.
        mean = x.mean(axis=0, dtype=np.float64)
        moved = contender.projection.centred([factor], documents=mean, queries=mean)
        centred = moved(x)[:, place]
        early = _early(x, width=width, deepest=deepest)
        spaces = {BLOCKS: block, CENTRED: centred, EARLY: early}
        steers: Mapping[str, AnyFloats]
        labels = np.zeros(len(chosen))
        if column.ordered:
            labels[known] = _controlled(source, column, known, chosen=chosen)
            steers = _toward_scores(x, counted, labels, known, factor, contender, spaces)
            taste_of = _levels(column)
        else:
            steers = {**spaces, CEILING: _inside(x, column, known)}
            taste_of = column.codes
        rel = task.standardize(task.raw)
        for what, steer in steers.items():
            if column.ordered:
                curve = task.toward(rel, steer, labels=labels)
            else:
                curve = task.alike(rel, steer[task.queries] @ steer.T, codes=column.codes)
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


def _choose(source: StoredSource) -> Ints:
    """Draws at most `_TEXTS` texts with a fixed seed; returns their positions.

    Groups are kept together, except that the last one may be cut.
    """
    groups = source.labels.groups
    own = np.where(groups >= 0, groups, groups.max(initial=0) + 1 + np.arange(len(groups)))
    _, key = np.unique(own, return_inverse=True)
    order = np.random.default_rng(0).permutation(key.max() + 1)[key]
    return np.sort(np.argsort(order, kind="stable")[:_TEXTS])


def _early(x: Vectors, *, width: int, deepest: int) -> Vectors:
    """Returns all layers but the deepest, or an only layer, centred and scaled to unit length."""
    rest = np.delete(x, np.arange(deepest, deepest + width), axis=1)
    return unit(rest - rest.mean(axis=0)) if rest.shape[1] else unit(x - x.mean(axis=0))


def _controlled(
    source: StoredSource, column: Column, positions: Ints, *, chosen: Ints | None = None
) -> Floats:
    """Regresses the number of words out of some labels.

    Args:
        source: The source of the texts.
        column: Numeric labels.
        positions: Positions of the texts in `column`.
        chosen: Positions in `source` of the texts of `column`; None if it has all of them.
    """
    assert column.values is not None
    texts = positions if chosen is None else chosen[positions]
    words = np.log([len(source.records[position].text.split()) for position in texts])
    return control_labels(column.values[positions], [words])


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
) -> dict[str, Floats]:
    """Returns the scores (N,) of each contender, higher for more of the factor."""
    scores: dict[str, Floats] = {}
    head = contender.heads.get(factor)
    if head is not None and head.classes is None:
        for name in (BLOCKS, CENTRED):
            scores[name] = (spaces[name] @ head.weight[0]).astype(np.float64)
    if factor in counted:
        scores[COUNTING] = counted[factor]
    if factor in contender.ridge:
        scores[RIDGE] = (x - x.mean(axis=0)) @ contender.ridge[factor]
    scores[CEILING] = _cross_fit(x, labels, known)
    return scores


def _count_features(texts: Sequence[str]) -> Mapping[str, Floats]:
    try:
        return score_features(texts)
    except ConfigError:  # the word frequencies are not installed
        return {}


def _ridge(x: Vectors, y: Floats) -> Floats:
    from sklearn.linear_model import RidgeCV

    return np.asarray(RidgeCV(alphas=_RIDGES).fit(x, y).coef_, dtype=np.float64)


def _cross_fit(x: Vectors, labels: Floats, known: Ints) -> Floats:
    """Scores each half of the texts by a ridge regression that is fitted on the other half (N,)."""
    scores = np.zeros(len(x))
    half = np.random.default_rng(0).permutation(len(x)) % 2
    for part in (0, 1):
        train = known[half[known] != part]
        centre = x[train].mean(axis=0)
        direction = _ridge(x[train] - centre, labels[train])
        scores[half == part] = (x[half == part] - centre) @ direction
    return scores


def _inside(x: Vectors, column: Column, known: Ints) -> Vectors:
    """Returns class probabilities (N, K); a discriminant analysis of each half scores the other."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    found = np.zeros((len(x), column.class_count), dtype=np.float32)
    half = np.random.default_rng(0).permutation(len(x)) % 2
    for part in (0, 1):
        train = known[half[known] != part]
        counts = np.bincount(column.codes[train], minlength=column.class_count)
        train = train[counts[column.codes[train]] > 1]  # one text has no covariance
        fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5)
        fitted.fit(x[train], column.codes[train])
        inside = np.flatnonzero(half == part)
        found[np.ix_(inside, fitted.classes_)] = fitted.predict_proba(x[inside])
    return found


__all__ = ["TASTE_RATINGS", "SteeringRow", "measure_steering"]
