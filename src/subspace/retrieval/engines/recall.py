"""Recall: how much of what an exact scan finds an approximate engine finds, too.

Measured on the user's own vectors, under the weights that are hardest: a search by one block alone
has another geometry than the one that an index was made for.
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

# Below this somebody is told.
LIMIT = 0.95
# Tables of Dirichlet weights, drawn evenly from all that sum to 1.
_DIRICHLET = 4


@dataclass(frozen=True)
class KindRecall:
    """Recall under weights of one kind.

    Attributes:
        mean: Over these weights and all queries, in [0, 1].
        worst: The lowest mean over the queries that any of these weights has.
        weights: Which weights these are, by block.
    """

    mean: float
    worst: float
    weights: Mapping[str, float]


@dataclass(frozen=True)
class RecallReport:
    """Recall@k of an engine against the exact scan.

    Attributes:
        k: Number of hits that were compared.
        queries: Number of queries, each asked under all weights.
        kinds: `one block` (each alone), `uniform` and `dirichlet`.
    """

    k: int
    queries: int
    kinds: Mapping[str, KindRecall]

    @property
    def worst(self) -> KindRecall:
        """The kind with the worst weights."""
        return min(self.kinds.values(), key=lambda kind: kind.worst)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RecallReport":
        """The inverse of `to_json`.

        Raises:
            KeyError: Something is missing.
            TypeError: Something is of another type.
            ValueError: A number is none.
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

    A hit counts if its score cannot be told from, or is above, that of the exact scan's k-th: of
    documents that score alike it does not matter which are found.

    Args:
        engine: What is to be measured.
        exact: The same documents, searched exactly.
        layout: The blocks of the vectors.
        queries: How many of the documents are searched with; all if there are no more.
        k: How many hits are compared.
        seed: Of the Dirichlet weights.
    """
    vectors = exact.sample(queries).vectors
    kinds = {
        name: _measure(engine, exact, queries=vectors, tables=tables, layout=layout, k=k)
        for name, tables in _tables(len(layout), seed=seed).items()
    }
    return RecallReport(k=k, queries=len(vectors), kinds=kinds)


def warn_if_low(report: RecallReport, *, limit: float = LIMIT) -> None:
    """Logs a warning that says under which weights recall is below `limit`, and what to do."""
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
    """Weights by kind, one row (blocks,) each."""
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
        # One by one: an engine may rather scan a batch.
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
    """Part of the best `k` that was found."""
    best = np.sort(wanted.vectors @ query)[-k:]
    # Scores are those of the exact scan's vectors: the engine's own may be coarser.
    own = exact.fetch([document.id for document in found.documents]).vectors @ query
    reached = int((own >= best[0] - ROUNDING * np.abs(query).sum()).sum())
    return min(reached, len(best)) / len(best)
