"""Closed-form projection: a guarded discriminant analysis, solved from class statistics.

For block f, with all covariances averaged over sources (each taken inside its source, so that
what tells two sources apart counts nowhere):

- B_f  scatter of the own factor: labels (pairs of equal content where there are groups), measures
       and rewrites;
- N_f  what the rows are normalised by: total covariance, plus `caution` times the scatter of the
       other factors, shrunk towards a multiple of the identity;
- G_f  directions along which labelled class means of the other factors differ.

With N = L L^T, in the coordinates u = L^T w, the rows of W_f are the leading eigenvectors of
L^-1 B_f L^-T inside the complement of L^-1 G_f: Fisher's discriminant analysis under
the constraint W_f Sigma_xg = 0, by which no linear probe can read g from the block (LEACE,
Belrose et al. 2023); a number g counts by its levels, so that what a line reads of it is closed
up to the differences inside a level. The constraint holds exactly on the sources it was taken
from; `caution` holds approximately and on other sources too. The cost does not depend on the
number of texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.linalg import cholesky, eigh, null_space, solve_triangular

from subspace.arrays import Floats, Ints
from subspace.blocks import BlockLayout
from subspace.errors import ConfigError
from subspace.fitting.moments import SourceStatistics
from subspace.fitting.scatter import Evidence, gather_evidence, unit_trace
from subspace.model.projection import Projection

# A block of this name belongs to no factor: it keeps what the others leave of the raw embedding.
RESIDUAL = "residual"

# Eigenvalues below this share of the largest are rounding.
_RANK_TOLERANCE = 1e-9
# How many standard deviations away the constant lies from its own variation.
_STILL = 100.0
# How much the kinds of evidence on another factor count in the caution; chosen on sources left
# out of the fit (LOG.md).
_CAUTION = {"labels": 1.0, "measures": 0.2, "rewrites": 1.0, "changes": 0.3}


@dataclass(frozen=True)
class ClosedForm:
    """Settings of the closed-form solution.

    Attributes:
        shrinkage: Share of the identity in the covariance, in (0, 1].
        block_shrinkage: The same for single blocks, where it differs.
        guard: Share of the other factors' between-class energy whose directions are removed
            exactly, in [0, 1]; 0 is an analysis without guard.
        caution: How much the scatter of the other factors counts beside the total covariance, 0
            or more; by block, 0 for blocks that are not named.
        ranks: How many rows of a block are used, by block; the others are zero. Blocks that are
            not named use their width.
        reads: Which of the layers side by side a block reads, by their place in
            `data.encoder.layers` (0 is the first); blocks that are not named read all. Directions
            of a factor that middle layers hold carry less of the others than those of the last.
        energy: Row i is scaled by its discriminability (over that of the first row) to this
            power; 0 gives all rows the same energy.
        spread: Standard deviation that a block's scores of two random texts get, above 0: the
            block's first row becomes a constant, so that cosines fall with the distance of two
            texts and blocks vary alike. 0 leaves the blocks without.
        content: The block that also keeps what no factor claims, so that it still ranks like
            the raw embedding; empty for none. Its rows are leading directions in the raw
            embedding's own metric, not the whitened one.
        content_share: How much of the content block goes by the raw embedding's variance; the
            rest by the own factor's between-class scatter. In [0, 1].
        residual_keeps: Blocks whose content the residual keeps as well; it is uncorrelated with
            all others. With `[topic]` it is what a text says, without how.
    """

    shrinkage: float = 0.05
    block_shrinkage: Mapping[str, float] | None = None
    guard: float = 0.9999
    caution: Mapping[str, float] | None = None
    ranks: Mapping[str, int] | None = None
    reads: Mapping[str, Sequence[int]] | None = None
    energy: float = 0.5
    spread: float = 0.0
    content: str = "topic"
    content_share: float = 0.7
    residual_keeps: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Checks the ranges."""
        # YAML and JSON give lists.
        object.__setattr__(self, "residual_keeps", tuple(self.residual_keeps))
        if not 0 < self.shrinkage <= 1:
            raise ConfigError(f"shrinkage must be in (0, 1], got {self.shrinkage}")
        if not 0 <= self.guard <= 1:
            raise ConfigError(f"guard must be in [0, 1], got {self.guard}")
        if not 0 <= self.content_share <= 1:
            raise ConfigError(f"content_share must be in [0, 1], got {self.content_share}")
        if not 0 <= self.energy < np.inf:
            raise ConfigError(f"energy must be 0 or more and finite, got {self.energy}")
        if not 0 <= self.spread < 1:
            raise ConfigError(f"spread must be in [0, 1), got {self.spread}")
        self._check_blocks()

    def _check_blocks(self) -> None:
        for block, share in (self.block_shrinkage or {}).items():
            if not 0 < share <= 1:
                raise ConfigError(f"block_shrinkage.{block} must be in (0, 1], got {share}")
        for block, weight in (self.caution or {}).items():
            if not 0 <= weight < np.inf:
                raise ConfigError(f"caution.{block} must be 0 or more and finite, got {weight}")
        for block, rank in (self.ranks or {}).items():
            if rank < 1:
                raise ConfigError(f"ranks.{block} must be 1 or more, got {rank}")
        for block, places in (self.reads or {}).items():
            if not places or min(places) < 0 or len(set(places)) < len(places):
                raise ConfigError(
                    f"reads.{block} must name layers by their place, 0 or more, each once; "
                    f"got {list(places)}"
                )

    def to_json(self) -> dict[str, Any]:
        """As keyword arguments that give the same settings; JSON-ready."""
        settings = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("block_shrinkage", "caution", "ranks"):
            settings[name] = None if settings[name] is None else dict(settings[name])
        reads = self.reads
        settings["reads"] = None if reads is None else {b: list(reads[b]) for b in reads}
        settings["residual_keeps"] = list(self.residual_keeps)
        return settings

    def only(self, layout: BlockLayout) -> "ClosedForm":
        """The same settings for fewer blocks."""
        return replace(
            self,
            block_shrinkage={
                b: s for b, s in (self.block_shrinkage or {}).items() if b in layout.names
            },
            caution={b: w for b, w in (self.caution or {}).items() if b in layout.names},
            ranks={b: r for b, r in (self.ranks or {}).items() if b in layout.names},
            reads={b: p for b, p in (self.reads or {}).items() if b in layout.names},
            content=self.content if self.content in layout.names else "",
            residual_keeps=[block for block in self.residual_keeps if block in layout.names],
        )

    def dimensions(self, block: str, *, dim: int, raw: slice) -> Ints:
        """Which of the embedding's dimensions `block` reads, ascending.

        Args:
            block: Name of the block.
            dim: Dimensions of the embedding: layers of equal width, side by side.
            raw: Those of the last layer.

        Raises:
            ConfigError: There is no such layer.
        """
        places = (self.reads or {}).get(block)
        if places is None:
            return np.arange(dim)
        width = len(range(dim)[raw])
        if max(places) >= dim // width:
            raise ConfigError(
                f"reads.{block} names layer {max(places)}, but the embedding has {dim // width} "
                "side by side, counted from 0 (data.encoder.layers)"
            )
        return np.concatenate([np.arange(p * width, (p + 1) * width) for p in sorted(places)])

    def rank(self, block: str, *, width: int) -> int:
        """Number of rows of `block` that are used; one is kept for the constant, if there is one.

        Raises:
            ConfigError: The block is too narrow.
        """
        room = width - (1 if self.spread and block != RESIDUAL else 0)
        rank = (self.ranks or {}).get(block, room)
        if rank > room or room < 1:
            kept = " (one row is the constant that `spread` asks for)" if self.spread else ""
            raise ConfigError(
                f"block '{block}' is {width} wide, which is too narrow for rank {rank}{kept}"
            )
        return rank


