"""Named blocks of an output vector (`BlockLayout`), and vectors with such blocks (`Blocks`)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from numbers import Integral
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from subspace.arrays import AnyFloats, Vectors
from subspace.errors import LayoutError

if TYPE_CHECKING:
    import torch

# Reports call the raw embedding `raw`; names of losses use `all` for all blocks together.
_RESERVED = ("raw", "all")

Array = TypeVar("Array", AnyFloats, "torch.Tensor")


@dataclass(frozen=True)
class BlockLayout:
    """The ordered blocks of an output vector and their widths.

    Attributes:
        names: Block names in order; each block is named after its factor.
        widths: Number of dimensions of each block, in the same order.

    Raises:
        LayoutError: A name is empty or used twice, or a width is not a positive integer.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks names and widths."""
        if not self.names or len(self.names) != len(self.widths):
            raise LayoutError(
                f"a layout needs one width per block, got names {list(self.names)} "
                f"and widths {list(self.widths)}"
            )
        for name, width in zip(self.names, self.widths, strict=True):
            if (
                not isinstance(name, str)
                or name != name.strip()
                or not name
                or set(name) & set("=,")
            ):
                raise LayoutError(
                    f"block name {name!r} must be a text without '=' and ',' or blanks at its ends"
                )
            if isinstance(width, bool) or not isinstance(width, Integral) or width < 1:
                raise LayoutError(f"width of block '{name}' must be 1 or more, got {width!r}")
            if name in _RESERVED:
                raise LayoutError(f"no block can be called '{name}': reports use that word")
        if len(set(self.names)) != len(self.names):
            raise LayoutError(f"block names must differ, got {list(self.names)}")

    @classmethod
    def from_widths(cls, widths: Mapping[str, int]) -> "BlockLayout":
        """Builds a layout from `{"topic": 96, "style": 96}`, keeping the mapping's order."""
        whole = (int(w) if isinstance(w, np.integer) else w for w in widths.values())
        return cls(names=tuple(widths), widths=tuple(whole))

    def to_widths(self) -> dict[str, int]:
        """Returns the widths by block name, JSON-ready; the inverse of `from_widths`."""
        return dict(zip(self.names, self.widths, strict=True))

    @property
    def dim(self) -> int:
        """Total number of output dimensions."""
        return sum(self.widths)

    @property
    def starts(self) -> tuple[int, ...]:
        """First dimension of each block."""
        return (0, *accumulate(self.widths[:-1]))

    def __iter__(self) -> Iterator[str]:
        """Iterates over the block names in order."""
        return iter(self.names)

    def __len__(self) -> int:
        """Returns the number of blocks."""
        return len(self.names)

    def slice(self, name: str) -> slice:
        """Returns the dimensions of block `name`.

        Raises:
            LayoutError: There is no such block.
        """
        if name not in self.names:
            raise LayoutError(f"no block '{name}'; the layout has {', '.join(self.names)}")
        position = self.names.index(name)
        start = self.starts[position]
        return slice(start, start + self.widths[position])

    def split(self, z: Array) -> dict[str, Array]:
        """Splits the last axis of `z` (..., dim) into one view per block.

        Raises:
            LayoutError: The last axis of `z` is not `dim` long.
        """
        if z.shape[-1] != self.dim:
            raise LayoutError(
                f"vectors have {z.shape[-1]} dimensions, the layout needs {self.dim} "
                f"({', '.join(f'{n}={w}' for n, w in self.to_widths().items())})"
            )
        return {name: z[..., self.slice(name)] for name in self.names}

    def join(self, parts: Mapping[str, AnyFloats]) -> AnyFloats:
        """Joins one array per block to (..., dim), whatever the order of `parts`; inverts `split`.

        Raises:
            LayoutError: A block is missing, unknown, or not as wide as the layout says.
        """
        if set(parts) != set(self.names):
            raise LayoutError(f"parts are {sorted(parts)}, the layout has {list(self.names)}")
        for name, width in self.to_widths().items():
            if parts[name].shape[-1] != width:
                raise LayoutError(
                    f"block '{name}' has {parts[name].shape[-1]} dimensions, "
                    f"the layout needs {width}"
                )
        return np.concatenate([parts[name] for name in self.names], axis=-1)


def unit(x: AnyFloats) -> AnyFloats:
    """Scales the last axis to unit length; a zero vector stays zero (never NaN)."""
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(np.divide(x, norms, out=np.zeros_like(x), where=norms > 0))


def unit_blocks(z: AnyFloats, *, layout: BlockLayout) -> AnyFloats:
    """Scales every block of `z` (..., dim) to unit length; zero blocks stay zero."""
    return np.concatenate([unit(block) for block in layout.split(z).values()], axis=-1)


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class Blocks(Mapping[str, Vectors]):
    """Vectors of N texts, split into blocks: a mapping from block names to arrays.

    Attributes:
        array: Float32 (N, layout.dim), block by block, each block of unit length.
        layout: The blocks.
    """

    array: Vectors
    layout: BlockLayout

    def __getitem__(self, name: str) -> Vectors:
        """Returns a view of one block of all texts (N, width).

        Raises:
            LayoutError: There is no such block.
        """
        return self.array[:, self.layout.slice(name)]

    def __iter__(self) -> Iterator[str]:
        """Iterates over the block names in layout order."""
        return iter(self.layout)

    def __len__(self) -> int:
        """Returns the number of blocks."""
        return len(self.layout)
