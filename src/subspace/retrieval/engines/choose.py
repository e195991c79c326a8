"""Choice of the engine by the address of the index.

=====================================  ====================================================
a folder                               `numpy` (default) or `faiss`, as its manifest says
`postgresql://USER@HOST/DB#TABLE`      `pgvector`
`http://HOST:PORT#COLLECTION`          `milvus`, a server or cluster
`FILE.db#COLLECTION`                   `milvus`, embedded (milvus-lite)
=====================================  ====================================================
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.model.centre import Centre
from subspace.retrieval.engines.engine import Engine
from subspace.retrieval.engines.folder_writer import check_folder
from subspace.retrieval.engines.index_folder import MANIFEST, Stored, open_folder
from subspace.retrieval.engines.numpy_engine import NumpyEngine

# Parameters that every engine takes; any other parameter is a setting of that engine.
_OF_ALL = ("target", "folder", "layout", "projection_digest", "centre")
EMBEDDED = ("numpy", "faiss")


def _kind(target: Path | str) -> str:
    """Returns the kind of an address: `folder`, `pgvector` or `milvus`.

    Raises:
        ConfigError: The address has another scheme.
    """
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
    """Returns an address (with #NAME) without user, password and parameters, for messages."""
    scheme, separator, rest = str(target).partition("://")
    if not separator:
        return str(target)
    host, mark, name = rest.rpartition("@")[2].partition("#")
    return f"{scheme}://{host.partition('?')[0]}{mark}{name}"


def is_folder(target: Path | str) -> bool:
    """Tells whether an address is that of a folder, and not of a server.

    Raises:
        ConfigError: The address is of no known kind.
    """
    return _kind(target) == "folder"


def is_missing(target: Path | str) -> bool:
    """Tells whether an address is that of a folder in which there is no index."""
    return is_folder(target) and not Path(target, MANIFEST).exists()


def open_engine(target: Path | str) -> Engine:
    """Opens an existing index.

    Raises:
        IndexFolderError: The folder holds no index, or the index is damaged.
        EngineError: A server cannot be reached, there is no such table or collection, or the
            engine's package is not installed.
        ConfigError: The address is of no known kind.
    """
    kind = _kind(target)
    if kind == "pgvector":
        from subspace.retrieval.engines.pgvector_engine import PgvectorEngine

        return PgvectorEngine.open(str(target))
    if kind == "milvus":
        from subspace.retrieval.engines.milvus_engine import MilvusEngine

        return MilvusEngine.open(str(target))

    def make(stored: Stored) -> Engine:
        if stored.engine == "faiss":
            from subspace.retrieval.engines.faiss_engine import FaissEngine

            return FaissEngine.from_stored(stored, folder=target)
        return NumpyEngine.from_stored(stored, folder=target)

    return open_folder(target, make)


def check_target(
    target: Path | str, *, engine: str | None = None, settings: Mapping[str, Any] | None = None
) -> None:
    """Raises unless an index can be created at `target`. Call before long work.

    Connects to no server, and creates nothing.

    Raises:
        ConfigError: The engine cannot store at this address, or has no such setting.
        IndexFolderError: The folder holds something other than an index, or cannot be written.
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
    if engine == "faiss":
        from subspace.retrieval.engines.faiss_candidates import import_faiss

        import_faiss()
    if kind == "folder":
        check_folder(target)


def check_limits(target: Path | str, documents: Iterable[Record]) -> None:
    """Raises unless the engine of an address can keep documents, before an index is replaced.

    Connects to no server.

    Raises:
        EngineError: An id, a text or metadata is longer than the server allows.
        ConfigError: The address is of no known kind.
    """
    kind = _kind(target)
    if kind == "pgvector":
        from subspace.retrieval.engines.pgvector_engine import check_ids

        check_ids(documents)
    elif kind == "milvus":
        from subspace.retrieval.engines.milvus_rows import check_lengths

        for document in documents:
            check_lengths(document)


def create_engine(
    target: Path | str,
    *,
    layout: BlockLayout,
    projection_digest: str,
    centre: Centre | None = None,
    engine: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Engine:
    """Creates an empty index, which replaces an index at the same address.

    Args:
        target: Address of the index. A folder is written, or replaced, only by `save`.
        layout: The blocks of every vector.
        projection_digest: Digest of the projection that makes the vectors, before it is centred.
        centre: What the model's blocks were centred on, if anything.
        engine: Name of the engine, such as `faiss` for a folder; None for the default.
        settings: Settings of the engine, by parameter name of its constructor or `create`.

    Raises:
        ConfigError: The engine cannot store at this address, or a setting is wrong.
        IndexFolderError: The folder holds something other than an index, or cannot be written.
        EngineError: A server cannot be reached, or the engine's package is not installed.
    """
    check_target(target, engine=engine, settings=settings)
    kind = _kind(target)
    about = {
        "layout": layout,
        "projection_digest": projection_digest,
        "centre": centre,
        **(settings or {}),
    }
    make = _factory(kind, engine)
    return make(folder=target, **about) if kind == "folder" else make(str(target), **about)


def _factory(kind: str, engine: str | None) -> Callable[..., Engine]:
    """Returns the function that creates an empty index."""
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
    """Lists the parameters of a factory that only its engine has."""
    names = inspect.signature(factory).parameters
    return [name for name in names if name not in _OF_ALL]