@dataclass(frozen=True)
class Solution:
    """What the closed form gives.

    Attributes:
        projection: W and mu.
        guards: For each block, orthonormal directions (D, R) that its rows of W must be
            orthogonal to, so that no other factor's class means differ inside the block.
    """

    projection: Projection
    guards: Mapping[str, Floats]


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
        layout: The blocks; each is named after its factor, or `residual`.
        settings: Shrinkage, guard and scaling.
        raw: The dimensions of an embedding that are the raw embedding (the last layer), whose
            geometry the content block and the residual keep.

    Raises:
        ConfigError: A setting names no block, a block's factor is labelled in no source, or a
            block is wider than what the guard leaves of the embedding, a factor has a single
            class, or nothing varies.
    """
    evidence = gather_evidence(statistics)
    _check_statistics(statistics, layout=layout)
    _check_names(
        layout, settings=settings, labelled=[f for f in evidence if evidence[f].labels is not None]
    )
    total = np.asarray(np.mean([source.covariance for source in statistics.values()], axis=0))
    rows: dict[str, Floats] = {}
    guards: dict[str, Floats] = {}
    for block, width in layout.to_widths().items():
        if block != RESIDUAL:
            rows[block], guards[block] = _solve_block(
                block, width=width, evidence=evidence, total=total, settings=settings, raw=raw
            )
    if RESIDUAL in layout.names:
        width = layout.to_widths()[RESIDUAL]
        apart = [part for block, part in rows.items() if block not in settings.residual_keeps]
        rows[RESIDUAL] = _residual_rows(apart, total=total, width=width, raw=raw)
        guards[RESIDUAL] = np.zeros((len(total), 0))
    counts = np.array([source.count for source in statistics.values()], dtype=np.float64)
    means = np.stack([source.mean for source in statistics.values()])
    mean = counts @ means / counts.sum()
    if settings.spread:
        mean = _add_constants(
            rows, statistics=statistics, total=total, mean=mean, spread=settings.spread
        )
    return Solution(
        projection=Projection(
            weight=np.concatenate([rows[block] for block in layout]).astype(np.float32),
            mean=mean.astype(np.float32),
            layout=layout,
        ),
        guards=guards,
    )


def _check_statistics(statistics: Mapping[str, SourceStatistics], *, layout: BlockLayout) -> None:
    if not any(np.trace(source.covariance) > 0 for source in statistics.values()):
        raise ConfigError("the training texts all have the same embedding: there is nothing to fit")
    for block in layout:
        labelled = {
            name: int((source.factors[block].counts > 0).sum())
            for name, source in statistics.items()
            if block in source.factors
        }
        if labelled and max(labelled.values()) < 2:
            raise ConfigError(
                f"'{block}' has a single class in every source that labels it "
                f"({', '.join(labelled)}): a block cannot learn it"
            )


def _check_names(layout: BlockLayout, *, settings: ClosedForm, labelled: list[str]) -> None:
    for block in layout:
        if block not in labelled and block != RESIDUAL:
            raise ConfigError(
                f"no source is labelled with '{block}'; name blocks after the factors "
                f"{', '.join(sorted(labelled))}, or add a source that labels it"
            )
    for setting, named in (
        ("block_shrinkage", settings.block_shrinkage),
        ("caution", settings.caution),
        ("ranks", settings.ranks),
        ("reads", settings.reads),
        ("residual_keeps", settings.residual_keeps),
    ):
        for block in named or ():
            if block not in layout.names:
                raise ConfigError(
                    f"{setting} names '{block}', but the blocks are {', '.join(layout)}"
                )


def _solve_block(
    block: str,
    *,
    width: int,
    evidence: Mapping[str, Evidence],
    total: Floats,
    settings: ClosedForm,
    raw: slice,
) -> tuple[Floats, Floats]:
    """Rows (width, D) of a factor's block, and its guard (D, R)."""
    others = [part for factor, part in evidence.items() if factor != block]
    dim = len(total)
    # Everything is solved in the dimensions that the block reads.
    read = np.ix_(*2 * (settings.dimensions(block, dim=dim, raw=raw),))
    noise = _noise(block, others, total=total, settings=settings)[read]
    whiten, unwhiten = _whitening(noise)
    closed = [part.labels[read] for part in others if part.labels is not None]
    taken, free = _split_nuisance(closed, whiten=whiten, share=settings.guard)
    rank = settings.rank(block, width=width)
    if free.shape[1] < rank:
        raise ConfigError(
            f"block '{block}' is {width} wide, but the guard leaves {free.shape[1]} of "
            f"{len(noise)} dimensions; make it narrower, or lower `guard`"
        )
    guard = np.linalg.qr(unwhiten @ taken)[0]
    own = evidence[block]
    if block == settings.content:
        kept = np.zeros_like(total)
        kept[raw, raw] = total[raw, raw]
        labels = np.zeros_like(total) if own.paired is None else own.paired
        share = settings.content_share
        signal = share * unit_trace(kept) + (1 - share) * labels
        rows = _principal_rows(signal[read], rank=rank, guard=guard)
    else:
        signal = np.sum(
            [part for part in (own.paired, own.own_measures, own.rewrites) if part is not None],
            axis=0,
        )
        rows = _discriminant_rows(
            signal[read], rank=rank, whiten=whiten, free=free, energy=settings.energy
        )
    used = read[1][0]
    padded = np.zeros((width, dim))
    padded[:rank, used] = rows
    closed_off = np.zeros((dim, guard.shape[1]))
    closed_off[used] = guard
    return padded, closed_off


