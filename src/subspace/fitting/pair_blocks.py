"""Blocks learned from pairs: what queries and their relevant documents have to do with each other.

With q and d the embeddings of a query and a document, each minus the mean of its side:

- `match`, the same matrix for both: the leading directions w of S_t w = lambda S_w w, scaled to
  w' S_w w = 1, so that an inner product counts a direction by how much more it varies between
  texts than between texts that belong together (within-class covariance normalisation, Hatch et
  al. 2006). S_w is the scatter within pairs, within the halves of one text, and within groups of
  parallel texts in the labelled sources; it is shrunk towards a multiple of the identity.
- `answer`, a matrix for queries and one for documents: q' M d is the ridge regression of relevance
  on both, M = (C_q + r I)^-1 C_qd (C_d + r' I)^-1 (two-step ridge regression, Stock et al. 2018),
  cut to its leading singular vectors. It maps a query to the documents that such queries asked
  for.

Both are solved without SGD, and apart from the factors' blocks, which they leave as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import svds

from subspace.arrays import AnyFloats, Floats
from subspace.blocks import BlockLayout
from subspace.errors import ConfigError
from subspace.fitting.pair_moments import PairStatistics, Side
from subspace.fitting.scatter import unit_trace
from subspace.model.projection import Projection, QuerySide

# Blocks of these names are learned from pairs.
MATCH, ANSWER = "match", "answer"
PAIR_BLOCKS = (MATCH, ANSWER)


@dataclass(frozen=True)
class FromPairs:
    """Settings of the blocks learned from pairs.

    Attributes:
        shrinkage: Share of the identity in S_w, in (0, 1].
        halves: How much the halves of one text count in S_w beside the pairs, 0 or more.
        groups: How much groups of parallel texts count in S_w, all sources together, 0 or more.
        query_ridge: r times the number of queries, in units of their variance; above 0.
        document_ridge: r' times the number of documents, in units of their variance; above 0.
    """

    shrinkage: float = 0.2
    halves: float = 0.5
    groups: float = 1.0
    query_ridge: float = 1.0
    document_ridge: float = 0.1

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if not 0 < self.shrinkage <= 1:
            raise ConfigError(
                f"the shrinkage of pairs must be above 0 and up to 1, got {self.shrinkage}"
            )
        for name in ("halves", "groups"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(f"pairs.{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("query_ridge", "document_ridge"):
            if not 0 < getattr(self, name) < np.inf:
                raise ConfigError(f"pairs.{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Together:
    """What is known of texts that belong together.

    Attributes:
        sets: Statistics of each set of pairs.
        halves: Scatter within the halves of one text (D, D), one per set.
        groups: Scatter within groups of parallel texts (D, D), one per labelled source with
            groups.
    """

    sets: Mapping[str, PairStatistics]
    halves: Sequence[Floats] = field(default_factory=tuple)
    groups: Sequence[Floats] = field(default_factory=tuple)

    @property
    def sides(self) -> tuple[Side, Side]:
        """Moments of queries and of documents, every set counting the same.

        What tells two sets apart counts nowhere.
        """
        queries = [one.queries for one in self.sets.values()]
        return _pool(queries), _pool([one.documents for one in self.sets.values()])

    @property
    def centres(self) -> tuple[Floats, Floats]:
        """Means of queries and of documents (D,)."""
        queries, documents = self.sides
        return queries.mean, documents.mean


def factor_layout(layout: BlockLayout) -> BlockLayout | None:
    """The layout without the blocks that are learned from pairs; None if no other is left."""
    widths = {name: w for name, w in layout.to_widths().items() if name not in PAIR_BLOCKS}
    return BlockLayout.from_widths(widths) if widths else None


def check_pairs(blocks: Iterable[str], *, given: bool) -> None:
    """Refuses pairs without a block that learns from them, and such a block without pairs.

    Args:
        blocks: Their names.
        given: Whether there are pairs.

    Raises:
        ConfigError: There is one without the other.
    """
    named = [block for block in blocks if block in PAIR_BLOCKS]
    if named and not given:
        raise ConfigError(
            f"block '{named[0]}' is learned from pairs: give data.pairs (folders in the BEIR "
            "layout), or leave the block out"
        )
    if given and not named:
        raise ConfigError(
            "data.pairs is given, but no block learns from it: add `match` or `answer` to "
            "model.blocks"
        )


def add_pair_blocks(
    projection: Projection | None,
    *,
    layout: BlockLayout,
    together: Together,
    settings: FromPairs,
) -> Projection:
    """Solves the blocks learned from pairs and puts them among the others.

    Args:
        projection: To the other blocks of the layout, which are taken over as they are; None if
            there are none.
        layout: All blocks.
        together: What the pairs say.
        settings: Shrinkage and ridges.

    Raises:
        ConfigError: A block is wider than the embedding, or the texts all have the same one.
    """
    sides = together.sides
    dim = len(sides[0].mean)
    for side, called in zip(sides, ("queries", "documents"), strict=True):
        if not np.trace(side.covariance) > 0:
            raise ConfigError(
                f"the {called} of data.pairs all have the same embedding: there is nothing to learn"
            )
    mean = (sides[0].mean + sides[1].mean) / 2 if projection is None else projection.mean
    others = {} if projection is None else projection.layout.split(projection.weight.T)
    rows: dict[str, tuple[AnyFloats, AnyFloats]] = {}
    for name, width in layout.to_widths().items():
        if width > dim:
            raise ConfigError(f"block '{name}' is {width} wide, but an embedding has {dim}")
        if name == MATCH:
            same = match_rows(together, width=width, settings=settings)
            rows[name] = same, same
        elif name == ANSWER:
            rows[name] = answer_rows(together, width=width, settings=settings)
        else:
            rows[name] = others[name].T, others[name].T
    weights = [np.concatenate([rows[name][side] for name in layout]) for side in (0, 1)]
    offsets = [
        np.concatenate(
            [
                rows[name][side] @ (sides[side].mean - mean)
                if name in PAIR_BLOCKS
                else np.zeros(width)
                for name, width in layout.to_widths().items()
            ]
        )
        for side in (0, 1)
    ]
    query, document = [
        (w.astype(np.float32), c.astype(np.float32)) for w, c in zip(weights, offsets, strict=True)
    ]
    return Projection(
        weight=document[0],
        mean=mean.astype(np.float32),
        layout=layout,
        offset=document[1],
        query=QuerySide(weight=query[0], offset=query[1]),
    )


def match_rows(together: Together, *, width: int, settings: FromPairs) -> Floats:
    """Rows (width, D) along which texts differ more than texts that belong together."""
    within = _mean([one.within for one in together.sets.values()])
    for weight, scatters in (
        (settings.halves, together.halves),
        (settings.groups, together.groups),
    ):
        if scatters and weight:
            within = within + weight * np.trace(within) * _mean([unit_trace(s) for s in scatters])
    dim = len(within)
    if not np.trace(within) > 0:
        raise ConfigError(
            "every query of data.pairs has the same embedding as its relevant documents: there is "
            "nothing to learn"
        )
    floor = np.trace(within) / dim * np.eye(dim)
    shrunk = (1 - settings.shrinkage) * within + settings.shrinkage * floor
    queries, documents = together.sides
    share = queries.count / (queries.count + documents.count)
    total = share * queries.covariance + (1 - share) * documents.covariance
    _, directions = eigh(total, shrunk, subset_by_index=(dim - width, dim - 1))
    return np.ascontiguousarray(directions[:, ::-1].T)


def answer_rows(together: Together, *, width: int, settings: FromPairs) -> tuple[Floats, Floats]:
    """Rows (width, D) for queries and for documents, whose inner product is the regression."""
    queries, documents = together.sides
    left = _ridged(queries, settings.query_ridge)
    right = _ridged(documents, settings.document_ridge)
    cross = _mean([one.cross for one in together.sets.values()])
    m = np.linalg.solve(right, np.linalg.solve(left, cross).T).T
    if 2 * width >= len(m):
        u, s, v = np.linalg.svd(m)
    else:
        # A fixed start: the same result every time.
        u, s, v = svds(m, k=width, v0=np.ones(len(m)))
        u, s, v = u[:, ::-1], s[::-1], v[::-1]
    root = np.sqrt(s[:width])[:, None]
    return root * u[:, :width].T, root * v[:width]


def _ridged(side: Side, ridge: float) -> Floats:
    dim = len(side.mean)
    trace = np.trace(side.covariance)
    return np.asarray(side.covariance + ridge / side.count * trace * np.eye(dim))


def _pool(sides: Sequence[Side]) -> Side:
    return Side(
        count=sum(side.count for side in sides),
        mean=_mean([side.mean for side in sides]),
        covariance=_mean([side.covariance for side in sides]),
    )


def _mean(matrices: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(matrices, axis=0))
