"""The HTTP interface: JSON in and out, described by an OpenAPI page; MCP at `/mcp`."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.routing import Route

from subspace.errors import DISTRIBUTION, EngineError, SubspaceError
from subspace.retrieval import Explanation
from subspace.serve.memory import Memory, ReadOnlyError, UnknownItemError
from subspace.serve.messages import (
    AboutAnswer,
    AddRequest,
    DeleteRequest,
    ErrorAnswer,
    ExplainRequest,
    ForgetAnswer,
    ForgetRequest,
    Health,
    IdsAnswer,
    Item,
    LearnedAnswer,
    LearnedRequest,
    ListAnswer,
    ListRequest,
    Message,
    PinRequest,
    PinsAnswer,
    SearchAnswer,
    SearchRequest,
    UpdateRequest,
    UseAnswer,
    UseRequest,
    encodable,
    say_problem,
)
from subspace.serve.tools import make_mcp_server
from subspace.serve.work import FAILED, FailedError, TookTooLongError, UnusableError, Work

MCP_PATH = "/mcp"

_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": told}
    for status, told in {
        401: "The token is missing or wrong.",
        413: "The request is too large.",
        422: "The request is wrong; the error says what to do.",
        500: "The service failed.",
        503: "The memory cannot be used now.",
        504: "It took too long.",
    }.items()
}
_NOT_THERE: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "There is no such item."}
}
_DESCRIPTION = """\
A memory of texts, searched with a weight per block (topic, style, complexity, ...).

Every change is on disk before it is answered. Errors have the form `{"error": "..."}`.
Agents that speak the Model Context Protocol find the same at `/mcp`.
"""


class _IdConvertor(StringConvertor):
    """Reads an id from a path: any text that is not empty, with slashes and line breaks."""

    regex = "(?s:.+)"


register_url_convertor("id", _IdConvertor())


def make_app(memory: Memory, *, work: Work, most_bytes: int) -> FastAPI:
    """Makes the application that answers over HTTP and MCP.

    Args:
        memory: The memory; it stays open when the application stops.
        work: Runs the requests; closed when the application stops.
        most_bytes: Largest body of a request.
    """
    mcp = make_mcp_server(memory, work=work)
    over_mcp = mcp.streamable_http_app(
        streamable_http_path=MCP_PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=most_bytes,
        host="",  # the guards check names of hosts
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with mcp.session_manager.run():
            yield
        work.close()

    app = FastAPIOffline(
        redoc_url=None,
        redirect_slashes=False,
        title="subspace",
        version=version(DISTRIBUTION),
        description=_DESCRIPTION,
        lifespan=lifespan,
        responses=_REFUSED,
    )
    _add_operations(app, memory, work=work)
    if not memory.read_only:
        _add_changes(app, memory, work=work)
    if memory.liked is not None:
        _add_liked(app, memory, work=work)
    _add_state(app, memory, work=work)
    _add_errors(app)
    (route,) = (one for one in over_mcp.routes if isinstance(one, Route) and one.path == MCP_PATH)
    # By POST alone: a stream that a client opens by GET would never be sent anything.
    app.router.routes.append(Route(MCP_PATH, route.endpoint, methods=["POST"]))
    return app


def _add_operations(app: FastAPI, memory: Memory, *, work: Work) -> None:
    """Adds what changes no items."""

    @app.post("/search", tags=["search"], response_model=SearchAnswer)
    async def search(request: SearchRequest) -> Response:
        """Finds the best items for a query, with a weight per block."""
        return await _answer(work, "search", partial(memory.search, request))

    @app.post("/explain", tags=["search"], response_model=Explanation)
    async def explain(request: ExplainRequest) -> Response:
        """Says in words why a hit of a search stands where it stands."""
        return await _answer(work, "explain", partial(memory.explain, request))

    @app.post("/list", tags=["items"], response_model=ListAnswer)
    async def list_items(request: ListRequest) -> Response:
        """Lists items in a stable order, some at a time."""
        return await _answer(
            work,
            "list",
            partial(
                memory.list_items, after=request.after, limit=request.limit, where=request.where
            ),
        )

    @app.get("/items/{id:id}", tags=["items"], responses=_NOT_THERE, response_model=Item)
    async def show(id: str) -> Response:
        """Shows one item with its whole text."""
        return await _answer(work, "show", partial(memory.show, id))

    @app.get("/about", tags=["service"], response_model=AboutAnswer)
    async def about() -> Response:
        """Says how many items there are, and what a search can name."""
        return await _answer(work, "about", memory.about)


def _add_changes(app: FastAPI, memory: Memory, *, work: Work) -> None:
    """Adds what changes items and logs uses."""

    @app.post("/use", tags=["feedback"], response_model=UseAnswer)
    async def report_use(request: UseRequest) -> Response:
        """Logs that items were used, and rates the search that found them."""
        return await _answer(work, "report_use", partial(memory.report_use, request), changes=True)

    @app.post("/pins", tags=["feedback"], response_model=PinsAnswer)
    async def pin(request: PinRequest) -> Response:
        """Pins or unpins items, which count as used just now while they are pinned."""
        return await _answer(work, "pin", partial(memory.pin, request), changes=True)

    @app.post("/items", tags=["items"], response_model=IdsAnswer)
    async def add(request: AddRequest) -> Response:
        """Adds items; replaces those with the same ids."""
        return await _answer(work, "add", partial(memory.add, request.items), changes=True)

    @app.patch("/items/{id:id}", tags=["items"], responses=_NOT_THERE, response_model=Item)
    async def update(id: str, request: UpdateRequest) -> Response:
        """Changes an item's text, its metadata or both."""
        return await _answer(work, "update", partial(memory.update, id, request), changes=True)

    @app.delete("/items/{id:id}", tags=["items"], responses=_NOT_THERE, response_model=IdsAnswer)
    async def delete(id: str) -> Response:
        """Removes one item."""
        return await _answer(work, "delete", partial(memory.delete, [id]), changes=True)

    @app.post("/delete", tags=["items"], responses=_NOT_THERE, response_model=IdsAnswer)
    async def delete_several(request: DeleteRequest) -> Response:
        """Removes items; all of them or, if one is unknown, none."""
        return await _answer(work, "delete", partial(memory.delete, request.ids), changes=True)