def _noise(block: str, others: list[Evidence], *, total: Floats, settings: ClosedForm) -> Floats:
    """N_f: total covariance and caution, shrunk, with the trace of the total covariance."""
    noise = unit_trace(total)
    caution = (settings.caution or {}).get(block, 0.0)
    if caution:
        for part in others:
            for kind, weight in _CAUTION.items():
                scatter = getattr(part, kind)
                if scatter is not None:
                    noise = noise + caution * weight * scatter
    share = (settings.block_shrinkage or {}).get(block, settings.shrinkage)
    shrunk = (1 - share) * unit_trace(noise) + share * np.eye(len(total)) / len(total)
    return np.asarray(shrunk * np.trace(total))


def _whitening(noise: Floats) -> tuple[Floats, Floats]:
    """Maps (D, D) that take w to u = L^T w and back, where `noise` = L L^T.

    Any root would do; this one is the cheapest.
    """
    lower = cholesky(noise, lower=True)
    whiten = solve_triangular(lower, np.eye(len(noise)), lower=True)
    return np.asarray(whiten), np.asarray(lower)


def _leading(scatter: Floats, *, count: int) -> tuple[Floats, Floats]:
    """The largest `count` eigenvalues, descending, and their vectors as columns."""
    dim = len(scatter)
    values, vectors = eigh(scatter, subset_by_index=(dim - count, dim - 1))
    return values[::-1], vectors[:, ::-1]


