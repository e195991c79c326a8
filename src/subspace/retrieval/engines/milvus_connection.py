"""The metadata and the address of an index in Milvus, and the client's calls for it."""

import json
import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from subspace.blocks import BlockLayout
from subspace.errors import ConfigError, EngineError, LayoutError, install_command
from subspace.model.centre import Centre
from subspace.retrieval.engines.milvus_rows import TEXT_BYTES

FORMAT_VERSION = 1
INDEXES: dict[str, dict[str, int]] = {"FLAT": {}, "HNSW": {"M": 32, "efConstruction": 200}}

_CONNECT_S, _CALL_S = 10.0, 120.0
# The client pings the server every ten seconds. milvus-lite, which runs in this process, rejects so
# frequent pings after a minute and closes the connection.
_NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1}
_ABOUT = "subspace"
_TOKEN = "MILVUS_TOKEN"
_FORM = "http://HOST:PORT#COLLECTION or FILE.db#COLLECTION"
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
# These loggers repeat, with tracebacks, errors that are raised as `EngineError` anyway.
_LOUD = ("pymilvus", "milvus_lite.server_manager", "milvus_lite.adapter.grpc.servicer")


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class IndexMetadata:
    """The metadata of a collection: blocks, digest of the projection, and type of its index."""

    layout: BlockLayout
    projection: str
    index: str
    centre: Centre | None = None

    def to_json(self) -> str:
        """Writes the metadata as JSON that `from_json` reads."""
        return json.dumps(
            {
                _ABOUT: FORMAT_VERSION,
                "projection": self.projection,
                "centre": None if self.centre is None else self.centre.to_json(),
                "blocks": self.layout.to_widths(),
                "index": self.index,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Reads JSON that `to_json` wrote; returns None for any other text.

        Raises:
            EngineError: The metadata has another format version.
        """
        try:
            values = json.loads(text)
            version = values[_ABOUT]
            about = cls(
                layout=BlockLayout.from_widths(values["blocks"]),
                projection=str(values["projection"]),
                index=str(values["index"]),
                centre=Centre.from_json(values.get("centre")),
            )
        except (ValueError, LookupError, TypeError, AttributeError, LayoutError):
            return None
        if version != FORMAT_VERSION:
            raise EngineError(
                f"it has format version {version!r}, this version of subspace reads "
                f"{FORMAT_VERSION}; build it again under another name"
            )
        return about


@dataclass(frozen=True)
class Target:
    """The address of a collection."""

    address: str
    collection: str

    @classmethod
    def parse(cls, target: str) -> Self:
        """Reads `http(s)://HOST:PORT#COLLECTION` or `FILE.db#COLLECTION`.

        Raises:
            ConfigError: The address has another form, or holds a user or a password.
        """
        address, _, collection = str(target).partition("#")
        if address.startswith(("http://", "https://")):
            try:
                parts = urlsplit(address)
                named = bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:
                named = False
            if "@" in address:
                raise ConfigError(
                    f"names and passwords do not belong into the address of an index; put the "
                    f"token of the server into the environment variable {_TOKEN}"
                )
        else:
            named = address.endswith(".db")
        if not named:
            raise ConfigError(f"an index in Milvus is given as {_FORM}, not {target!r}")
        if not _COLLECTION.fullmatch(collection):
            raise ConfigError(
                f"an index in Milvus is given as {_FORM}; a collection's name has letters, digits "
                f"and '_' and starts with none of the digits, got {collection!r}"
            )
        return cls(address=address, collection=collection)

    @property
    def file(self) -> Path | None:
        """The file of milvus-lite (in fact a folder); None for a server."""
        return None if self.address.startswith("http") else Path(self.address)

    def make_folder(self) -> None:
        """Makes the folder that the file is in; does nothing for a server.

        Raises:
            EngineError: The folder cannot be made.
        """
        if self.file is not None:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EngineError(f"cannot make the folder of {self.address}: {error}") from error


class Connection:
    """A client of Milvus, and its calls for one collection.

    Attributes:
        place: The address of the collection.
    """

    # Open connections per file: they share one milvus-lite, which runs in this process.
    _engines: ClassVar[Counter[str]] = Counter()
    _lock: ClassVar = threading.Lock()

    def __init__(self, place: Target) -> None:
        """Connects to Milvus.

        Raises:
            EngineError: Milvus cannot be reached, or its client is not installed.
        """
        self.place = place
        self._pymilvus, self._errors = _import_client()
        self._server = None if place.file is None else _import_server()
        self._client: Any = None
        if self._server is not None:
            with self._lock:
                self._engines[self._path] += 1
        self._is_open = True
        token = "" if place.file is not None else os.environ.get(_TOKEN, "")
        options = {} if place.file is None else {"grpc_options": _NO_PINGS}
        try:
            self._client = self._pymilvus.MilvusClient(
                uri=place.address, token=token, timeout=_CONNECT_S, dedicated=True, **options
            )
        except self._errors as error:
            self.close()
            raise EngineError(self._unreachable(error)) from error

    def call(self, method: str, **options: Any) -> Any:
        """Calls a method of the client for the collection, and returns its result.

        Raises:
            EngineError: The connection was closed, or Milvus refuses or cannot be reached.
        """
        if not self._is_open:
            raise EngineError(f"the index {self.place.address} was closed")
        try:
            return getattr(self._client, method)(
                collection_name=self.place.collection, timeout=_CALL_S, **options
            )
        except self._errors as error:
            raise EngineError(
                f"the collection '{self.place.collection}' in {self.place.address} cannot be used "
                f"({method}): {_reason(error)}"
            ) from error

    def about(self) -> IndexMetadata | None:
        """Reads the metadata of the collection; returns None if there is no such collection.

        Raises:
            EngineError: The collection is no index of subspace, or has another format version.
        """
        if not self.call("has_collection"):
            return None
        named = f"the collection '{self.place.collection}' in {self.place.address}"
        described = self.call("describe_collection")
        text = described.get("description") or described.get("properties", {}).get(_ABOUT, "")
        try:
            about = IndexMetadata.from_json(text)
        except EngineError as error:
            raise EngineError(f"{named} cannot be used: {error}") from None
        if about is None:
            raise EngineError(f"{named} is no index of subspace; choose another name")
        return about

    def make(self, about: IndexMetadata) -> None:
        """Makes an empty collection and loads it."""
        text, types = about.to_json(), self._pymilvus.DataType
        schema = self._client.create_schema(
            auto_id=False, enable_dynamic_field=False, description=text
        )
        schema.add_field("id", types.VARCHAR, is_primary=True, max_length=TEXT_BYTES)
        schema.add_field("seq", types.INT64)
        schema.add_field("draw", types.INT64)
        schema.add_field("tags", types.VARCHAR, max_length=TEXT_BYTES)
        schema.add_field("text", types.VARCHAR, max_length=TEXT_BYTES)
        schema.add_field("metadata", types.JSON)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=about.layout.dim)
        params = self._client.prepare_index_params()
        params.add_index(
            "vector", index_type=about.index, metric_type="IP", params=INDEXES[about.index]
        )
        self.call(
            "create_collection",
            schema=schema,
            consistency_level="Strong",  # a search finds all earlier writes
            properties=None if self.place.file is None else {_ABOUT: text},
        )
        # With sync, the client would check every half second; loading waits for the index anyway.
        self.call("create_index", index_params=params, sync=False)
        self.call("load_collection")

    def close(self) -> None:
        """Closes the client; does nothing if it is closed."""
        if not self._is_open:
            return
        self._is_open = False
        if self._client is not None:
            self._client.close()
        if self._server is None:
            return
        with self._lock:
            self._engines[self._path] -= 1
            if self._engines[self._path] <= 0:
                del self._engines[self._path]
                self._server.release_server(self.place.address)

    @property
    def _path(self) -> str:
        return os.path.abspath(self.place.address)  # noqa: PTH100 - milvus-lite's key of a file

    def _unreachable(self, error: Exception) -> str:
        if self.place.file is not None:
            return (
                f"cannot open {self.place.address}: it is in use by another process, or no folder "
                f"that milvus-lite wrote ({_reason(error)})"
            )
        return (
            f"cannot reach Milvus at {self.place.address}: is it running, and is its token, if it "
            f"needs one, in the environment variable {_TOKEN}? ({_reason(error)})"
        )


@contextmanager
def connected(place: Target) -> Iterator[Connection]:
    """Opens a connection, and closes it if the body of the `with` statement fails."""
    connection = Connection(place)
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _import_client() -> tuple[Any, tuple[type[Exception], ...]]:
    """Imports the client and silences its loggers; returns the package and its exceptions.

    Raises:
        EngineError: The client is not installed.
    """
    with _installed():
        pymilvus, grpc = import_module("pymilvus"), import_module("grpc")
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return pymilvus, (pymilvus.MilvusException, grpc.RpcError)


def _import_server() -> Any:
    """Imports milvus-lite; returns the manager that runs it in this process.

    Raises:
        EngineError: milvus-lite is not installed.
    """
    with _installed():
        return import_module("milvus_lite.server_manager").server_manager_instance


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise EngineError(
            f"an index in Milvus needs the package {error.name}: {install_command('milvus')}"
        ) from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "message", "") or error)
