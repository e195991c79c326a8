"""DCI, MIG and SAP of a projection, with whole blocks in the place of single latent dimensions.

All three compare a statistic of every block and factor:

- DCI (Eastwood and Williams 2018): importance of each block for predicting each factor, from a
  forest of randomised trees on all blocks side by side. Disentanglement is 1 minus the normalised
  entropy of a block's row, completeness 1 minus that of a factor's column.
- MIG (Chen et al. 2018): mutual information between the factor and a block that is cut into 20
  clusters, over the smaller entropy of the two, which is mostly the factor's. MIG is the gap
  between the best block and the second. The information is corrected for chance, since many
  clusters and few texts would inflate it.
- SAP (Kumar et al. 2018): score of the linear probe above chance. SAP is the gap between the best
  block and the second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.metrics import adjusted_mutual_info_score

from subspace.arrays import Floats, Vectors
from subspace.evaluation.separation import EmbeddedSource, Reading
from subspace.evaluation.tasks import ProbeTask, make_tasks
from subspace.model.projection import Projection

_CLUSTERS = 20
_TREES = 60


@dataclass(frozen=True, eq=False)
class Disentanglement:
    """DCI, MIG and SAP of a projection, each in [0, 1]; means over sources.

    Attributes:
        blocks: Names of the rows.
        factors: Names of the columns.
        importance: Importance of each block for each factor (B, F); columns sum to 1.
        information: Mutual information over entropy, corrected for chance (B, F).
        disentanglement: Disentanglement (DCI) by block.
        completeness: Completeness (DCI) by factor.
        mig: MIG by factor.
        sap: SAP by factor.
    """

    blocks: tuple[str, ...]
    factors: tuple[str, ...]
    importance: Floats
    information: Floats
    disentanglement: Mapping[str, float]
    completeness: Mapping[str, float]
    mig: Mapping[str, float]
    sap: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns all scores, JSON-ready."""
        return {
            "blocks": list(self.blocks),
            "factors": list(self.factors),
            "importance": self.importance.tolist(),
            "information": self.information.tolist(),
            "disentanglement": dict(self.disentanglement),
            "completeness": dict(self.completeness),
            "mig": dict(self.mig),
            "sap": dict(self.sap),
        }


def measure_disentanglement(
    projection: Projection,
    sources: Mapping[str, EmbeddedSource],
    *,
    readings: Iterable[Reading],
) -> Disentanglement | None:
    """Measures DCI, MIG and SAP; returns None if no factor can be probed.

    Args:
        projection: The projection; gives the blocks.
        sources: Labelled texts and their embeddings, by source.
        readings: Readings of this projection by the linear probe, for SAP.
    """
    importances: dict[str, list[Floats]] = {}
    informations: dict[str, list[Floats]] = {}
    for source in sources.values():
        blocks = projection.layout.split(projection(source.x))
        for factor in source.labels.columns:
            for task in make_tasks(source.labels, factor=factor, seeds=1):
                importances.setdefault(factor, []).append(_importance(blocks, task))
                informations.setdefault(factor, []).append(_information(blocks, task))
    if not importances:
        return None
    names = tuple(projection.layout)
    factors = tuple([f for f in names if f in importances] + sorted(importances.keys() - {*names}))
    importance = np.stack([np.mean(importances[factor], axis=0) for factor in factors], axis=1)
    information = np.stack([np.mean(informations[factor], axis=0) for factor in factors], axis=1)
    scores = _scores_above_chance(readings, blocks=names, factors=factors)
    return Disentanglement(
        blocks=names,
        factors=factors,
        importance=importance,
        information=information,
        disentanglement={
            name: concentration(row) for name, row in zip(names, importance, strict=True)
        },
        completeness={
            name: concentration(row) for name, row in zip(factors, importance.T, strict=True)
        },
        mig={name: gap(column) for name, column in zip(factors, information.T, strict=True)},
        sap={name: gap(column) for name, column in zip(factors, scores.T, strict=True)},
    )


def concentration(weights: Floats) -> float:
    """Returns 1 minus the normalised entropy of weights, in [0, 1].

    It is 1 if only one of several weights is above 0, and 0 if all are equal or zero.
    """
    if len(weights) < 2 or weights.sum() <= 0:
        return 0.0
    shares = weights[weights > 0] / weights.sum()
    return float(1 + (shares * np.log(shares)).sum() / np.log(len(weights)))


def gap(values: Floats) -> float:
    """Returns the largest value minus the second largest; a single value as it is, 0 for none."""
    if len(values) < 2:
        return float(values[0]) if len(values) else 0.0
    second, first = np.sort(values)[-2:]
    return float(first - second)


def _importance(blocks: Mapping[str, Vectors], task: ProbeTask) -> Floats:
    train = task.train
    x = np.concatenate([z[train] for z in blocks.values()], axis=1)
    column = task.column.take(train)
    settings = {"n_estimators": _TREES, "max_depth": 8, "random_state": 0, "n_jobs": 2}
    if column.values is None:
        forest = ExtraTreesClassifier(class_weight="balanced", **settings).fit(x, column.codes)
    else:
        forest = ExtraTreesRegressor(max_features="sqrt", **settings).fit(x, column.values)
    edges = np.cumsum([z.shape[1] for z in blocks.values()])[:-1]
    parts = np.split(np.asarray(forest.feature_importances_), edges)
    sums = np.array([part.sum() for part in parts])
    return np.asarray(sums / sums.sum() if sums.sum() > 0 else sums)


def _information(blocks: Mapping[str, Vectors], task: ProbeTask) -> Floats:
    train, test = task.train, task.test
    codes = task.column.codes[test]
    values = []
    for z in blocks.values():
        distinct = len(np.unique(z[train].round(6), axis=0))
        clusters = min(_CLUSTERS, distinct)
        if clusters < 2:
            values.append(0.0)
            continue
        kmeans = KMeans(clusters, n_init=1, random_state=0).fit(z[train])
        found = kmeans.predict(z[test])
        # `min` divides by the smaller entropy, which is that of the labels in most sources.
        shared = adjusted_mutual_info_score(codes, found, average_method="min")
        values.append(max(float(shared), 0.0))
    return np.array(values)


def _scores_above_chance(
    readings: Iterable[Reading], *, blocks: tuple[str, ...], factors: tuple[str, ...]
) -> Floats:
    scores = np.zeros((len(blocks), len(factors)))
    readings = list(readings)
    for row, block in enumerate(blocks):
        for column, factor in enumerate(factors):
            cell = [r for r in readings if (r.block, r.factor) == (block, factor)]
            if cell:
                scores[row, column] = np.mean(
                    [max(r.score - r.chance, 0.0) / (1 - r.chance) for r in cell]
                )
    return scores