def _residual_rows(blocks: list[Floats], *, total: Floats, width: int, raw: slice) -> Floats:
    """Orthonormal rows (width, D): leading raw directions that `blocks` do not correlate with."""
    covariance = np.concatenate([np.zeros((1, len(total))), *blocks]) @ total[:, raw]
    # Zero rows beyond a block's rank correlate with nothing.
    free = null_space(covariance)
    if free.shape[1] < width:
        raise ConfigError(
            f"block '{RESIDUAL}' is {width} wide, but the other blocks leave {free.shape[1]} of "
            f"{len(total[raw, raw])} raw dimensions; make it narrower, or lower their ranks"
        )
    _, vectors = _leading(free.T @ total[raw, raw] @ free, count=width)
    rows = np.zeros((width, len(total)))
    rows[:, raw] = (free @ vectors).T
    return rows


def _add_constants(
    rows: dict[str, Floats],
    *,
    statistics: Mapping[str, SourceStatistics],
    total: Floats,
    mean: Floats,
    spread: float,
) -> Floats:
    """Gives the first row of every factor's block a constant value; returns the mu that does so.

    The first, so that a block can be cut to its leading rows. A direction u that no row uses and
    along which texts hardly vary is put there, and mu is moved far along it: z = W (x - mu) then
    holds a constant without needing an offset. The constant a makes the cosine of two texts
    1 - |z - z'|^2 / (2 a^2) to first order, whose standard deviation for normal z of covariance C
    is sqrt(2 tr(C^2)) / a^2.
    """
    used = np.concatenate(list(rows.values()))
    free = null_space(used[np.abs(used).any(axis=1)])
    means = np.stack([source.mean for source in statistics.values()])
    variance = total + np.cov(means.T, bias=True)
    values, vectors = eigh(free.T @ variance @ free, subset_by_index=(0, 0))
    still = free @ vectors[:, 0]
    distance = max(1.0, _STILL * float(np.sqrt(max(values[0], 0.0))))
    for block in rows:
        if block != RESIDUAL:
            covariance = rows[block] @ total @ rows[block].T
            constant = np.sqrt(np.sqrt(2 * np.square(covariance).sum()) / spread)
            rows[block] = np.roll(rows[block], 1, axis=0)  # the last row is free, see `rank`
            rows[block][0] = constant / distance * still
    return np.asarray(mean - distance * still)


