"""Server: listens for HTTP requests, or talks over standard input and output."""

import asyncio
import logging
import math
import os
import socket
from dataclasses import dataclass

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from subspace.errors import ConfigError
from subspace.serve.guards import Guards, is_loopback
from subspace.serve.http_api import make_app
from subspace.serve.memory import Memory
from subspace.serve.tools import make_mcp_server
from subspace.serve.work import Work

_log = logging.getLogger(__name__)

# Connections at once; more are answered with 503.
_CONNECTIONS = 500
# Seconds in which the head of a request must have come.
_HEAD_S = 10.0
# Seconds that an open connection may wait for its next request: longer than clients keep theirs.
_IDLE_S = 75
_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Limits:
    """What one request may take.

    Attributes:
        most_bytes: Largest body.
        seconds: Longest time of an operation, and in which a body must have come.
        threads: Operations that run at once, without changes; None for as many as there are cores.
    """

    most_bytes: int = 4 * 1024 * 1024
    seconds: float = 30.0
    threads: int | None = None

    def make_work(self) -> Work:
        """Makes what runs the operations."""
        return Work(threads=self.threads or os.cpu_count() or 1, seconds=self.seconds)


def check_address(host: str, *, token: str | None) -> None:
    """Raises unless the service may listen at a host.

    Raises:
        ConfigError: Others could reach it and there is no token, or the token is too short.
    """
    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii()):
        raise ConfigError(
            f"a token is at least {_SHORTEST_TOKEN} ASCII characters; make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe())'`"
        )
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines in: that needs a token (--token-file, or the "
            "environment variable SUBSPACE_TOKEN)"
        )


def bind(host: str, port: int) -> socket.socket:
    """Opens a listening socket.

    Args:
        host: Name or address of the interface.
        port: From 1 to 65535, or 0 for any that is free.

    Raises:
        ConfigError: The port is out of range or in use, or the host is none of this machine.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535, got {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio turns off Nagle's delay, which takes 40 ms, only where the protocol is named.
        bound = socket.socket(found[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ConfigError(f"--host: cannot listen at {host}: {error}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(found[4])
        bound.listen()  # who connects from now on waits until the service answers
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen at {host}:{port}: {error.strerror}") from error
    return bound


def make_http_server(
    memory: Memory, *, host: str, token: str | None, limits: Limits
) -> uvicorn.Server:
    """Makes the server of a memory; `run(sockets=[...])` answers until SIGTERM or SIGINT.

    Requests that run then are finished first.

    Args:
        memory: The memory.
        host: The interface that it listens at; see `check_address`.
        token: What clients must send, if anything.
        limits: What one request may take.
    """
    app = make_app(memory, work=limits.make_work(), most_bytes=limits.most_bytes)
    guarded = Guards(
        app,
        token=token,
        loopback=is_loopback(host),
        most_bytes=limits.most_bytes,
        seconds=limits.seconds,
    )
    config = uvicorn.Config(
        guarded,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=math.ceil(limits.seconds),
    )
    return uvicorn.Server(config)


def serve_stdio(memory: Memory, *, limits: Limits) -> None:
    """Talks the Model Context Protocol over standard input and output until the input ends."""
    work = limits.make_work()
    try:
        make_mcp_server(memory, work=work).run("stdio")
    finally:
        work.close()


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on clients that do not finish the head of a request."""

    _late: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the head of the first request."""
        super().connection_made(transport)
        self.loop.call_later(_HEAD_S, self._look)

    def _look(self) -> None:
        """Hangs up if a head that had begun at the last look has still not come."""
        if self.transport.is_closing():
            return
        begun = self.cycle is None or bool(self.conn.trailing_data[0])
        waits = begun and self.conn.their_state is h11.IDLE
        # The first head is late at the first look; others at the second, as they may be new.
        if waits and (self.cycle is None or self.cycle is self._late):
            _log.info("hung up on a client that did not finish its request")
            self.transport.close()
            return
        self._late = self.cycle if waits else None
        self.loop.call_later(_HEAD_S, self._look)
