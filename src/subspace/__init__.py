"""Text embeddings split into named blocks, searched with a weight per block.

::

    import subspace

    records = subspace.read_records("my/texts.jsonl")
    model = subspace.fit(records, encoder="minilm")
    with subspace.Index.create("runs/index", model, records) as index:
        hits = index.search("growing tomatoes", weights={"topic": 1, "style": 0.5})

Public names are imported on first use, so that `import subspace` is quick; the trainer is imported
only when a fit needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subspace.blocks import BlockLayout as BlockLayout
    from subspace.blocks import Blocks as Blocks
    from subspace.data import Record as Record
    from subspace.data import read_records as read_records
    from subspace.errors import SubspaceError as SubspaceError
    from subspace.evaluation import Report as Report
    from subspace.evaluation import evaluate as evaluate
    from subspace.fitting import BlockSpec as BlockSpec
    from subspace.fitting import adapt as adapt
    from subspace.model import Model as Model
    from subspace.model import load as load
    from subspace.retrieval import Hit as Hit
    from subspace.retrieval import Index as Index
    from subspace.retrieval import Like as Like
    from subspace.retrieval import Results as Results
    from subspace.retrieval import Weights as Weights
    from subspace.training import fit as fit

_ROOMS = {
    "blocks": ("BlockLayout", "Blocks"),
    "data": ("Record", "read_records"),
    "errors": ("SubspaceError",),
    "evaluation": ("Report", "evaluate"),
    "fitting": ("BlockSpec", "adapt"),
    "model": ("Model", "load"),
    "retrieval": ("Hit", "Index", "Like", "Results", "Weights"),
    "training": ("fit",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'subspace' has no attribute '{name}'")
    return getattr(import_module(f"subspace.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    """Returns the public names."""
    return __all__