def _principal_rows(signal: Floats, *, rank: int, guard: Floats) -> Floats:
    """Orthonormal rows (rank, D) along which `signal` is largest, orthogonal to `guard`."""
    open_to = np.eye(len(signal)) - guard @ guard.T
    _, vectors = _leading(open_to @ signal @ open_to, count=rank)
    return np.asarray(vectors.T @ open_to)


def _discriminant_rows(
    signal: Floats, *, rank: int, whiten: Floats, free: Floats, energy: float
) -> Floats:
    """Rows (rank, D) along which `signal` is largest for unit variance, inside `free`."""
    # In the whitened space: u^T (L^-1 S L^-T) u, where w = L^-T u.
    whitened = whiten @ signal @ whiten.T
    if free.shape[0] > free.shape[1]:  # there is a guard
        whitened = free.T @ whitened @ free
    values, vectors = _leading(whitened, count=rank)
    strength = np.maximum(values, 0) / max(float(values[0]), 1e-12)
    # Beyond the rank of the signal eigenvectors are whatever rounding makes of them.
    scale = np.where(strength > _RANK_TOLERANCE, strength**energy, 0.0)
    rows = vectors if len(vectors) == len(free) else free @ vectors
    return np.asarray(rows.T @ whiten * scale[:, None])


def _split_nuisance(others: list[Floats], *, whiten: Floats, share: float) -> tuple[Floats, Floats]:
    """Orthonormal bases (D, R) and (D, D - R) of the whitened space.

    The first holds `share` of the other factors' between-class energy, the second the rest.
    """
    dim = len(whiten)
    if not others or share == 0:
        return np.zeros((dim, 0)), np.eye(dim)
    nuisance = whiten @ np.sum([unit_trace(other) for other in others], axis=0) @ whiten.T
    values, vectors = np.linalg.eigh(nuisance)
    order = np.argsort(-values)
    if not values.max() > 0:  # factors of a single class
        return np.zeros((dim, 0)), np.eye(dim)
    energy = np.cumsum(values[order]) / values.sum()
    rank = int((values > _RANK_TOLERANCE * values.max()).sum())
    count = min(int(np.searchsorted(energy, share)) + 1, rank)
    return vectors[:, order[:count]], vectors[:, order[count:]]


def guard_directions(statistics: Mapping[str, SourceStatistics], *, block: str) -> Floats:
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
