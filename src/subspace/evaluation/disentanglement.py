"""DCI, MIG and SAP, with whole blocks in the place of single latent dimensions.

All three compare what every block says about every factor:

- DCI (Eastwood and Williams 2018): importance of each block for predicting each factor, from a
  random forest on all blocks side by side. Disentanglement is 1 minus the entropy of a block's
  row, completeness 1 minus the entropy of a factor's column, both weighted by importance.
- MIG (Chen et al. 2018): mutual information between a block, cut into 20 clusters, and the
  factor, over the factor's entropy; the gap between the best block and the second. Corrected for
  chance, which many clusters and few texts would otherwise pay.
- SAP (Kumar et al. 2018): linear probe score above chance; the gap between the best block and
  the second.
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
    """Block-level scores, each in [0, 1]; means over sources.

    Attributes:
        blocks: Names of the rows.
        factors: Names of the columns.
        importance: Importance of each block for each factor (B, F); columns sum to 1.
        information: Mutual information over entropy (B, F).
        disentanglement: DCI, by block.
        completeness: DCI, by factor.
        mig: By factor.
        sap: By factor.
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
        """JSON-ready."""
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
    """Measures all three; None if no factor can be read.

    Args:
        projection: Gives the blocks.
        sources: Labelled texts.
        readings: Linear readings of this projection, for SAP.
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
    """1 minus the normalised entropy: 1 if one weight has it all, 0 if all are equal or zero."""
    if len(weights) < 2 or weights.sum() <= 0:
        return 0.0
    shares = weights[weights > 0] / weights.sum()
    return float(1 + (shares * np.log(shares)).sum() / np.log(len(weights)))


def gap(values: Floats) -> float:
    """The largest value minus the second largest."""
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
        # Over the entropy of the labels, the smaller of the two in most sources.
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
