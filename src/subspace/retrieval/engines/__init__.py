"""Vector engines: the `Engine` protocol and the classes that implement it."""

from subspace.retrieval.engines.choose import (
    check_limits,
    check_target,
    create_engine,
    is_folder,
    is_missing,
    open_engine,
    show_target,
)
from subspace.retrieval.engines.engine import Candidates, Engine, Priors
from subspace.retrieval.engines.filters import Where
from subspace.retrieval.engines.numpy_engine import NumpyEngine

__all__ = [
    "Candidates",
    "Engine",
    "NumpyEngine",
    "Priors",
    "Where",
    "check_limits",
    "check_target",
    "create_engine",
    "is_folder",
    "is_missing",
    "open_engine",
    "show_target",
]
