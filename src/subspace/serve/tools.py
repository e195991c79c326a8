"""The tools of the Model Context Protocol: what an agent sees of a memory.

Names, descriptions and arguments are read by language models, which see nothing else. They name the
blocks and directions of the model that is served, and every error says what to do.
"""

from collections.abc import Callable
from functools import partial, wraps
from importlib.metadata import version
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field, ValidationError

from subspace.errors import DISTRIBUTION, QueryError, SubspaceError
from subspace.serve.memory import Memory
from subspace.serve.messages import (
    AddRequest,
    BriefAnswer,
    DeleteRequest,
    ExplainRequest,
    Filter,
    ForgetAnswer,
    ForgetRequest,
    Id,
    IdsAnswer,
    Item,
    Keywords,
    LearnedAnswer,
    LearnedRequest,
    ListAnswer,
    NewItem,
    PinRequest,
    PinsAnswer,
    SearchRequest,
    Toward,
    Unlike,
    UpdateRequest,
    UseAnswer,
    UseRequest,
    Weights,
    encodable,
    say_problem,
)
from subspace.serve.work import Work

# Characters of each hit that a search shows; `show_item` gives the whole text.
_SHOWN = 800
_LISTED = 200

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ADDS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_CHANGES = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)


def make_mcp_server(memory: Memory, *, work: Work) -> MCPServer[Any]:
    """Makes the server whose tools read and change a memory; read-only ones alone if it is so.

    Args:
        memory: The memory.
        work: Runs the tools.
    """
    about = memory.about()
    server: MCPServer[Any] = MCPServer(
        "subspace",
        version=version(DISTRIBUTION),
        instructions=_instructions(memory),
        log_level="WARNING",
    )
    blocks = ", ".join(about.blocks)
    directions = ", ".join(about.directions) or "none"
    tools = _Tools(server, work)
    _add_reading(tools, memory, blocks=blocks, directions=directions, presets=about.presets)
    if not memory.read_only:
        _add_feedback(tools, memory)
        _add_changes(tools, memory)
    if memory.liked is not None:
        _add_liked(tools, memory)
    return server


def _instructions(memory: Memory) -> str:
    told = (
        "A memory of texts (skills, notes, facts). Before a task, call search_memory with what the "
        "task is about; read the whole text of a promising hit with show_item."
    )
    if memory.read_only:
        return told
    return told + (
        " After the task, call report_use with the search_id and how well each item that you used "
        "served, from 0 to 1: later searches learn from it. Keep what is worth remembering with "
        "add_items."
    )


def _add_reading(
    tools: "_Tools", memory: Memory, *, blocks: str, directions: str, presets: list[str]
) -> None:
    """Adds the tools that change nothing."""

    def search_memory(
        context: Context,
        query: Annotated[
            str | None, Field(description="What to search for, in words, such as the task at hand.")
        ] = None,
        like: Annotated[
            Id | None, Field(description="Instead of query: id of an item to find similar ones.")
        ] = None,
        k: Annotated[int, Field(ge=1, le=50, description="Number of hits.")] = 5,
        toward: Toward = None,
        weights: Weights = None,
        preset: Annotated[
            str | None, Field(description=f"Mix of recency, importance and relevance: {presets}.")
        ] = None,
        where: Filter = None,
        keywords: Keywords = 0,
        unlike: Unlike = [],  # noqa: B006 (read, and shown as the default)
    ) -> BriefAnswer:
        request = SearchRequest(
            query=query,
            like=like,
            k=k,
            toward=toward,
            weights=weights,
            preset=preset,
            where=where,
            keywords=keywords,
            unlike=list(unlike),
            namespace=_namespace(context),
        )
        return BriefAnswer.of(memory.search(request), characters=_SHOWN)

    tools.add(
        _READS,
        search_memory,
        "Finds the items that fit a query best. Give `query` alone for a plain search by topic. "
        f"`toward` prefers more or less of: {directions}; for example {{'complexity': -1}} for "
        f"simpler texts. `weights` says what counts, by block: {blocks}. Long texts are cut; "
        "show_item gives them whole. `keywords` (0.3) also counts the query's very words; `unlike` "
        "leads away from what is not wanted. Keep the search_id for report_use and explain_hit.",
    )

    def explain_hit(
        context: Context,
        search_id: Annotated[Id, Field(description="search_id of the search.")],
        id: Annotated[Id, Field(description="Id of one of its hits.")],
    ) -> str:
        request = ExplainRequest(search_id=search_id, id=id, namespace=_namespace(context))
        return memory.explain(request).text

    tools.add(
        _READS,
        explain_hit,
        "Says in words why a hit of a search stands where it stands: what each block adds to its "
        "score, and which change of weights would let it pass the hit above.",
    )

    def list_items(
        after: Annotated[
            str | None, Field(description="next_after of the answer before; none to begin.")
        ] = None,
        limit: Annotated[int, Field(ge=1, le=200, description="Number of items.")] = 50,
        where: Filter = None,
    ) -> ListAnswer:
        return memory.list_items(after=after, limit=limit, where=where, characters=_LISTED)

    tools.add(
        _READS,
        list_items,
        "Lists the items of the memory in a stable order, some at a time, with the beginning of "
        "each text. To find items about something, use search_memory instead.",
    )

    def show_item(id: Annotated[Id, Field(description="Id of the item.")]) -> Item:
        return memory.show(id)

    tools.add(_READS, show_item, "Shows one item by its id: the whole text, and its metadata.")


