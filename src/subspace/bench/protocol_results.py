"""Scores and costs of protocols, with intervals and a significance test over queries."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control, permutation_test

from subspace.arrays import AnyFloats, Floats
from subspace.evaluation.ranking import rank_one
from subspace.evaluation.scores import mean_interval

Measure = Literal["ndcg@5", "ndcg@10", "mrr", "recall@100"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
# The measure that protocols are compared by.
MAIN: Measure = "ndcg@10"
# Number of documents that are encoded again to time a protocol.
SAMPLE = 16
_FLIPS = 9999


@dataclass(frozen=True)
class Cost:
    """The costs of a protocol.

    Attributes:
        bytes: Bytes of all vectors of an item in float32, mean over items.
        vectors: Number of vectors of an item, mean over items.
        encode: Time to encode items, divided by that of the single vector in the same run.
        query: Time to score all items, divided by that of the single vector in the same run.
    """

    bytes: float
    vectors: float
    encode: float
    query: float


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Result:
    """The scores and costs of one protocol.

    Attributes:
        name: Name of the protocol.
        family: Family of the protocol.
        about: Description of the protocol in tables.
        scores: Score of each query (Q,), by measure.
        cost: The costs of the protocol.
    """

    name: str
    family: str
    about: str
    scores: Mapping[Measure, Floats]
    cost: Cost

    def mean(self, measure: Measure) -> float:
        """Returns the mean over queries."""
        return float(self.scores[measure].mean())

    def interval(self, measure: Measure) -> tuple[float, float]:
        """Returns the 95 % bootstrap interval of the mean over queries (2,000 resamples)."""
        return mean_interval(self.scores[measure])

    def p_value(self, other: "Result", *, measure: Measure = MAIN) -> float:
        """Returns the p-value of equal means: paired, two-sided, by 9,999 sign flips of queries."""
        difference = self.scores[measure] - other.scores[measure]
        if len(difference) < 2 or not difference.any():  # one query cannot differ significantly
            return 1.0
        found = permutation_test(
            (difference,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=_FLIPS,
            rng=np.random.default_rng(0),
        )
        return float(found.pvalue)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, ready for `json.dumps`."""
        scores = {name: values.tolist() for name, values in self.scores.items()}
        return {**vars(self), "scores": scores, "cost": asdict(self.cost)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Result":
        """Reads values that `to_json` returned."""
        scores = {name: np.array(value["scores"][name]) for name in MEASURES}
        return cls(**{**value, "scores": scores, "cost": Cost(**value["cost"])})


@dataclass(frozen=True)
class ProtocolBench:
    """All results of the bench.

    Attributes:
        results: One per protocol; the first is the single vector.
        queries: Number of queries.
        documents: Number of documents.
        notes: Warnings for the reader of the figures.
    """

    results: tuple[Result, ...]
    queries: int
    documents: int
    notes: tuple[str, ...] = ()


def score_queries(scores: AnyFloats, *, relevant: npt.NDArray[np.bool_]) -> dict[Measure, Floats]:
    """Computes every measure for each query (Q,).

    Args:
        scores: Scores of the documents (Q, N).
        relevant: Whether each document is relevant to each query (Q, N), at least one to each.
    """
    pairs = list(zip(scores, relevant, strict=True))
    five, rank = np.transpose([rank_one(row, relevant=gain, k=5) for row, gain in pairs])
    ten, _ = np.transpose([rank_one(row, relevant=gain, k=10) for row, gain in pairs])
    recall = np.array([recall_one(row, relevant=gain, k=100) for row, gain in pairs])
    return {"ndcg@5": five, "ndcg@10": ten, "mrr": rank, "recall@100": recall}


def recall_one(scores: AnyFloats, *, relevant: npt.NDArray[np.bool_], k: int) -> float:
    """Computes the share of relevant documents among the first `k`, averaged over tied orders.

    Args:
        scores: Score of every document (N,).
        relevant: Whether each document is relevant (N,), at least one is.
        k: Cut-off, 1 or more.
    """
    if k >= len(scores):
        return 1.0
    last = np.partition(scores, -k)[-k]
    above, tied = scores > last, scores == last
    share = (k - above.sum()) / tied.sum()
    return float(((above & relevant).sum() + share * (tied & relevant).sum()) / relevant.sum())


def adjust(p_values: Sequence[float]) -> Floats:
    """Adjusts p-values for the false discovery rate (Benjamini and Hochberg 1995)."""
    return np.asarray(false_discovery_control(p_values)) if len(p_values) else np.zeros(0)
