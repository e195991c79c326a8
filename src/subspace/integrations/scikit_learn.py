"""scikit-learn: blocks of embeddings as a transformer, for arrays and labels without texts.

::

    from subspace.integrations.scikit_learn import BlockProjection

    blocks = BlockProjection(blocks={"topic": 64, "style": 32})
    Z = blocks.fit(X, {"topic": topics, "style": styles}).transform(X)
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.labels import Column, Labels
from subspace.errors import ConfigError
from subspace.fitting.block_spec import BlockSpec, default_blocks, read_blocks
from subspace.fitting.closed_form import solve_closed_form
from subspace.fitting.moments import collect_moments
from subspace.integrations.label_arrays import read_labels

__all__ = ["BlockProjection"]

_SOURCE = "X"


class BlockProjection(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # not typed
    """Splits embeddings into named blocks, each of unit length, fitted as `subspace.fit` does.

    The cosine of two rows in a block says how alike they are in its factor. `topic` needs no
    labels: it is the leading directions of the embeddings.

    Args:
        blocks: A width, a mapping of settings or a `BlockSpec`, by name; or names alone, for the
            usual widths. None stands for `topic` and a block for every factor of `y`. A block
            learns the factor of its name.
        layers: Numbers of the layers that a row holds side by side, all of one width, as blocks may
            read some of them; None for a single layer.
        factors: Names of the factors in `y`, in the order of its columns; None for the names that
            `y` has (columns, keys, the name of a series), or else `y`, or `y0`, `y1` and so on.
        numbers: Factors whose labels are ordered numbers; None for those whose labels hold a
            float. All others are categories: whole numbers are names of classes.

    Attributes:
        projection_: The map that was learned, a `subspace.model.Projection`.
        blocks_: The spec of each block that was solved.
        layout_: The blocks of a row of `transform`, a `BlockLayout`.
        n_features_in_: Number of dimensions of an embedding.
        feature_names_in_: Names of the dimensions, if `X` had any.
    """

    def __init__(
        self,
        blocks: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        layers: Sequence[int] | None = None,
        factors: Sequence[str] | None = None,
        numbers: Collection[str] | None = None,
    ) -> None:
        """Keeps the settings; `fit` checks them."""
        self.blocks = blocks
        self.layers = layers
        self.factors = factors
        self.numbers = numbers

    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> Self:  # noqa: N803
        """Fits the blocks.

        Args:
            X: Embeddings (N, D), two or more, as one encoder gives them. Scale each layer's part to
                unit length if they vary in length and the length says nothing.
            y: Labels: a mapping or a table with a column (N,) per factor, an array (N,) for one
                factor or (N, factors) for several. None and NaN stand for no label. None for no
                labels at all.
            groups: Group of each embedding (N,); those of one group are versions of one content,
                the best that a block can learn from. None and NaN stand for no group.

        Raises:
            ConfigError: A setting is wrong, labels do not fit, or a block cannot be solved.
            LayoutError: A name or a width is wrong.
        """
        x = validate_data(self, X, dtype=np.float32, ensure_min_samples=2)
        count, dim = x.shape
        layers = self._read_layers(dim)
        columns = read_labels(y, count=count, names=self.factors, numbers=self.numbers)
        labels = Labels(
            source=_SOURCE,
            columns=columns,
            groups=_read_groups(groups, count=count),
            splits=np.zeros(count, dtype=np.int64),  # all are for training
        )
        moments = {_SOURCE: collect_moments(x, rows=np.arange(count), labels=labels)}
        self.blocks_ = self._read_blocks(columns, dim=dim, layers=layers)
        self.projection_ = solve_closed_form(moments, blocks=self.blocks_, layers=layers)
        return self

    def transform(self, X: Any) -> Vectors:  # noqa: N803
        """Projects embeddings (N, D) to blocks (N, dimensions of all blocks), float32.

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: The embeddings have another dimension, or are not finite.
        """
        check_is_fitted(self)
        return self.projection_(validate_data(self, X, dtype=np.float32, reset=False))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Returns the name of each dimension, `BLOCK_NUMBER`.

        Args:
            input_features: Not used, as blocks mix the dimensions of an embedding.
        """
        del input_features
        check_is_fitted(self)
        widths = self.layout_.to_widths()
        names = [f"{name}_{at}" for name, width in widths.items() for at in range(width)]
        return np.array(names, dtype=object)

    @property
    def layout_(self) -> BlockLayout:
        """The blocks of a row of `transform`."""
        check_is_fitted(self)
        return self.projection_.layout

    def _read_layers(self, dim: int) -> tuple[int, ...]:
        layers = (0,) if self.layers is None else tuple(self.layers)
        if not layers or len(set(layers)) < len(layers) or min(layers) < 0:
            raise ConfigError(f"layers must name each layer once, 0 or more, got {list(layers)}")
        if dim % len(layers):
            raise ConfigError(
                f"X has {dim} columns, which {len(layers)} layers cannot share evenly"
            )
        return layers

    def _read_blocks(
        self, columns: Mapping[str, Column], *, dim: int, layers: Sequence[int]
    ) -> dict[str, BlockSpec]:
        if isinstance(self.blocks, Mapping):
            return read_blocks(self.blocks)
        if self.blocks is None:
            return default_blocks(columns, dim=dim, layers=layers)
        if isinstance(self.blocks, str) or not self.blocks:
            raise ConfigError(f"blocks must be names, or widths by name, got {self.blocks!r}")
        usual = default_blocks(self.blocks, dim=dim, layers=layers)
        return {name: usual[name] for name in self.blocks}

    def __sklearn_tags__(self) -> Any:
        """Says what scikit-learn may expect: float32, and labels with gaps and of several kinds."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.target_tags.two_d_labels = True
        tags.target_tags.multi_output = True
        return tags


def _read_groups(groups: Any, *, count: int) -> npt.NDArray[np.int64]:
    """Returns a number of each row's group, -1 for none."""
    if groups is None:
        return np.full(count, -1, dtype=np.int64)
    column = read_labels({"groups": groups}, count=count, names=None, numbers=())["groups"]
    return column.codes
