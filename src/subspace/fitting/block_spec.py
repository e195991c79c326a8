"""BlockSpec: the settings with which one block is solved. Also holds the default blocks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from subspace.blocks import BlockLayout
from subspace.errors import ConfigError


@dataclass(frozen=True)
class BlockSpec:
    """How one block is solved: z = M^(signal_power / 2) T^(-noise_power / 2) x, then cut.

    T is the total covariance of the layers that the block reads. M is the scatter matrix of the
    block's factor: the scatter of its class means, and the scatter of its classes within groups of
    parallel texts. The block is the `width` leading principal directions of z.

    Attributes:
        width: Number of dimensions.
        layers: Layers of the encoder that the block reads, by their real number (-1 is the last);
            None for all that the encoder gives.
        signal_power: How strongly directions that change the factor are brought out, 0 or more;
            with 0 the block is the same for every factor.
        noise_power: How strongly directions in which texts differ anyway are held down, 0 or more;
            1 whitens.
        shrinkage: Share of the identity in T, in (0, 1].
    """

    width: int = 256
    layers: tuple[int, ...] | None = None
    signal_power: float = 0.5
    noise_power: float = 0.5
    shrinkage: float = 0.3

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.layers is not None:  # YAML and JSON give lists
            object.__setattr__(self, "layers", tuple(self.layers))
            if not self.layers or len(set(self.layers)) < len(self.layers):
                raise ConfigError(f"layers must name each layer once, got {list(self.layers)}")
        if not 0 < self.shrinkage <= 1:
            raise ConfigError(f"shrinkage must be in (0, 1], got {self.shrinkage}")
        for name in ("signal_power", "noise_power"):
            if not 0 <= getattr(self, name) <= 2:
                raise ConfigError(f"{name} must be in [0, 2], got {getattr(self, name)}")

    def to_json(self) -> dict[str, Any]:
        """Returns all settings as JSON values; `BlockSpec(**...)` reads them back."""
        settings = {each.name: getattr(self, each.name) for each in fields(self)}
        return settings | {"layers": None if self.layers is None else list(self.layers)}


BlockSpecs = Mapping[str, BlockSpec]

# Default layers in the library, on the command line and in YAML files (docs/results.md).
DEFAULT_LAYERS = (0, 1, 3, 6)
TOPIC = "topic"
_TOPIC_SPEC = BlockSpec(layers=(-1,), signal_power=0.0, noise_power=0.0)
DEFAULT_BLOCKS: BlockSpecs = {
    TOPIC: _TOPIC_SPEC,
    "style": BlockSpec(),
    "complexity": BlockSpec(),
    "specificity": BlockSpec(),
}


def read_blocks(blocks: Mapping[str, Any]) -> dict[str, BlockSpec]:
    """Reads the spec of each block, given as a spec, a mapping of settings, or a width.

    Settings that are not given are those of the default block of this name, or else of `BlockSpec`.

    Raises:
        ConfigError: A setting is unknown or out of range. The message names the block.
        LayoutError: A name or a width is wrong.
    """
    specs = {}
    for name, given in blocks.items():
        usual = DEFAULT_BLOCKS.get(name, BlockSpec())
        try:
            if isinstance(given, BlockSpec):
                specs[name] = given
            elif isinstance(given, Mapping):
                specs[name] = replace(usual, **given)
            else:
                specs[name] = replace(usual, width=given)
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"block '{name}': {error}") from error
    layout_of(specs)
    return specs


def layout_of(blocks: BlockSpecs) -> BlockLayout:
    """Returns the layout of the blocks, in the order of the mapping."""
    return BlockLayout.from_widths({name: spec.width for name, spec in blocks.items()})


def default_blocks(
    factors: Iterable[str], *, dim: int, layers: Sequence[int]
) -> dict[str, BlockSpec]:
    """Returns the blocks to solve if none are named: topic, and one for every labelled factor.

    Args:
        factors: Factors that the texts are labelled with.
        dim: Number of dimensions of an embedding. A block is not wider than the part it reads.
        layers: Layers of the encoder, whose vectors are concatenated in an embedding.
    """
    labelled = set(factors)
    chosen = {n: s for n, s in DEFAULT_BLOCKS.items() if n == TOPIC or n in labelled}
    chosen |= {name: BlockSpec() for name in sorted(labelled - set(DEFAULT_BLOCKS))}
    width = dim // len(layers)
    return {
        name: replace(spec, width=min(spec.width, dim if spec.layers is None else width))
        for name, spec in chosen.items()
    }
