"""Recipe: how a model was fitted. Checkpoints hold it, so that a model can be fitted again."""

from collections.abc import Mapping, Sequence
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
        blocks: Settings with which each block was solved.
        solver: `closed_form`, or `sgd` for gradient descent from the closed form.
        steps: Number of training steps that were taken.
        weak: Settings of weak supervision.
        origin_weights: Weights of labels that no person gave, by their origin.
        queries: Keys of the queries that the search was adapted to, by set; see `query_key`.
    """

    blocks: BlockSpecs
    solver: Solver = "closed_form"
    steps: int = 0
    weak: WeakSupervision = field(default_factory=WeakSupervision)
    origin_weights: Mapping[str, float] = field(default_factory=dict)
    queries: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as JSON values."""
        return {
            "blocks": {name: spec.to_json() for name, spec in self.blocks.items()},
            "solver": self.solver,
            "steps": self.steps,
            "weak": asdict(self.weak),
            "origin_weights": dict(self.origin_weights),
            "queries": {name: list(keys) for name, keys in self.queries.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a recipe that `to_json` wrote.

        Raises:
            CheckpointError: The value is no recipe, as in a model that was made by hand.
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
                queries={n: tuple(keys) for n, keys in value.get("queries", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError, LayoutError) as error:
            raise CheckpointError(
                f"the checkpoint does not say how it was fitted ({error}), so it cannot be fitted "
                "again"
            ) from error
