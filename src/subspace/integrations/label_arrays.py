"""Labels as scikit-learn users hold them: arrays, tables or mappings, with gaps for no label."""

from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.data.labels import Column, make_column
from subspace.errors import ConfigError

# Name of the factor of labels that have none.
UNNAMED = "y"


def read_labels(
    y: Any, *, count: int, names: Sequence[str] | None, numbers: Collection[str] | None
) -> dict[str, Column]:
    """Reads the labels of texts by factor.

    Args:
        y: A mapping or a table with a column (N,) per factor, an array (N,) or (N, factors), or
            None. None, NaN and pandas' NA stand for no label.
        count: Number of texts N.
        names: Names of the factors, in the order of the columns; None for those that `y` has.
        numbers: Factors whose labels are ordered numbers; None for those whose labels hold a
            float. All others are categories.

    Raises:
        ConfigError: Lengths or names do not fit, or a label is neither a text nor a number.
    """
    columns = _name_columns(y, names=names)
    unknown = sorted(set(numbers or ()) - set(columns))
    if unknown:
        raise ConfigError(f"numbers: '{unknown[0]}' is not among the factors {', '.join(columns)}")
    for name, column in columns.items():
        if len(column) != count:
            raise ConfigError(f"y has {len(column)} labels of '{name}', but X has {count} rows")
    return {
        name: _read_column(name, column, ordered=None if numbers is None else name in numbers)
        for name, column in columns.items()
    }


def _name_columns(y: Any, *, names: Sequence[str] | None) -> dict[str, list[Any]]:
    """Returns the columns of `y` by factor, as lists."""
    if y is None:
        return {}
    if isinstance(y, Mapping) or hasattr(y, "columns"):
        table = {
            str(name): _as_list(y[name]) for name in (y if isinstance(y, Mapping) else y.columns)
        }
    else:
        array = _as_array(y)
        if array.ndim not in (1, 2):
            raise ConfigError(f"y must have one or two dimensions, got {array.ndim}")
        rows = array[:, None] if array.ndim == 1 else array
        own = getattr(y, "name", None)
        first = UNNAMED if own is None or array.ndim == 2 else str(own)
        usual = [first] if rows.shape[1] == 1 else [f"{UNNAMED}{at}" for at in range(rows.shape[1])]
        table = {name: rows[:, at].tolist() for at, name in enumerate(usual)}
    if names is None:
        return table
    if isinstance(names, str) or len(names) != len(table) or len(set(names)) < len(names):
        raise ConfigError(f"factors must be {len(table)} different names, got {names!r}")
    return dict(zip(names, table.values(), strict=True))


def _as_array(labels: Any) -> npt.NDArray[Any]:
    array = np.asarray(labels)
    if array.dtype.kind in "US" and not hasattr(labels, "dtype"):
        return np.asarray(labels, dtype=object)  # numbers and NaN beside texts became texts
    return array


def _as_list(column: Any) -> list[Any]:
    array = _as_array(column)
    if array.ndim != 1:
        raise ConfigError(f"labels of a factor must have one dimension, got {array.ndim}")
    return list(array.tolist())


def _read_column(name: str, labels: Sequence[Any], *, ordered: bool | None) -> Column:
    given = [None if _is_missing(label) else label for label in labels]
    kinds = {type(label) for label in given if label is not None}
    for kind in kinds:
        if not issubclass(kind, (str, Real, np.bool_)):
            raise ConfigError(f"a label of '{name}' is a {kind.__name__}: give texts or numbers")
    if ordered is None:
        ordered = any(issubclass(kind, Real) and not issubclass(kind, Integral) for kind in kinds)
        ordered = ordered and not any(issubclass(kind, str) for kind in kinds)
    if ordered and any(issubclass(kind, str) for kind in kinds):
        raise ConfigError(f"numbers: a label of '{name}' is a text")
    values = [None if one is None else float(one) if ordered else str(one) for one in given]
    infinite = [one for one in values if isinstance(one, float) and np.isinf(one)]
    if infinite:
        raise ConfigError(f"a label of '{name}' is infinite")
    everywhere: npt.NDArray[np.bool_] = np.ones(len(values), dtype=bool)
    return make_column(values, in_train=everywhere)


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):  # pandas', without pandas
        return True
    return isinstance(label, Real) and bool(np.isnan(float(label)))
