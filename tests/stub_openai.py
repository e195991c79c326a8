"""Serves enough of the OpenAI protocol to label texts, and misbehaves on demand."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STYLES = ("casual", "formal")


@dataclass
class Stub:
    """Keeps the requests of a server, and says how it behaves.

    Attributes:
        behave: Maps the number of a request and its body to the name of a behaviour.
        answer: Maps a text to its labels.
        base_url: Address of the server.
        bodies: Bodies of all requests, in order.
        times: Time of each request, in seconds.
        keys: Key of each request.
        release: Set when the server stops, so that requests that hang end.
    """

    behave: Callable[[int, str], str]
    answer: Callable[[str], dict[str, Any]]
    base_url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    def texts(self) -> list[list[str]]:
        """The texts of each request."""
        return [[entry["text"] for entry in read_texts(body)] for body in self.bodies]


def true_labels(text: str) -> dict[str, Any]:
    """Labels a text by the rubric of the tests; the labels follow from the text alone."""
    return {"complexity": 1 + len(text) % 5, "style": STYLES[len(text) % 2]}


def read_texts(body: dict[str, Any]) -> list[dict[str, str]]:
    return json.loads(body["messages"][1]["content"])["texts"]


@contextmanager
def serve(
    behave: Callable[[int, str], str] = lambda number, body: "good",
    answer: Callable[[str], dict[str, Any]] = true_labels,
) -> Iterator[Stub]:
    """Serves on a free port of this machine."""
    stub = Stub(behave, answer)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
            body = json.loads(raw)
            with lock:
                number = len(stub.bodies)
                stub.bodies.append(body)
                stub.times.append(time.monotonic())
                stub.keys.append(self.headers["Authorization"].removeprefix("Bearer "))
            _HAPPENS[stub.behave(number, raw)](self, stub, body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        stub.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _send(
    handler: BaseHTTPRequestHandler,
    payload: str,
    *,
    status: int = 200,
    kind: str = "application/json",
    **headers: str,
) -> None:
    raw = payload.encode()
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(raw)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(raw)


def _say(handler: BaseHTTPRequestHandler, content: str | None) -> None:
    message = {"role": "assistant", "content": content}
    answer = {
        "id": "a",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
    _send(handler, json.dumps(answer))


def _labels(stub: Stub, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": entry["id"], **stub.answer(entry["text"])} for entry in read_texts(body)]


def _say_labels(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable:
    return lambda handler, stub, body: _say(
        handler, json.dumps({"labels": change(_labels(stub, body))})
    )


def _fail(status: int, **headers: str) -> Callable:
    def fail(handler: BaseHTTPRequestHandler, stub: Stub, body: dict[str, Any]) -> None:
        # Some servers repeat the key.
        message = f"error {status} for {handler.headers['Authorization']}"
        payload = json.dumps({"error": {"message": message}})
        _send(handler, payload, status=status, **headers)

    return fail


def _refuse_option(name: str) -> Callable:
    return lambda handler, stub, body: (_fail(400) if name in body else _HAPPENS["good"])(
        handler, stub, body
    )


def _close(handler: BaseHTTPRequestHandler, stub: Stub, body: dict[str, Any]) -> None:
    handler.close_connection = True


def _close_in_the_middle(handler: BaseHTTPRequestHandler, stub: Stub, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def _hang(handler: BaseHTTPRequestHandler, stub: Stub, body: dict[str, Any]) -> None:
    stub.release.wait(20)
    handler.close_connection = True


_HAPPENS: dict[str, Callable[[BaseHTTPRequestHandler, Stub, dict[str, Any]], None]] = {
    "good": _say_labels(lambda labels: labels),
    "shuffled": _say_labels(lambda labels: labels[::-1]),
    "fenced": lambda handler, stub, body: _say(
        handler,
        f"<think>{{well}}</think>```json\n{json.dumps({'labels': _labels(stub, body)})}\n```",
    ),
    "half": lambda handler, stub, body: _say(
        handler, json.dumps({"labels": _labels(stub, body)})[:-9]
    ),
    "nonsense": lambda handler, stub, body: _say(handler, "Sure! Here are {your} labels."),
    "list": lambda handler, stub, body: _say(handler, "[1, 2]"),
    "strings": lambda handler, stub, body: _say(handler, '{"labels": ["a", "b"]}'),
    "silent": lambda handler, stub, body: _say(handler, None),
    "page": lambda handler, stub, body: _send(handler, "<html>Busy</html>", kind="text/html"),
    "torn body": lambda handler, stub, body: _send(handler, '{"choices": ['),
    "odd types": lambda handler, stub, body: _send(
        handler,
        '{"choices": [{"message": {"content": [1]}}], "usage": {"prompt_tokens": "many"}}',
    ),
    "no choice": lambda handler, stub, body: _send(handler, '{"choices": []}'),
    "empty body": lambda handler, stub, body: _send(handler, "{}"),
    "fewer": _say_labels(lambda labels: labels[1:]),
    "more": _say_labels(lambda labels: [*labels, {**labels[0], "id": "t0"}]),
    "double": _say_labels(lambda labels: [labels[0], *labels]),
    "unknown ids": _say_labels(lambda labels: [{**e, "id": f"t{n}"} for n, e in enumerate(labels)]),
    "out of range": _say_labels(lambda labels: [{**entry, "complexity": 9} for entry in labels]),
    "fraction": _say_labels(lambda labels: [{**entry, "complexity": 2.5} for entry in labels]),
    "truth": _say_labels(lambda labels: [{**entry, "complexity": True} for entry in labels]),
    "unknown style": _say_labels(lambda labels: [{**entry, "style": "loud"} for entry in labels]),
    "429": _fail(429, retry_after_ms="1"),
    "wait": _fail(429, retry_after="0.7"),
    "500": _fail(500, retry_after_ms="1"),
    "refuse": _fail(400),
    "moderate": _fail(403),
    "unauthorised": _fail(401),
    "no model": _fail(404),
    "redirect": _fail(307, location="http://127.0.0.1:9/v1/chat/completions"),
    "no schema": _refuse_option("response_format"),
    "no temperature": _refuse_option("temperature"),
    "close": _close,
    "close in the middle": _close_in_the_middle,
    "hang": _hang,
}
