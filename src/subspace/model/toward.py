"""Toward a factor or a class: the direction that a search adds to the scores of documents.

For a numeric factor the model's head is a direction u_b in the factor's block. The score of a
document becomes

    score(q, d) + sum_b  c_b * s * (<u_b, d_b> - m_b) / sd_b

with m_b and sd_b the mean and the standard deviation of <u_b, d_b> among the documents, and s the
standard deviation of relevance. One standard deviation of the factor thus adds c_b times as much
as one of relevance. Apart from a constant the new term is an inner product with d.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Vectors
from subspace.errors import QueryError
from subspace.model.document_sample import DocumentSample

Toward = Mapping[str, float]
# Far beyond what leaves anything of relevance; more would end in infinity.
_MOST = 1e6


@dataclass(frozen=True, eq=False)  # `==` of arrays is not a single truth value
class Direction:
    """A term of the score: <vector, d> minus the sum of the offsets.

    Attributes:
        vector: Weighted sum of the factors' directions (layout.dim,); zero in other blocks. What
            follows the number of words is taken out; see `subspace.model.length`.
        offsets: By block, the mean of <vector, d> over the documents.
    """

    vector: Vectors
    offsets: Mapping[str, float]


def read_toward(toward: Toward | str) -> dict[str, float]:
    """Reads a text such as `complexity=-1,specificity=0.5`, or checks a mapping of that kind.

    Raises:
        QueryError: The argument does not have that form, or a number is not finite.
    """
    pairs: Sequence[tuple[str, object]]
    if isinstance(toward, str):
        pairs = [(name.strip(), value) for name, _, value in _split(toward)]
    elif isinstance(toward, Mapping):
        pairs = list(toward.items())
    else:
        raise QueryError(f"toward must be numbers by factor, like complexity=-1, got {toward!r}")
    read: dict[str, float] = {}
    for name, value in pairs:
        number = _to_number(value)
        if not name or number is None:
            raise QueryError(
                f"toward must read like complexity=-1,style:formal=0.5, cannot read "
                f"{name}={value}; a class with a comma in its name is given as a mapping in Python"
            )
        if abs(number) > _MOST:
            raise QueryError(f"toward {name}={number:g} is too much: give {_MOST:g} at most")
        if name in read:
            raise QueryError(f"toward names '{name}' twice")
        read[name] = number
    return read


def make_direction(
    toward: Toward,
    *,
    directions: Mapping[str, Vectors],
    sample: DocumentSample,
    relevance: Sequence[float],
) -> Direction:
    """Makes the direction that is added to the scores of documents.

    Args:
        toward: The number c_b by factor; below 0 to prefer less of the factor.
        directions: The direction u_b toward more of each factor (layout.dim,).
        sample: Some of the documents; means and standard deviations are measured on them.
        relevance: Weight of relevance of each block in the search, from which the standard
            deviation of relevance is computed.
    """
    documents, layout = sample.blocks.array, sample.blocks.layout
    spread = sample.score_spread.blocks
    parts = [w * spread[name] for name, w in zip(layout, relevance, strict=True)]
    unit = float(np.linalg.norm(parts)) or 1.0
    direction = np.zeros(layout.dim)
    for factor, count in toward.items():
        one = sample.length_trend.taken_out_of(directions[factor])
        deviation = float((documents @ one).std()) if len(documents) else 0.0
        if deviation > 0:  # a factor that is the same in all documents cannot order them
            direction += count * unit / deviation * one
    means = layout.split(documents.mean(axis=0) * direction if len(documents) else direction)
    offsets = {name: float(part.sum()) for name, part in means.items() if part.any()}
    return Direction(vector=direction.astype(np.float32), offsets=offsets)


def _split(text: str) -> list[tuple[str, str, str]]:
    return [part.rpartition("=") for part in text.split(",")]


def _to_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | np.number):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None
