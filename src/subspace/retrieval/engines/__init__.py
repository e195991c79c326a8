"""Where the vectors are kept: one small protocol, and one module per engine."""

from subspace.retrieval.engines.choose import (
    check_target,
    create_engine,
    open_engine,
    show_target,
)
from subspace.retrieval.engines.numpy_engine import NumpyEngine
from subspace.retrieval.engines.protocol import Engine, Found, Priors, Where

__all__ = [
    "Engine",
    "Found",
    "NumpyEngine",
    "Priors",
    "Where",
    "check_target",
    "create_engine",
    "open_engine",
    "show_target",
]
