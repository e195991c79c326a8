"""Which engine: told from where the index is.

=====================================  ====================================================
a folder                               `numpy` (default) or `faiss`, as its manifest says
`postgresql://USER@HOST/DB#TABLE`      `pgvector`
`http://HOST:PORT#COLLECTION`          `milvus`, a server or cluster
`FILE.db#COLLECTION`                   `milvus`, embedded (milvus-lite)
=====================================  ====================================================
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from subspace.blocks import BlockLayout
from subspace.errors import ConfigError
from subspace.retrieval.engines.engine import Engine
from subspace.retrieval.engines.index_folder import check_folder, read_folder
from subspace.retrieval.engines.numpy_engine import NumpyEngine

# What every engine is made with; all else are settings of its own.
_OF_ALL = ("target", "folder", "layout", "projection_digest")
EMBEDDED = ("numpy", "faiss")


def _kind(target: Path | str) -> str:
    """`folder`, `pgvector` or `milvus`."""
    text = str(target)
    if text.startswith(("postgresql://", "postgres://")):
        return "pgvector"
    if text.startswith(("http://", "https://")) or text.partition("#")[0].endswith(".db"):
        return "milvus"
    if "://" in text:
        raise ConfigError(
            f"no engine for {show_target(target)}; give a folder, postgresql:// or http(s)://"
        )
    return "folder"


def show_target(target: Path | str) -> str:
    """An address without the user, password and parameters in it."""
    scheme, separator, rest = str(target).partition("://")
    if not separator:
        return str(target)
    address, _, name = rest.rpartition("#")
    host = address.rpartition("@")[2].partition("?")[0]
    return f"{scheme}://{host}#{name}"


def open_engine(target: Path | str) -> Engine:
    """Opens an index that is there.

    Raises:
        IndexFolderError: There is none in that folder, or it is damaged.
        EngineError: A server cannot be reached, there is no such table or collection, or the
            engine's package is not installed.
        ConfigError: The target is of no known kind.
    """
    kind = _kind(target)
    if kind == "pgvector":
        from subspace.retrieval.engines.pgvector_engine import PgvectorEngine

        return PgvectorEngine.open(str(target))
    if kind == "milvus":
        from subspace.retrieval.engines.milvus_engine import MilvusEngine

        return MilvusEngine.open(str(target))
    stored = read_folder(target)
    if stored.engine == "faiss":
        from subspace.retrieval.engines.faiss_engine import FaissEngine

        return FaissEngine.from_stored(stored, folder=target)
    return NumpyEngine.from_stored(stored, folder=target)


def check_target(
    target: Path | str, *, engine: str | None = None, settings: Mapping[str, Any] | None = None
) -> None:
    """Whether an index can be made there: to be asked before the work that it takes.

    A server is not asked; nothing is written.

    Raises:
        ConfigError: Engine and target do not go together, or there is no such setting.
        IndexFolderError: The folder holds something else, or cannot be written.
        EngineError: The engine's package is not installed.
    """
    kind = _kind(target)
    if engine is not None and engine != kind and not (kind == "folder" and engine in EMBEDDED):
        raise ConfigError(
            f"the engine '{engine}' does not go with {show_target(target)}: a folder "
            "has numpy or faiss, postgresql:// has pgvector, http(s):// and FILE.db have milvus"
        )
    known = _settings_of(_factory(kind, engine))
    for name in settings or {}:
        if name not in known:
            raise ConfigError(
                f"an index in {show_target(target)} has no setting '{name}'; it has "
                f"{', '.join(known) or 'none'}"
            )
    if kind == "folder":
        check_folder(target)


def create_engine(
    target: Path | str,
    *,
    layout: BlockLayout,
    projection_digest: str,
    engine: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Engine:
    """An empty index; what was there under that name is replaced.

    Args:
        target: Where it is to be. An embedded engine writes there with `save`.
        layout: The blocks of every vector.
        projection_digest: Identifies the projection that makes the vectors.
        engine: `numpy` or `faiss` for a folder; None for the only one there is otherwise.
        settings: Of the engine, as its class takes them.

    Raises:
        ConfigError: Engine and target do not go together, or a setting is wrong.
        IndexFolderError: The folder holds something else.
        EngineError: A server cannot be reached, or the engine's package is not installed.
    """
    check_target(target, engine=engine, settings=settings)
    kind = _kind(target)
    about = {"layout": layout, "projection_digest": projection_digest, **(settings or {})}
    make = _factory(kind, engine)
    return make(folder=target, **about) if kind == "folder" else make(str(target), **about)


def _factory(kind: str, engine: str | None) -> Callable[..., Engine]:
    """What makes an empty index."""
    if kind == "pgvector":
        from subspace.retrieval.engines.pgvector_engine import PgvectorEngine

        return PgvectorEngine.create
    if kind == "milvus":
        from subspace.retrieval.engines.milvus_engine import MilvusEngine

        return MilvusEngine.create
    if engine == "faiss":
        from subspace.retrieval.engines.faiss_engine import FaissEngine

        return FaissEngine
    return NumpyEngine


def _settings_of(factory: Callable[..., Engine]) -> list[str]:
    """Names of what a factory takes beside what all do."""
    names = inspect.signature(factory).parameters
    return [name for name in names if name not in _OF_ALL]
