"""Measures and logs the separation matrix of a fit: how well each block predicts each factor.

The matrix is measured on validation texts, so that many runs can be compared without using the test
texts. A linear probe learns from two thirds of the training texts, its regularisation strength is
chosen on the last third, and the validation texts score it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from tqdm import tqdm

from subspace.arrays import AnyFloats, Ints
from subspace.data.labels import Labels
from subspace.data.records import SPLITS
from subspace.evaluation import EmbeddedSource, Matrix, Reading, make_matrix, read_factors
from subspace.evaluation.heat_maps import draw_matrix
from subspace.evaluation.rank_agreement import independent_groups
from subspace.evaluation.tasks import MIN_TEXTS
from subspace.fitting.stored_sources import StoredSource
from subspace.model.markdown import table
from subspace.model.projection import Projection

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))
_MODEL = "fit"
_TITLE = "What each block (row) tells of each factor (column), validation texts, linear probe"

_log = logging.getLogger(__name__)


def measure_on_validation(
    projection: Projection,
    *,
    sources: Mapping[str, StoredSource],
    vectors: AnyFloats,
    raw: slice,
) -> Matrix:
    """Measures the separation matrix with a linear probe, with confounds controlled.

    Args:
        projection: Projection whose blocks are probed.
        sources: Sources that it was fitted on.
        vectors: All stored embeddings (rows, D); one source at a time is read into memory.
        raw: Dimensions of an embedding that are the raw baseline.

    Returns:
        The matrix; empty if no factor has enough labelled texts.
    """
    readings: list[Reading] = []
    for name, source in tqdm(
        sources.items(), desc="probing validation texts", unit="source", disable=None
    ):
        kept = np.flatnonzero(source.labels.splits != _TEST)
        embedded = EmbeddedSource(
            records=[source.records[int(position)] for position in kept],
            labels=_score_on_validation(source.labels.take(kept)),
            x=np.asarray(vectors[source.rows[kept]], dtype=np.float32),
        )
        models = {_MODEL: {name: projection}}
        found, _ = read_factors({name: embedded}, models=models, raw=raw, seeds=1)
        readings += found
    return make_matrix(readings, model=_MODEL, probe="linear", controlled=True)


def log_separation(matrix: Matrix, *, loggers: Sequence[Logger], step: int) -> None:
    """Logs a separation matrix as numbers; for W&B and TensorBoard also as table and heat map.

    Args:
        matrix: Matrix to log.
        loggers: Loggers of the fit.
        step: Number of training steps that were taken.
    """
    if not matrix.values.size:
        _log.warning(
            "no separation matrix for the logger: no factor has %d labelled validation texts, and "
            "as many in a third of the training texts",
            MIN_TEXTS,
        )
        return
    columns, rows = _tabulate(matrix)
    figure = _draw(matrix)
    for logger in loggers:
        logger.log_metrics(_flatten(matrix), step=step)
        if isinstance(logger, WandbLogger):
            logger.log_table("separation/table", columns=columns, data=rows)
            logger.log_image("separation/heat_map", images=[figure])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("separation/table", "\n".join(table(columns, rows)), step)
            logger.experiment.add_figure("separation/heat_map", figure, step, close=False)
            logger.experiment.flush()


def _score_on_validation(labels: Labels) -> Labels:
    """Returns the labels with other splits, so that a probe is scored on the validation texts.

    Validation texts become test texts, and a third of the training texts, in whole groups, become
    validation texts.
    """
    _, group = np.unique(independent_groups(labels.groups), return_inverse=True)
    third: Ints = np.random.default_rng(0).permutation(group.max(initial=0) + 1)[group] % 3
    train = np.where(third == 0, _VALIDATION, _TRAIN)
    return replace(labels, splits=np.where(labels.splits == _TRAIN, train, _TEST))


def _flatten(matrix: Matrix) -> dict[str, float]:
    """Returns the values as `separation/BLOCK/FACTOR`, and the selectivity, without NaN."""
    numbers = {
        f"separation/{matrix.blocks[row]}/{matrix.factors[column]}": float(value)
        for (row, column), value in np.ndenumerate(matrix.values)
    }
    numbers["separation/selectivity"] = matrix.selectivity()
    return {name: value for name, value in numbers.items() if not np.isnan(value)}


def _tabulate(matrix: Matrix) -> tuple[list[str], list[list[Any]]]:
    """Returns the columns and the rounded rows; None stands for a value that is NaN."""
    return ["block", *matrix.factors], [
        [block, *(None if np.isnan(value) else round(float(value), 3) for value in values)]
        for block, values in zip(matrix.blocks, matrix.values, strict=True)
    ]


def _draw(matrix: Matrix) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.5 + 0.5 * len(matrix.blocks)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    figure.colorbar(draw_matrix(axes, matrix), ax=axes, label="share of the raw embedding's score")
    axes.set_title(_TITLE, fontsize=9)
    return figure
