"""Recall of an approximate engine: the share of an exact scan's hits that it finds, too.

It is measured on the vectors of the index itself. The weights include each block alone, which is
the hardest case, as an index is built for inner products over all blocks.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.blocks import BlockLayout
from subspace.retrieval.engines.engine import ROUNDING, Candidates, Engine

logger = logging.getLogger(__name__)

# Recall below which a warning is logged.
LIMIT = 0.95
# Number of random weightings, drawn uniformly from all weights of blocks that sum to 1.
_DIRICHLET = 4


@dataclass(frozen=True)
class KindRecall:
    """Recall under weights of one kind.

    Attributes:
        mean: Mean recall over the weights of this kind and all queries, in [0, 1].
        worst: Recall under the weights where it is lowest, mean over queries, in [0, 1].
        weights: The weights where it is lowest, by block.
    """

    mean: float
    worst: float
    weights: Mapping[str, float]


@dataclass(frozen=True)
class RecallReport:
    """Recall@k of an engine against the exact scan.

    Attributes:
        k: Number of hits that were compared.
        queries: Number of queries, each searched under all weights.
        kinds: Recall under weights of each kind: `one block` (each alone), `uniform`, `dirichlet`.
    """

    k: int
    queries: int
    kinds: Mapping[str, KindRecall]

    @property
    def worst(self) -> KindRecall:
        """The kind with the lowest recall under any weights."""
        return min(self.kinds.values(), key=lambda kind: kind.worst)

    def to_json(self) -> dict[str, Any]:
        """Returns values that `from_json` reads, JSON-ready."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RecallReport":
        """Reads values that `to_json` returned.

        Raises:
            KeyError: A value is missing.
            TypeError: A value has the wrong type.
            ValueError: A value is no number, or there is no kind of weights.
        """
        kinds = {
            str(name): KindRecall(
                mean=float(kind["mean"]),
                worst=float(kind["worst"]),
                weights={str(block): float(w) for block, w in dict(kind["weights"]).items()},
            )
            for name, kind in dict(content["kinds"]).items()
        }
        if not kinds:
            raise ValueError("recall was measured under no weights")
        return cls(k=int(content["k"]), queries=int(content["queries"]), kinds=kinds)


def measure_recall(
    engine: Engine,
    exact: Engine,
    *,
    layout: BlockLayout,
    queries: int = 200,
    k: int = 10,
    seed: int = 0,
) -> RecallReport:
    """Compares an engine with the exact scan of the same documents.

    A hit counts if its score reaches that of the exact scan's k-th hit, within rounding: it does
    not matter which of several documents with equal scores are found.

    Args:
        engine: The engine to measure.
        exact: An exact engine with the same documents.
        layout: The blocks of the vectors.
        queries: Number of documents that serve as queries; all if there are fewer.
        k: Number of hits to compare.
        seed: Seed of the Dirichlet weights.
    """
    vectors = exact.sample(queries).vectors
    kinds = {
        name: _measure(engine, exact, queries=vectors, tables=tables, layout=layout, k=k)
        for name, tables in _tables(len(layout), seed=seed).items()
    }
    return RecallReport(k=k, queries=len(vectors), kinds=kinds)


def warn_if_low(report: RecallReport, *, limit: float = LIMIT) -> None:
    """Logs a warning with advice if recall under any weights is below `limit`."""
    worst = report.worst
    if worst.worst >= limit:
        return
    named = ", ".join(f"{name}={w:.2g}" for name, w in worst.weights.items() if w)
    logger.warning(
        "approximate search finds %.2f of the best %d under the weights %s (mean over such "
        "weights %.2f, wanted %.2f): let it rescore more (a larger `rescore`), build with the "
        "method 'pq', or take the exact engine 'numpy'",
        worst.worst,
        report.k,
        named,
        worst.mean,
        limit,
    )


def _tables(blocks: int, *, seed: int) -> dict[str, Floats]:
    """Returns weights by kind, as tables with one row (blocks,) per weighting."""
    return {
        "one block": np.eye(blocks),
        "uniform": np.full((1, blocks), 1 / blocks),
        "dirichlet": np.random.default_rng(seed).dirichlet(np.ones(blocks), size=_DIRICHLET),
    }


def _measure(
    engine: Engine,
    exact: Engine,
    *,
    queries: Vectors,
    tables: Floats,
    layout: BlockLayout,
    k: int,
) -> KindRecall:
    recalls = []
    for table in tables:
        folded = queries * np.repeat(table, layout.widths).astype(np.float32)
        # One query per call: an engine may answer a batch by an exact scan.
        ours = [engine.search(query[None], k=k)[0] for query in folded]
        pairs = zip(folded, ours, exact.search(folded, k=k), strict=True)
        shares = [_share(q, found, wanted, exact=exact, k=k) for q, found, wanted in pairs]
        recalls.append(float(np.mean(shares)) if shares else 1.0)
    worst = int(np.argmin(recalls))
    return KindRecall(
        mean=float(np.mean(recalls)),
        worst=recalls[worst],
        weights=dict(zip(layout, tables[worst].tolist(), strict=True)),
    )


def _share(
    query: Vectors, found: Candidates, wanted: Candidates, *, exact: Engine, k: int
) -> float:
    """Computes the share of the best `k` that was found."""
    best = np.sort(wanted.vectors @ query)[-k:]
    # Scores come from the exact engine's vectors: those of the other engine may be less precise.
    own = exact.fetch([document.id for document in found.documents]).vectors @ query
    reached = int((own >= best[0] - ROUNDING * np.abs(query).sum()).sum())
    return min(reached, len(best)) / len(best)
