"""Heat maps of the block x factor matrices: in-corpus beside cross-corpus."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subspace.evaluation.probes import PROBES
from subspace.evaluation.report import CROSS_CORPUS, IN_CORPUS, Report
from subspace.evaluation.separation import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

PROBE_TITLES: Mapping[str, str] = {
    "linear": "linear probe",
    "neighbours": "nearest neighbours",
    "network": "small network",
}


def draw_heat_maps(report: Report, *, path: Path) -> None:
    """Draws the matrices to a PNG: a row per probe, in-corpus left and cross-corpus right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    models = [model for model in (IN_CORPUS, CROSS_CORPUS) if model in report.models]
    models = models or [CROSS_CORPUS]
    height = 1.1 + 0.5 * len(report.blocks)
    figure = Figure(figsize=(5.4 * len(models), height * len(PROBES)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(PROBES), len(models), squeeze=False)
    images = []
    for row, probe in enumerate(PROBES):
        for column, model in enumerate(models):
            matrix = report.matrix(model, probe=probe)
            images.append(draw_matrix(axes[row, column], matrix))
            selectivity = matrix.selectivity()
            shown = "" if np.isnan(selectivity) else f": selectivity {selectivity:.2f}"
            axes[row, column].set_title(f"{model}, {PROBE_TITLES[probe]}{shown}", fontsize=10)
    figure.colorbar(images[-1], ax=axes, shrink=0.6, label="share of the raw embedding's score")
    figure.suptitle("What each block (row) tells of each factor (column), confounds controlled")
    # Leaves out the version of the software, so that the same numbers give the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_matrix(axes: "Axes", matrix: Matrix) -> "AxesImage":
    """Draws one matrix as colours and numbers; the factor that names a block is bold."""
    values = matrix.values
    if not values.size:  # nothing could be read; the picture then says so
        values = np.full((1, 1), np.nan)
    image = axes.imshow(np.nan_to_num(values), vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_xticks(range(values.shape[1]), matrix.factors or ("nothing could be read",))
    axes.set_yticks(range(values.shape[0]), matrix.blocks or ("",))
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            own = matrix.blocks[row] == matrix.factors[column]
            axes.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                color="white" if value > 0.6 else "black",
                fontweight="bold" if own else "normal",
            )
    return image
