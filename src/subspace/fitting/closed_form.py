"""Closed-form projection: each block is solved from the moments of the training embeddings.

For block f, T is the total covariance within a source and M is the scatter matrix of the factor.
Both are restricted to the dimensions that the block reads, averaged over sources and scaled to
trace 1, and T is shrunk towards a multiple of the identity. The block is solved from

    z = M^(q / 2) T^(-p / 2) x

with p = `noise_power` and q = `signal_power`: it consists of the leading principal directions of z.
With p = q = 0 these are the principal components of the embedding itself, so that the block keeps
the topic of a text. With p = q = 1 and one factor this is Fisher's discriminant analysis with all
directions kept. Values in between amplify the factor without relying on few directions, which
works better on corpora that the fit never saw (LOG.md). The cost of solving does not depend on the
number of texts.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.linalg import eigh

from subspace.arrays import Floats, Ints
from subspace.errors import ConfigError
from subspace.fitting.block_spec import BlockSpec, BlockSpecs, layout_of
from subspace.fitting.moments import SourceMoments
from subspace.fitting.scatter import factor_scatter, total_scatter
from subspace.model.projection import Projection

# Eigenvalues below this share of the largest are treated as rounding errors.
_ROUNDING = 1e-9


def solve_closed_form(
    moments: Mapping[str, SourceMoments], *, blocks: BlockSpecs, layers: Sequence[int]
) -> Projection:
    """Solves for the matrix W and the mean mu of the projection.

    Args:
        moments: Moments of the training texts, by source.
        blocks: Settings of the blocks. A block with a signal power is named after its factor.
        layers: Layers of the encoder that an embedding concatenates, as numbers of 0 or more.

    Raises:
        ConfigError: A block's factor is labelled in no source or has a single class, a block is
            wider than the dimensions it reads or reads a layer that the encoder does not give, or
            all embeddings are equal.
    """
    check_labels(moments, blocks=blocks)
    counts = np.array([source.count for source in moments.values()], dtype=np.float64)
    means = np.stack([source.mean for source in moments.values()])
    weight = np.zeros((sum(spec.width for spec in blocks.values()), means.shape[1]))
    start = 0
    held_down: dict[tuple[object, ...], Floats] = {}  # a cache: blocks often share T^(-p / 2)
    for block, spec in blocks.items():
        dims = read_dimensions(block, spec, layers=layers, dim=means.shape[1])
        weight[start : start + spec.width, dims] = _solve_block(
            block, spec=spec, moments=moments, dims=dims, held_down=held_down
        )
        start += spec.width
    return Projection(
        weight=weight.astype(np.float32),
        mean=(counts @ means / counts.sum()).astype(np.float32),
        layout=layout_of(blocks),
    )


def solvable(moments: Mapping[str, SourceMoments], *, blocks: BlockSpecs) -> BlockSpecs:
    """Returns the blocks that need no labels, and those whose factor has two classes somewhere."""
    told = {
        name
        for source in moments.values()
        for name, factor in source.factors.items()
        if (factor.counts > 0).sum() > 1
    }
    return {name: spec for name, spec in blocks.items() if name in told or not spec.signal_power}


def read_dimensions(block: str, spec: BlockSpec, *, layers: Sequence[int], dim: int) -> Ints:
    """Returns the dimensions of an embedding that a block reads, ascending.

    Args:
        block: Name of the block, for error messages.
        spec: Settings of the block, which say what layers it reads.
        layers: Layers of the encoder that an embedding concatenates, as numbers of 0 or more. All
            have the same width.
        dim: Number of dimensions of an embedding.

    Raises:
        ConfigError: The block reads a layer that the encoder does not give.
    """
    width = dim // len(layers)
    wanted = layers if spec.layers is None else spec.layers
    real = {max(layers) if layer == -1 else layer for layer in wanted}
    missing = sorted(real - set(layers))
    if missing:
        raise ConfigError(
            f"block '{block}' reads layer {missing[0]}, but the encoder gives the layers "
            f"{', '.join(map(str, layers))} (data.encoder.layers)"
        )
    places = sorted(list(layers).index(layer) for layer in real)
    return np.concatenate([np.arange(place * width, (place + 1) * width) for place in places])


def check_labels(moments: Mapping[str, SourceMoments], *, blocks: BlockSpecs) -> None:
    """Raises unless every block with a signal power has labels to learn its factor from.

    Raises:
        ConfigError: A block's factor is labelled in no source or has a single class, or all
            embeddings are equal.
    """
    if not any(np.trace(source.covariance) > 0 for source in moments.values()):
        raise ConfigError("the training texts all have the same embedding: there is nothing to fit")
    labelled = sorted({factor for source in moments.values() for factor in source.factors})
    for block, spec in blocks.items():
        if not spec.signal_power:
            continue
        classes = {
            name: int((source.factors[block].counts > 0).sum())
            for name, source in moments.items()
            if block in source.factors
        }
        if not classes:
            raise ConfigError(
                f"no source is labelled with '{block}'; name blocks after the factors "
                f"{', '.join(labelled) or '(there are none)'}, add a source that labels it, or set "
                "its signal_power to 0"
            )
        if max(classes.values()) < 2:
            raise ConfigError(
                f"'{block}' has a single class in every source that labels it "
                f"({', '.join(classes)}): a block cannot learn it"
            )


def _solve_block(
    block: str,
    *,
    spec: BlockSpec,
    moments: Mapping[str, SourceMoments],
    dims: Ints,
    held_down: dict[tuple[object, ...], Floats],
) -> Floats:
    """Solves for the rows of W of one block: (width, number of dimensions that it reads)."""
    count = len(dims)
    if spec.width > count:
        raise ConfigError(
            f"block '{block}' is {spec.width} wide, but reads {count} dimensions; make it "
            "narrower, or give it more layers"
        )
    total = total_scatter(moments, dims=dims)
    change = np.eye(count)
    if spec.noise_power:
        key = (dims.tobytes(), spec.shrinkage, spec.noise_power)
        if key not in held_down:
            shrunk = (1 - spec.shrinkage) * total + spec.shrinkage * np.eye(count) / count
            held_down[key] = power(shrunk, -spec.noise_power / 2)
        change = held_down[key]
    if spec.signal_power:
        signal = factor_scatter(moments, factor=block, dims=dims)
        assert signal is not None  # see `check_labels`
        change = power(signal, spec.signal_power / 2) @ change
    # The block is the leading principal directions of the transformed embeddings.
    after = change @ total @ change.T
    _, vectors = eigh(after, subset_by_index=(count - spec.width, count - 1))
    return np.asarray(vectors[:, ::-1].T @ change)


def power(matrix: Floats, exponent: float) -> Floats:
    """Returns a power of a positive semidefinite matrix, with zeros in its numerical null space."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > _ROUNDING * values[-1]
    powers = np.zeros_like(values)
    powers[kept] = values[kept] ** exponent
    return np.asarray((vectors * powers) @ vectors.T)