def _add_liked(app: FastAPI, memory: Memory, *, work: Work) -> None:
    """Adds what shows, and takes back, what was learned from ratings."""

    @app.post("/learned", tags=["feedback"], response_model=LearnedAnswer)
    async def learned(request: LearnedRequest) -> Response:
        """Says what was learned of the texts that are liked, and from which ratings."""
        return await _answer(work, "learned", partial(memory.learned, request))

    if memory.read_only:
        return

    @app.post("/forget", tags=["feedback"], response_model=ForgetAnswer)
    async def forget(request: ForgetRequest) -> Response:
        """Removes the uses and ratings of searches for good, and what was learned from them."""
        return await _answer(work, "forget", partial(memory.forget, request), changes=True)


def _add_state(app: FastAPI, memory: Memory, *, work: Work) -> None:
    """Adds what operators ask for."""
    work.watch_items(lambda: len(memory.index))

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        """Leads to the API page."""
        return RedirectResponse("/docs")

    @app.get("/health", tags=["service"])
    async def health() -> Health:
        """Says that the process lives; needs no token."""
        return Health(status="ok")

    @app.get("/ready", tags=["service"])
    async def ready() -> Health:
        """Says that a search would be answered, after having read the index."""
        await work.run("ready", memory.about)
        return Health(status="ready")

    @app.get("/metrics", tags=["service"], response_class=Response)
    async def metrics() -> Response:
        """Counts and times of all operations, in the form that Prometheus reads."""
        # In a thread, as counting the items may wait for a change.
        figures = await anyio.to_thread.run_sync(generate_latest, work.registry)
        return Response(figures, media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    """Gives all errors one form."""

    @app.exception_handler(SubspaceError)
    async def mendable(_: Request, error: Exception) -> JSONResponse:
        return _error(_status(error), str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        if "json" not in request.headers.get("content-type", "json" if not error.body else ""):
            return _error(422, "send JSON, and say so: Content-Type: application/json")
        return _error(422, "; ".join(map(_say, error.errors()[:5])))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:  # FastAPI says no more than that
            return _error(400, "the body cannot be read as JSON in UTF-8")
        return _error(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:  # the server logs it
        return _error(500, FAILED)


async def _answer(
    work: Work, operation: str, call: Callable[[], Message | Explanation], *, changes: bool = False
) -> Response:
    """Runs an operation and makes JSON of it in a thread; FastAPI would check every value again."""
    found = await work.run(operation, lambda: to_json(call()), changes=changes)
    return Response(found, media_type="application/json")


def _status(error: Exception) -> int:
    if isinstance(error, UnknownItemError):
        return 404
    if isinstance(error, ReadOnlyError):
        return 403
    if isinstance(error, TookTooLongError):
        return 504
    if isinstance(error, FailedError):
        return 500
    return 503 if isinstance(error, EngineError | UnusableError) else 422


def _say(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']} (character {problem['loc'][-1]})"
    return say_problem(problem)


def _error(status: int, reason: str) -> JSONResponse:
    answer = ErrorAnswer(error=encodable(reason))
    return JSONResponse(answer.model_dump(), status_code=status)
