"""Closed-form projection: a guarded discriminant analysis, solved from class statistics.

For block f, with all covariances averaged over sources (each taken inside its source, so that
what tells two sources apart counts nowhere):

- S   total covariance, shrunk towards a multiple of the identity;
- B_f between-class covariance of the own factor, from pairs of equal content where there are
      groups;
- G_f directions along which class means of the other factors differ.

In the coordinates u = S^(1/2) w the rows of W_f are the leading eigenvectors of
S^(-1/2) B_f S^(-1/2) inside the complement of S^(-1/2) G_f: Fisher's discriminant analysis under
the constraint W_f Sigma_xg = 0, by which no linear probe can read g from the block (LEACE,
Belrose et al. 2023). The cost does not depend on the number of texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subspace.blocks import BlockLayout
from subspace.errors import ConfigError
from subspace.projection import Projection
from subspace.statistics import SourceStatistics

Matrix = npt.NDArray[np.float64]

# Eigenvalues below this share of the largest are rounding.
_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class ClosedForm:
    """Settings of the closed-form solution.

    Attributes:
        shrinkage: Share of the identity in the total covariance, in (0, 1].
        guard: Share of the other factors' between-class energy whose directions are removed
            exactly, in [0, 1]; 0 is an analysis without guard.
        energy: Row i is scaled by its discriminability (between over total, in [0, 1]) to this
            power; 0 gives all rows the same energy.
        content: The block that also keeps what no factor claims, so that it still ranks like
            the raw embedding; empty for none. Its rows are leading directions in the raw
            embedding's own metric, not the whitened one.
        content_share: How much of the content block goes by the raw embedding's variance; the
            rest by the own factor's between-class scatter. In [0, 1].
    """

    shrinkage: float = 0.05
    guard: float = 0.9999
    energy: float = 0.5
    content: str = "topic"
    content_share: float = 0.7

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if not 0 < self.shrinkage <= 1:
            raise ConfigError(f"shrinkage must be in (0, 1], got {self.shrinkage}")
        if not 0 <= self.guard <= 1:
            raise ConfigError(f"guard must be in [0, 1], got {self.guard}")
        if not 0 <= self.content_share <= 1:
            raise ConfigError(f"content_share must be in [0, 1], got {self.content_share}")
        if not 0 <= self.energy < np.inf:
            raise ConfigError(f"energy must be 0 or more and finite, got {self.energy}")


@dataclass(frozen=True)
class Solution:
    """What the closed form gives.

    Attributes:
        projection: W and mu.
        guards: For each block, orthonormal directions (D, R) that its rows of W must be
            orthogonal to, so that no other factor's class means differ inside the block.
    """

    projection: Projection
    guards: Mapping[str, Matrix]


def solve_closed_form(
    statistics: Mapping[str, SourceStatistics],
    *,
    layout: BlockLayout,
    settings: ClosedForm,
    raw: slice,
) -> Solution:
    """Solves for W, mu and the guards.

    Args:
        statistics: Class statistics by source.
        layout: The blocks; each is named after its factor.
        settings: Shrinkage, guard and scaling.
        raw: The dimensions of an embedding that are the raw embedding (the last layer), whose
            geometry the content block keeps.

    Raises:
        ConfigError: A block's factor is labelled in no source, or a block is wider than what
            the guard leaves of the embedding.
    """
    factors = list(dict.fromkeys(f for source in statistics.values() for f in source.factors))
    for block in layout:
        if block not in factors:
            raise ConfigError(
                f"no source is labelled with '{block}'; name blocks after the factors "
                f"{', '.join(sorted(factors))}, or add a source that labels it"
            )
    total = np.asarray(np.mean([source.covariance for source in statistics.values()], axis=0))
    identity = np.trace(total) / len(total) * np.eye(len(total))
    values, vectors = np.linalg.eigh(
        (1 - settings.shrinkage) * total + settings.shrinkage * identity
    )
    whiten = (vectors / np.sqrt(values)) @ vectors.T
    unwhiten = (vectors * np.sqrt(values)) @ vectors.T
    own = {f: _average_between(statistics, factor=f, paired=True) for f in factors}
    guarded = {f: _average_between(statistics, factor=f, paired=False) for f in factors}
    rows: list[Matrix] = []
    guards: dict[str, Matrix] = {}
    for block, width in layout.to_widths().items():
        others = [guarded[factor] for factor in factors if factor != block]
        taken, free = _split_nuisance(others, whiten=whiten, share=settings.guard)
        if free.shape[1] < width:
            raise ConfigError(
                f"block '{block}' is {width} wide, but the guard leaves {free.shape[1]} of "
                f"{len(total)} dimensions; make it narrower, or lower `guard`"
            )
        guards[block] = np.linalg.qr(unwhiten @ taken)[0]
        if block == settings.content:
            share = settings.content_share
            kept = np.zeros_like(total)
            kept[raw, raw] = total[raw, raw]
            signal = share * _unit_trace(kept) + (1 - share) * _unit_trace(own[block])
            rows.append(_principal_rows(signal, width=width, guard=guards[block]))
        else:
            rows.append(
                _discriminant_rows(
                    own[block], width=width, whiten=whiten, free=free, energy=settings.energy
                )
            )
    counts = np.array([source.count for source in statistics.values()], dtype=np.float64)
    means = np.stack([source.mean for source in statistics.values()])
    return Solution(
        projection=Projection(
            weight=np.concatenate(rows).astype(np.float32),
            mean=(counts @ means / counts.sum()).astype(np.float32),
            layout=layout,
        ),
        guards=guards,
    )


def _average_between(
    statistics: Mapping[str, SourceStatistics], *, factor: str, paired: bool
) -> Matrix:
    """Mean over sources of the factor's between-class covariance; every source counts the same.

    With `paired`, content is held constant in the sources whose groups allow it.
    """
    parts = []
    for source in statistics.values():
        if factor in source.factors:
            classes = source.factors[factor]
            scatter = classes.paired_between if paired else None
            scatter = classes.between if scatter is None else scatter
            parts.append(scatter / max(float(np.trace(source.covariance)), 1e-12))
    return np.asarray(np.mean(parts, axis=0))


def _unit_trace(scatter: Matrix) -> Matrix:
    """Scaled to trace 1, so that no part outweighs another by its units; zero stays zero."""
    trace = float(np.trace(scatter))
    return scatter / trace if trace > 0 else scatter


def _principal_rows(signal: Matrix, *, width: int, guard: Matrix) -> Matrix:
    """Orthonormal rows (width, D) along which `signal` is largest, orthogonal to `guard`."""
    open_to = np.eye(len(signal)) - guard @ guard.T
    values, vectors = np.linalg.eigh(open_to @ signal @ open_to)
    return np.asarray(vectors[:, np.argsort(-values)[:width]].T @ open_to)


def _discriminant_rows(
    signal: Matrix, *, width: int, whiten: Matrix, free: Matrix, energy: float
) -> Matrix:
    """Rows (width, D) along which `signal` is largest for unit variance, inside `free`."""
    values, vectors = np.linalg.eigh(free.T @ (whiten @ signal @ whiten) @ free)
    leading = np.argsort(-values)[:width]
    strength = np.maximum(values[leading], 0) / max(float(values.max()), 1e-12)
    # Beyond the rank of the signal eigenvectors are whatever rounding makes of them.
    scale = np.where(strength > _RANK_TOLERANCE, strength**energy, 0.0)
    return np.asarray((free @ vectors[:, leading]).T @ whiten * scale[:, None])


def _split_nuisance(others: list[Matrix], *, whiten: Matrix, share: float) -> tuple[Matrix, Matrix]:
    """Orthonormal bases (D, R) and (D, D - R) of the whitened space.

    The first holds `share` of the other factors' between-class energy, the second the rest.
    """
    dim = len(whiten)
    if not others or share == 0:
        return np.zeros((dim, 0)), np.eye(dim)
    nuisance = whiten @ np.sum([_unit_trace(other) for other in others], axis=0) @ whiten
    values, vectors = np.linalg.eigh(nuisance)
    order = np.argsort(-values)
    if not values.max() > 0:  # factors of a single class
        return np.zeros((dim, 0)), np.eye(dim)
    energy = np.cumsum(values[order]) / values.sum()
    rank = int((values > _RANK_TOLERANCE * values.max()).sum())
    count = min(int(np.searchsorted(energy, share)) + 1, rank)
    return vectors[:, order[:count]], vectors[:, order[count:]]


def guard_directions(statistics: Mapping[str, SourceStatistics], *, block: str) -> Matrix:
    """Class means of all factors but the block's own, as columns (D, R) with R <= D.

    Columns are weighted by the root of the class's share and scaled by the source's total
    variance, so that `||W_f C||^2` is the mean over sources and factors of the between-class
    variance that block f holds, relative to the embedding's.
    """
    columns = [
        (factor.means * np.sqrt(factor.counts / max(factor.counts.sum(), 1))[:, None]).T
        / np.sqrt(max(np.trace(source.covariance), 1e-12))
        for source in statistics.values()
        for name, factor in source.factors.items()
        if name != block
    ]
    dim = len(next(iter(statistics.values())).mean)
    if not columns:
        return np.zeros((dim, 1))
    joined = np.concatenate(columns, axis=1) / np.sqrt(len(columns))
    if joined.shape[1] <= dim:
        return np.asarray(joined)
    # The penalty depends on C C^T alone; its root has D columns.
    values, vectors = np.linalg.eigh(joined @ joined.T)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))
