"""Closed-form projection: softly filtered layers of the encoder, solved from moments.

For block f, in the dimensions that it reads, with T the total covariance inside a source and M the
scatter of what changes the factor (both mean over sources, trace 1, T shrunk towards a multiple
of the identity):

    z = M^(q / 2) T^(-p / 2) x

with p = `noise_power` and q = `signal_power`. The rows of W_f are the leading principal directions
of z. With p = q = 0 they are those of the embedding itself, which is how a block keeps what a text
is about; with p = q = 1 and one factor this is Fisher's discriminant analysis with all directions
kept; in between it brings the factor out without betting on few directions, which is what holds on
corpora that the fit never saw (LOG.md). The cost does not depend on the number of texts.
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

# Eigenvalues below this share of the largest are rounding.
_ROUNDING = 1e-9


def solve_closed_form(
    moments: Mapping[str, SourceMoments], *, blocks: BlockSpecs, layers: Sequence[int]
) -> Projection:
    """Solves for W and mu.

    Args:
        moments: Of the training texts, by source.
        blocks: What to solve; a block with a signal power is named after its factor.
        layers: The encoder's layers side by side in an embedding, by their real numbers.

    Raises:
        ConfigError: A block's factor is labelled in no source or has a single class, a block is
            wider than what it reads or reads a layer that is not there, or nothing varies.
    """
    check_labels(moments, blocks=blocks)
    counts = np.array([source.count for source in moments.values()], dtype=np.float64)
    means = np.stack([source.mean for source in moments.values()])
    weight = np.zeros((sum(spec.width for spec in blocks.values()), means.shape[1]))
    start = 0
    held_down: dict[tuple[object, ...], Floats] = {}  # blocks often share T and its power
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


def read_dimensions(block: str, spec: BlockSpec, *, layers: Sequence[int], dim: int) -> Ints:
    """The dimensions of an embedding that a block reads, ascending.

    Args:
        block: Its name, for messages.
        spec: Says which layers.
        layers: The encoder's layers side by side, each of the same width, by real numbers.
        dim: Dimensions of an embedding.

    Raises:
        ConfigError: The encoder does not give a layer.
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
    """Raises unless every block that brings out a factor has labels to learn it from.

    Raises:
        ConfigError: With the first that has none.
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
    """Rows (width, dimensions that are read) of one block."""
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
            held_down[key] = _power(shrunk, -spec.noise_power / 2)
        change = held_down[key]
    if spec.signal_power:
        signal = factor_scatter(moments, factor=block, dims=dims)
        assert signal is not None  # see `check_labels`
        change = _power(signal, spec.signal_power / 2) @ change
    # The leading directions of what texts look like after the change.
    after = change @ total @ change.T
    _, vectors = eigh(after, subset_by_index=(count - spec.width, count - 1))
    return np.asarray(vectors[:, ::-1].T @ change)


def _power(matrix: Floats, exponent: float) -> Floats:
    """A power of a positive semidefinite matrix; zero along what is rounding."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > _ROUNDING * values[-1]
    powers = np.zeros_like(values)
    powers[kept] = values[kept] ** exponent
    return np.asarray((vectors * powers) @ vectors.T)
