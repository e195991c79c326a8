"""A memory of twelve texts, and a real server of it in a thread."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from retrieval_world import RECORDS, make_model

from subspace.model import Model
from subspace.retrieval import Index, WeightBandit
from subspace.serve.memory import Memory
from subspace.serve.server import Limits, bind, make_http_server

LIMITS = Limits(most_bytes=64 * 1024, seconds=20.0, threads=4)


def make_memory(folder: Path, encoder: Path | Model, **options) -> Memory:
    """A memory of the twelve texts, on disk in a folder."""
    model = encoder if isinstance(encoder, Model) else make_model(encoder)
    index = Index.create(
        folder / "index",
        model,
        RECORDS,
        usage=folder / "usage.db",
        bandit=WeightBandit(folder / "arms.db", seed=0),
    )
    index.save()
    return Memory(index, **options)


@contextmanager
def serving(
    memory: Memory, *, token: str | None = None, host: str = "127.0.0.1", limits: Limits = LIMITS
) -> Iterator[httpx.Client]:
    """Serves a memory, and gives a client of it."""
    bound = bind(host, 0)
    server = make_http_server(memory, host=host, token=token, limits=limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()


def send(client: httpx.Client, content: bytes) -> socket.socket:
    """Sends bytes to the server as they are, and returns the open connection."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port), timeout=30)
    connection.sendall(content)
    return connection
