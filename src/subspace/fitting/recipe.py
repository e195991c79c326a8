"""Recipe: how a model was fitted, as its checkpoint keeps it; enough to fit it again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

from subspace.errors import CheckpointError, ConfigError, LayoutError
from subspace.fitting.block_spec import BlockSpecs, read_blocks
from subspace.fitting.weak.weak_supervision import WeakSupervision

Solver = Literal["closed_form", "sgd"]


@dataclass(frozen=True)
class Recipe:
    """How a model was fitted.

    Attributes:
        blocks: How each block was solved.
        solver: `closed_form`, or `sgd` for training by gradient descent from there.
        steps: Steps of training that were taken.
        weak: What was learned beyond labels.
        origin_weights: How much labels counted that no person gave, by their origin.
        pairs: Hash of each set of queries and judgements that was learned from.
    """

    blocks: BlockSpecs
    solver: Solver = "closed_form"
    steps: int = 0
    weak: WeakSupervision = field(default_factory=WeakSupervision)
    origin_weights: Mapping[str, float] = field(default_factory=dict)
    pairs: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The recipe, JSON-ready."""
        return {
            "blocks": {name: spec.to_json() for name, spec in self.blocks.items()},
            "solver": self.solver,
            "steps": self.steps,
            "weak": asdict(self.weak),
            "origin_weights": dict(self.origin_weights),
            "pairs": dict(self.pairs),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            CheckpointError: It is no recipe, as of a model that was made by hand.
        """
        try:
            if value["solver"] not in get_args(Solver):
                raise ValueError(f"the solver {value['solver']!r} is unknown")
            return cls(
                blocks=read_blocks(value["blocks"]),
                solver=value["solver"],
                steps=int(value["steps"]),
                weak=WeakSupervision(**value["weak"]),
                origin_weights=dict(value["origin_weights"]),
                pairs=dict(value["pairs"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError, LayoutError) as error:
            raise CheckpointError(
                f"the checkpoint does not say how it was fitted ({error}), so it cannot be fitted "
                "again"
            ) from error
