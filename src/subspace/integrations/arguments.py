"""SearchArguments: all that a search takes beside the query, and a check before the first one."""

from collections.abc import Mapping
from typing import Any

from subspace.errors import ConfigError
from subspace.model.toward import Toward, read_toward
from subspace.retrieval import Index, SearchOptions
from subspace.retrieval.engines.filters import check_where
from subspace.retrieval.index import AUTO, WeightsLike
from subspace.retrieval.presets import find_preset
from subspace.retrieval.search_options import SearchKeywords

# Hits of a search that says nothing else: as many as a prompt usually takes.
K = 4


class SearchArguments(SearchKeywords, total=False):
    """Keyword arguments of `Index.search`; see there."""

    weights: WeightsLike | None
    preset: str | None
    toward: Toward | str | None


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of all layers; later ones count, and None takes an argument back.

    `k` is always among them.
    """
    merged = {name: value for layer in layers for name, value in layer.items()}
    return {"k": K} | {name: value for name, value in merged.items() if value is not None}


def check(index: Index, arguments: Mapping[str, Any]) -> None:
    """Raises unless an index can be searched with these arguments.

    Filters are not checked against the metadata of the items, which may come later.

    Raises:
        ConfigError: An argument is unknown, or its value is refused.
        QueryError: `toward` names a factor without a direction, or a filter is malformed.
        WeightsError: A weight or a preset is wrong.
    """
    check_index(index)
    options = dict(arguments)
    weights, preset = options.pop("weights", None), options.pop("preset", None)
    toward = options.pop("toward", None)
    check_where(SearchOptions.read(options).where)
    index.blocks.weights(weights, default=index.model.default_weights)
    if preset not in (None, AUTO):
        find_preset(preset)
    for factor in read_toward(toward) if toward is not None else ():
        index.model.direction(factor)


def check_index(index: Any) -> None:
    """Raises unless a value is an index.

    Raises:
        ConfigError: It is something else, such as the folder of one.
    """
    if not isinstance(index, Index):
        raise ConfigError(f"give an index, as Index.open returns it, not {index!r:.60}")
