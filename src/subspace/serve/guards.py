"""Guards: who may ask, how much, and how slowly; in front of every address of the service.

Requests are refused that come from a page of another site (a browser names it as `Origin`), that
name another host than this machine although the service is of this machine alone (a page can let
its own name point to the loopback address), that lack the token, or whose body is too large or
comes too slowly.
"""

import asyncio
import hmac
import ipaddress
import json
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Answers whether the process lives, to whoever asks.
OPEN = ("/health",)
_LOOPBACK_NAMES = ("localhost",)


def is_loopback(host: str) -> bool:
    """Tells whether a host name or address is that of this machine alone."""
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guards:
    """Passes a request on to the application, or refuses it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        loopback: bool,
        most_bytes: int,
        seconds: float,
    ) -> None:
        """Guards an application.

        Args:
            app: The application.
            token: What clients must send as `Authorization: Bearer TOKEN`; None to let all in.
            loopback: Whether requests must name the loopback interface as their host.
            most_bytes: Largest body of a request.
            seconds: Longest time in which a body must have come.
        """
        self._app = app
        self._token = None if token is None else token.encode()
        self._loopback = loopback
        self._most_bytes = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_open = scope["path"] in OPEN and scope["method"] in ("GET", "HEAD")
        refused = self._refuse(headers, is_open=is_open)
        if refused is not None:
            await _answer(send, *refused)
            return
        if is_open:  # whoever it is from, a body is not read
            await self._app(scope, _replay(b"", receive), send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(receive)
        except TimeoutError:
            await _answer(send, 408, f"the body did not come within {self._seconds:g} seconds")
            return
        except ConnectionError:
            return
        if body is None:
            await _answer(send, 413, f"a request may have {self._most_bytes} bytes at most")
            return
        await self._app(scope, _replay(body, receive), send)

    def _refuse(self, headers: Headers, *, is_open: bool) -> tuple[int, str] | None:
        """Returns status and reason if the request is refused for its headers."""
        host = headers.get("host", "")
        if self._loopback and not is_loopback(_name(host)):
            return 421, f"this service is not called '{host[:80]}'"
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, host=host):
            return 403, "pages of other sites may not use this service"
        if self._token is not None and not is_open and not self._knows(headers):
            return 401, "send the service's token: Authorization: Bearer TOKEN"
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._most_bytes:
            return 413, f"a request may have {self._most_bytes} bytes at most"
        return None

    def _is_own(self, origin: str, *, host: str) -> bool:
        """Tells whether a page that asks comes from the host that it asks."""
        try:
            name = urlsplit(origin).hostname or ""
        except ValueError:
            return False
        return is_loopback(name) if self._loopback else name == _name(host)

    def _knows(self, headers: Headers) -> bool:
        """Tells whether the token was sent; takes as long for every wrong one."""
        assert self._token is not None
        kind, _, sent = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(sent.strip().encode("utf-8", "replace"), self._token)
        return same and kind.lower() == "bearer"

    async def _read(self, receive: Receive) -> bytes | None:
        """Reads the whole body; None if it is too large.

        Raises:
            ConnectionError: The client has gone.
        """
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionError
            body += message.get("body", b"")
            if len(body) > self._most_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _name(host: str) -> str:
    """Returns the name in a `Host` header, without the port; empty if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _replay(body: bytes, receive: Receive) -> Receive:
    """Returns a function that gives the body once, and then what comes from the client."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(send: Send, status: int, reason: str) -> None:
    content = json.dumps({"error": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),  # what the client still sends is not read
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
