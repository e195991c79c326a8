"""Weights: one weight for recency, importance and relevance in each block."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.errors import WeightsError
from subspace.files import read_yaml
from subspace.model.block_weights import (
    check_some_weight,
    check_weight,
    parse_block_weights,
    read_block_weights,
    read_number,
)
from subspace.retrieval.presets import find_preset

Part = Literal["recency", "importance", "relevance"]
PARTS: tuple[Part, ...] = ("recency", "importance", "relevance")

_FORM = "weights must read like topic=0.7,style=0.1 or riv=0.15,0.15,0.7 or preset=balanced"
_RIV = re.compile(r"(?:^|[,;])\s*riv\s*=\s*([^,;=]+),([^,;=]+),([^,;=]+)(?=$|[,;])")
_PRESET = re.compile(r"(?:^|[,;])\s*preset\s*=\s*([^,;=]+)(?=$|[,;])")


@dataclass(frozen=True)
class Weights:
    """A table of one weight per part (recency, importance, relevance) and block.

    Attributes:
        layout: The blocks.
        recency: One weight per block for how recently the item, or similar ones, were used.
        importance: One weight per block for the success of the item, or of similar ones.
        relevance: One weight per block for the cosine with the query.

    Every weight is 0 or between about 1e-32 and 3e32, and not all are 0.

    Raises:
        WeightsError: A weight is negative, NaN, infinite or out of that range, or all are 0.
    """

    layout: BlockLayout
    recency: tuple[float, ...]
    importance: tuple[float, ...]
    relevance: tuple[float, ...]

    def __post_init__(self) -> None:
        """Checks the values; error messages name the part and the block."""
        for part in PARTS:
            values = getattr(self, part)
            if len(values) != len(self.layout):
                raise WeightsError(
                    f"{len(values)} {part} weights for the {len(self.layout)} blocks "
                    f"{', '.join(self.layout)}"
                )
            for block, value in zip(self.layout, values, strict=True):
                check_weight(value, of=f"of block '{block}' ({part})")
        if not any(any(getattr(self, part)) for part in PARTS):
            named = ", ".join(self.layout)
            raise WeightsError(f"at least one weight must be above 0; the blocks are {named}")

    @classmethod
    def make(
        cls,
        *,
        layout: BlockLayout,
        blocks: Mapping[str, float] | None = None,
        riv: Sequence[float] | None = None,
        preset: str | None = None,
    ) -> "Weights":
        """Builds the table as the outer product of a weight per part and a weight per block.

        Args:
            layout: The blocks.
            blocks: Weight by block name, 0 for blocks left out; equal weights that sum to 1 if
                None.
            riv: Weights of recency, importance and relevance; (0, 0, 1) if None.
            preset: Name of a preset, instead of `riv`.

        Raises:
            WeightsError: A name is unknown or a value is refused.
        """
        if riv is not None and preset is not None:
            raise WeightsError("give riv or preset, not both")
        if preset is not None:
            riv = find_preset(str(preset))
        mix = (0.0, 0.0, 1.0) if riv is None else _read_riv(riv)
        if blocks is None:
            values = (1 / len(layout),) * len(layout)
        else:
            values = read_block_weights(blocks, layout=layout)
        check_some_weight(values, layout=layout)
        rows = [tuple(weight * value for value in values) for weight in mix]
        return cls(layout=layout, recency=rows[0], importance=rows[1], relevance=rows[2])

    @classmethod
    def equal(cls, layout: BlockLayout) -> "Weights":
        """Builds equal weights of relevance alone: the score is the mean cosine over the blocks."""
        return cls.make(layout=layout)

    @classmethod
    def from_mapping(
        cls,
        weights: Mapping[str, Any],
        *,
        layout: BlockLayout,
        default: Mapping[str, float] | None = None,
    ) -> "Weights":
        """Reads weights from a mapping, as YAML or JSON gives it.

        There are three forms: weights by block name (relevance alone); `blocks`, `riv` and
        `preset`, as `make` takes them; or the whole table, with weights by block name under
        `recency`, `importance` and `relevance`.

        Args:
            weights: The mapping.
            layout: The blocks.
            default: Weights of the blocks if `riv` or `preset` stands alone; equal ones if None.

        Raises:
            WeightsError: A name is unknown, two forms are mixed, or a value is refused.
        """
        made = {"blocks", "riv", "preset"}
        # A block may be called `riv` or `recency`. Then its value is a number; the values of the
        # other two forms are lists or mappings.
        if any(name in layout.names and not _holds(value) for name, value in weights.items()):
            return cls.make(layout=layout, blocks=weights)
        if set(weights) & made:
            _check_names(weights, known=made)
            return cls.make(layout=layout, **{"blocks": default, **weights})
        if set(weights) & set(PARTS):
            _check_names(weights, known=set(PARTS))
            rows = {
                part: read_block_weights(weights.get(part, {}), layout=layout) for part in PARTS
            }
            return cls(layout=layout, **rows)
        return cls.make(layout=layout, blocks=weights)

    @classmethod
    def parse(
        cls, text: str, *, layout: BlockLayout, default: Mapping[str, float] | None = None
    ) -> "Weights":
        """Reads a text such as `topic=0.7,style=0.1,riv=0.15,0.15,0.7` or `preset=balanced`.

        Args:
            text: The text.
            layout: The blocks.
            default: Weights of the blocks if the text names none; equal ones if None.

        Raises:
            WeightsError: The text does not have that form, a name occurs twice, or a value is
                refused.
        """
        settings: dict[str, Any] = {"blocks": default}
        rest = text.strip()
        for name, pattern in (("riv", _RIV), ("preset", _PRESET)):
            if name in layout.names:
                continue
            found = pattern.findall(rest)
            if len(found) > 1:
                raise WeightsError(f"'{name}' is given twice")
            if found:
                settings[name] = (
                    [_parse_number(value) for value in found[0]]
                    if name == "riv"
                    else found[0].strip()
                )
                # The pattern takes the separator before the setting. A setting at the start has
                # none, so the separator after it is left over.
                rest = re.sub(r"^[,;]", "", pattern.sub("", rest)).strip()
        if rest or set(settings) == {"blocks"}:
            settings["blocks"] = parse_block_weights(rest, form=_FORM)
        return cls.make(layout=layout, **settings)

    @classmethod
    def read(
        cls,
        path: Path | str,
        *,
        layout: BlockLayout,
        default: Mapping[str, float] | None = None,
    ) -> "Weights":
        """Reads a YAML file that holds a mapping; arguments as in `from_mapping`.

        Raises:
            WeightsError: The file cannot be read, or its content is refused.
        """
        try:
            content = read_yaml(path)
        except (OSError, ValueError) as error:
            raise WeightsError(f"cannot read weights from {path}: {error}") from error
        if not isinstance(content, dict):
            raise WeightsError(f"{path} must hold a mapping, such as `topic: 0.7`")
        try:
            return cls.from_mapping(content, layout=layout, default=default)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error

    @property
    def uses_history(self) -> bool:
        """Whether any weight of recency or importance is above 0."""
        return any(self.recency) or any(self.importance)

    @property
    def relevance_share(self) -> float:
        """Sum of the weights of relevance, as a share of the sum of all weights."""
        relevance = sum(self.relevance)
        return relevance / (relevance + sum(self.recency) + sum(self.importance))

    def relevance_alone(self) -> "Weights":
        """Returns the same weights with recency and importance set to 0.

        Raises:
            WeightsError: All weights of relevance are 0.
        """
        nothing = (0.0,) * len(self.layout)
        return replace(self, recency=nothing, importance=nothing)

    def scaled(self, scales: Mapping[str, float]) -> "Weights":
        """Returns the weights of each block multiplied by the block's scale.

        Args:
            scales: Factor by block name, above 0; see `Model.score_scales`.
        """
        factors = [scales[name] for name in self.layout]
        recency, importance, relevance = (
            tuple(w * f for w, f in zip(getattr(self, part), factors, strict=True))
            for part in PARTS
        )
        return replace(self, recency=recency, importance=importance, relevance=relevance)

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Returns the table as weights by part and block name; `from_mapping` reads it."""
        return {part: dict(zip(self.layout, getattr(self, part), strict=True)) for part in PARTS}

    def per_dimension(self, part: Part) -> Vectors:
        """Returns the weight that a part has in each dimension (layout.dim,)."""
        return np.repeat(np.array(getattr(self, part), np.float32), self.layout.widths)

    def fold(
        self,
        query: Vectors,
        *,
        recency: Vectors | None = None,
        importance: Vectors | None = None,
    ) -> Vectors:
        """Returns a vector whose inner product with a document is the weighted score.

        Any inner-product index can be searched with it. The index need not be rebuilt when
        weights, recency or importance change.

        Args:
            query: Unit blocks (..., dim).
            recency: Trace of recently used items (dim,); left out if None.
            importance: Trace of successful items (dim,); left out if None.
        """
        folded = query * self.per_dimension("relevance")
        if recency is not None:
            folded = folded + recency * self.per_dimension("recency")
        if importance is not None:
            folded = folded + importance * self.per_dimension("importance")
        return folded


def _check_names(weights: Mapping[str, Any], *, known: set[str]) -> None:
    for name in weights:
        if name not in known:
            raise WeightsError(f"'{name}' does not go with {', '.join(sorted(known))}")


def _read_riv(riv: Any) -> tuple[float, ...]:
    if isinstance(riv, str) or not isinstance(riv, Sequence) or len(riv) != len(PARTS):
        raise WeightsError(
            f"riv must be three numbers (recency, importance, relevance), got {riv!r:.60}"
        )
    values = tuple(read_number(value, of=f"of {p}") for p, value in zip(PARTS, riv, strict=True))
    for part, value in zip(PARTS, values, strict=True):
        check_weight(value, of=f"of {part}")
    if not any(values):
        raise WeightsError("at least one of the three weights of riv must be above 0")
    return values


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise WeightsError(f"{_FORM}; cannot read {text.strip()!r}") from error


def _holds(value: Any) -> bool:
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str)
