"""Which engine: told from where the index is.

=====================================  ====================================================
a folder                               `numpy` (default) or `faiss`, as its manifest says
`postgresql://USER@HOST/DB#TABLE`      `pgvector`
`http://HOST:PORT#COLLECTION`          `milvus`, a server or cluster
`FILE.db#COLLECTION`                   `milvus`, embedded (milvus-lite)
=====================================  ====================================================
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subspace.blocks import BlockLayout
from subspace.errors import ConfigError
from subspace.retrieval.engines.folder import check_folder, read_folder
from subspace.retrieval.engines.numpy_engine import NumpyEngine
from subspace.retrieval.engines.protocol import Engine

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

        return FaissEngine.load(target)
    return NumpyEngine.load(target)


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
    kind = _kind(target)
    if engine is not None and engine != kind and not (kind == "folder" and engine in EMBEDDED):
        raise ConfigError(
            f"the engine '{engine}' does not go with {show_target(target)}: a folder "
            "has numpy or faiss, postgresql:// has pgvector, http(s):// and FILE.db have milvus"
        )
    if kind != "folder" and "dtype" in (settings or {}):
        raise ConfigError(
            f"{show_target(target)} keeps float32; a dtype can be chosen for a folder"
        )
    about = {"layout": layout, "projection_digest": projection_digest, **(settings or {})}
    if kind == "pgvector":
        from subspace.retrieval.engines.pgvector_engine import PgvectorEngine

        return PgvectorEngine.create(str(target), **about)
    if kind == "milvus":
        from subspace.retrieval.engines.milvus_engine import MilvusEngine

        return MilvusEngine.create(str(target), **about)
    check_folder(target)
    if engine == "faiss":
        from subspace.retrieval.engines.faiss_engine import FaissEngine

        return FaissEngine(folder=target, **about)
    return NumpyEngine(folder=target, **about)
