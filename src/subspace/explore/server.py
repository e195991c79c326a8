"""The server of the page: listens at a free port of the loopback interface."""

import errno
import logging
import socket
from typing import TYPE_CHECKING

from werkzeug.serving import make_server

from subspace.errors import ConfigError

if TYPE_CHECKING:
    from dash import Dash

HOST = "127.0.0.1"
# Number of ports that `bind` tries.
_TRIED = 20


def bind(port: int) -> socket.socket:
    """Opens a listening socket at a port of the loopback interface, or at the next free one.

    Args:
        port: From 1 to 65535; this port and the next 19 are tried.

    Raises:
        ConfigError: The port is out of range or may not be used, or all tried ports are in use.
    """
    if not 1 <= port <= 65535:
        raise ConfigError(f"--port must be between 1 and 65535, got {port}")
    last = min(port + _TRIED - 1, 65535)
    for tried in range(port, last + 1):
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((HOST, tried))
            bound.listen()
        except OSError as error:
            bound.close()
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(f"--port: cannot use port {tried}: {error}") from error
        else:
            return bound
    raise ConfigError(f"--port: the ports {port} to {last} are all in use; give another one")


def serve(app: "Dash", bound: socket.socket) -> None:
    """Answers requests until the process is interrupted."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # its default logs every request
    port = bound.getsockname()[1]
    make_server(HOST, port, app.server, threaded=True, fd=bound.fileno()).serve_forever()