def _add_feedback(tools: "_Tools", memory: Memory) -> None:
    """Adds the tools that say what was used."""

    def report_use(
        context: Context,
        items: Annotated[
            dict[Id, Annotated[float, Field(ge=0, le=1)] | None],
            Field(
                description="By id: how well the item served, from 0 (not at all) to 1 (well); "
                "null if you cannot tell."
            ),
        ],
        search_id: Annotated[
            Id | None, Field(description="The search that found them, if a search did.")
        ] = None,
    ) -> UseAnswer:
        request = UseRequest(items=items, search_id=search_id, namespace=_namespace(context))
        return memory.report_use(request)

    tools.add(
        _ADDS,
        report_use,
        "Reports which items you used for a task and how well each served. Later searches with a "
        "preset prefer what was used lately and what served well. Report all items of a search in "
        "one call; sending the same again counts once.",
    )

    def pin_items(
        context: Context,
        ids: Annotated[list[Id], Field(description="Ids of the items.")],
        pinned: Annotated[bool, Field(description="False to unpin.")] = True,
    ) -> PinsAnswer:
        return memory.pin(PinRequest(ids=ids, pinned=pinned, namespace=_namespace(context)))

    tools.add(
        _ADDS,
        pin_items,
        "Pins items, so that they count as used just now for as long as they are pinned; with "
        "pinned=false unpins them. Answers with all items that are pinned.",
    )


def _add_liked(tools: "_Tools", memory: Memory) -> None:
    """Adds the tools that show, and take back, what was learned from ratings."""

    def what_was_learned(context: Context) -> LearnedAnswer:
        return memory.learned(LearnedRequest(namespace=_namespace(context)))

    tools.add(
        _READS,
        what_was_learned,
        "Says what was learned from report_use about the texts that serve well, which "
        "toward={'liked': 1} asks for, and from which ratings of which searches.",
    )
    if memory.read_only:
        return

    def forget_feedback(
        context: Context,
        search_ids: Annotated[
            list[Id], Field(description="search_id of each search, as what_was_learned shows them.")
        ],
    ) -> ForgetAnswer:
        request = ForgetRequest(search_ids=search_ids, namespace=_namespace(context))
        return memory.forget(request)

    tools.add(
        _CHANGES,
        forget_feedback,
        "Removes for good what was reported of some searches, and what was learned from it.",
    )


def _add_changes(tools: "_Tools", memory: Memory) -> None:
    """Adds the tools that change items."""

    def add_items(
        items: Annotated[
            list[NewItem],
            Field(
                description="Each with its text, perhaps an id of your choice, and metadata to "
                "filter by."
            ),
        ],
    ) -> IdsAnswer:
        return memory.add(AddRequest(items=items).items)

    tools.add(
        _CHANGES,
        add_items,
        "Keeps new items; an item with the id of another replaces it. One text should be about one "
        "thing, and begin with what it is about. The answer has the ids.",
    )

    def update_item(
        id: Annotated[Id, Field(description="Id of the item.")],
        text: Annotated[
            str | None, Field(description="The new text; the old one if left out.")
        ] = None,
        metadata: Annotated[
            dict[str, Any] | None, Field(description="Replaces all metadata; stays if left out.")
        ] = None,
    ) -> Item:
        return memory.update(id, UpdateRequest(text=text, metadata=metadata))

    tools.add(_CHANGES, update_item, "Changes the text or the metadata of an item that is there.")

    def delete_items(
        ids: Annotated[list[Id], Field(description="Ids of the items.")],
    ) -> IdsAnswer:
        return memory.delete(DeleteRequest(ids=ids).ids)

    tools.add(
        _CHANGES,
        delete_items,
        "Removes items for good. If one of the ids is unknown, none is removed.",
    )


class _Tools:
    """Adds tools to a server, which run as the service's work."""

    def __init__(self, server: MCPServer[Any], work: Work) -> None:
        self._server = server
        self._work = work

    def add(self, annotations: ToolAnnotations, tool: Callable[..., Any], description: str) -> None:
        """Adds a tool under the name of its function.

        Errors that a client can mend become tool errors with their message.
        """

        @wraps(tool)
        async def run(*arguments: Any, **named: Any) -> Any:
            call, changes = partial(tool, *arguments, **named), not annotations.read_only_hint
            try:
                return await self._work.run(tool.__name__, _checked(call), changes=changes)
            except SubspaceError as error:
                raise ToolError(encodable(str(error))) from error

        self._server.add_tool(run, description=description, annotations=annotations)


def _checked(call: Callable[[], Any]) -> Callable[[], Any]:
    """Turns what is wrong with a message into an error that a client can mend."""

    def checked() -> Any:
        try:
            return call()
        except ValidationError as error:
            raise QueryError("; ".join(map(say_problem, error.errors()[:5]))) from error

    return checked


def _namespace(context: Context) -> str:
    """Returns the namespace of the address that the client uses: `/mcp?namespace=NAME`."""
    request = context.request_context.request
    return "" if request is None else str(request.query_params.get("namespace", ""))
