"""What a protocol reached and what it costs, with intervals and a test over queries."""

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
# What protocols are compared by.
MAIN: Measure = "ndcg@10"
_FLIPS = 9999


@dataclass(frozen=True)
class Cost:
    """What a protocol costs.

    Attributes:
        bytes: Float32 bytes of all vectors kept, per item.
        vectors: Number of vectors kept, per item.
        encode: Time to encode items, relative to the single vector's in the same run.
        query: Time to score all items, relative to the single vector's in the same run.
    """

    bytes: float
    vectors: float
    encode: float
    query: float


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Result:
    """One protocol, measured.

    Attributes:
        name: Of the protocol.
        family: Of the protocol.
        about: What gets a vector.
        scores: By measure, of each query (Q,).
        cost: What it costs.
    """

    name: str
    family: str
    about: str
    scores: Mapping[Measure, Floats]
    cost: Cost

    def mean(self, measure: Measure) -> float:
        """Mean over queries."""
        return float(self.scores[measure].mean())

    def interval(self, measure: Measure) -> tuple[float, float]:
        """95 % bootstrap interval of the mean over queries (percentile, 2,000 resamples)."""
        return mean_interval(self.scores[measure])

    def p_value(self, other: "Result", *, measure: Measure = MAIN) -> float:
        """Paired, two-sided randomisation test of equal means (9,999 sign flips over queries)."""
        difference = self.scores[measure] - other.scores[measure]
        if len(difference) < 2 or not difference.any():  # one query proves nothing
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
        """Plain values, ready for `json.dumps`."""
        scores = {name: values.tolist() for name, values in self.scores.items()}
        return {**vars(self), "scores": scores, "cost": asdict(self.cost)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Result":
        """The inverse of `to_json`."""
        scores = {name: np.array(value["scores"][name]) for name in MEASURES}
        return cls(**{**value, "scores": scores, "cost": Cost(**value["cost"])})


def score_queries(scores: AnyFloats, *, relevant: npt.NDArray[np.bool_]) -> dict[Measure, Floats]:
    """Every measure of every query (Q,).

    Args:
        scores: Of the documents (columns) for the queries (rows).
        relevant: Which document is relevant to which query (Q, N), one at least to each.
    """
    pairs = list(zip(scores, relevant, strict=True))
    five, rank = np.transpose([rank_one(row, relevant=gain, k=5) for row, gain in pairs])
    ten, _ = np.transpose([rank_one(row, relevant=gain, k=10) for row, gain in pairs])
    recall = np.array([recall_one(row, relevant=gain, k=100) for row, gain in pairs])
    return {"ndcg@5": five, "ndcg@10": ten, "mrr": rank, "recall@100": recall}


def recall_one(scores: AnyFloats, *, relevant: npt.NDArray[np.bool_], k: int) -> float:
    """Share of the relevant documents among the first `k`, mean over the orders of tied ones.

    Args:
        scores: Score of every document (N,).
        relevant: Which of them are relevant (N,), one at least.
        k: Cut-off.
    """
    if k >= len(scores):
        return 1.0
    last = np.partition(scores, -k)[-k]
    above, tied = scores > last, scores == last
    share = (k - above.sum()) / tied.sum()
    return float(((above & relevant).sum() + share * (tied & relevant).sum()) / relevant.sum())


def adjust(p_values: Sequence[float]) -> Floats:
    """P-values that bound the share of false discoveries (Benjamini and Hochberg 1995)."""
    return np.asarray(false_discovery_control(p_values)) if len(p_values) else np.zeros(0)
