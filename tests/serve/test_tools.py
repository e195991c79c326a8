"""A client of the protocol's own SDK sees tools that explain themselves, and errors that help."""

import json
from functools import partial

import anyio
import pytest
from mcp.client.client import Client
from retrieval_world import QUERY, RECORDS
from serve_world import make_memory

from subspace.serve.messages import SearchRequest
from subspace.serve.tools import make_mcp_server
from subspace.serve.work import Work

READING = {"search_memory", "explain_hit", "list_items", "show_item"}
CHANGING = {"report_use", "pin_items", "add_items", "update_item", "delete_items"}


def ask(server, *calls):
    """Calls tools one after another as a client does, and returns their results."""

    async def go():
        async with Client(server) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return anyio.run(go)


def listed(server):
    async def go():
        async with Client(server) as client:
            return (await client.list_tools()).tools

    return {tool.name: tool for tool in anyio.run(go)}


def answer(result):
    assert not result.is_error, result.content
    return json.loads(result.content[0].text)


@pytest.fixture
def server(memory):
    return make_mcp_server(memory, work=Work(threads=2, seconds=30))


def test_every_tool_says_what_it_does_and_what_each_argument_means(server):
    tools = listed(server)
    assert set(tools) == READING | CHANGING
    for name, tool in tools.items():
        assert len(tool.description) > 40
        assert tool.annotations.read_only_hint == (name in READING)
        for argument, schema in tool.input_schema["properties"].items():
            assert "description" in schema, f"{name}: {argument}"
    search = tools["search_memory"]
    for named in ("topic", "style", "complexity", "specificity", "style:loud"):
        assert named in search.description


def test_a_tool_finds_what_the_memory_finds_in_few_words(server, memory):
    asked = {"query": QUERY, "k": 3, "toward": {"complexity": -1}, "keywords": 0.5}
    asked["unlike"] = ["a song", {"like": "cake"}]
    (result,) = ask(server, ("search_memory", asked))
    expected = memory.search(SearchRequest(**asked))
    got = answer(result)
    assert [hit["id"] for hit in got["hits"]] == [hit.id for hit in expected.hits]
    assert set(got["hits"][0]) == {"id", "score", "text", "metadata"}


def test_long_texts_are_cut_in_a_search_and_whole_when_shown(server):
    text = "bake bread " * 500
    ask(server, ("add_items", {"items": [{"id": "long", "text": text}]}))
    found, shown = ask(
        server, ("search_memory", {"query": text[:100]}), ("show_item", {"id": "long"})
    )
    cut = next(hit for hit in answer(found)["hits"] if hit["id"] == "long")
    assert len(cut["text"]) <= 800
    assert cut["text"].endswith("…")
    assert answer(shown)["text"] == text


def test_what_the_text_says_already_is_not_said_again_in_metadata(server):
    skill = {
        "id": "oven",
        "text": "oven\n\nHeats up.",
        "metadata": {"name": "oven", "file": "o.md", "lang": "He"},
    }
    _, found, shown = ask(
        server,
        ("add_items", {"items": [skill]}),
        ("search_memory", {"query": "oven", "k": 50}),
        ("show_item", {"id": "oven"}),
    )
    hit = next(hit for hit in answer(found)["hits"] if hit["id"] == "oven")
    assert hit["metadata"] == {"file": "o.md", "lang": "He"}
    assert answer(shown)["metadata"] == skill["metadata"]


def test_a_task_from_search_to_what_was_learned(server, memory):
    (found,) = ask(server, ("search_memory", {"query": QUERY, "k": 3}))
    search = answer(found)
    second = search["hits"][1]["id"]
    told, used, again, pinned = ask(
        server,
        ("explain_hit", {"search_id": search["search_id"], "id": second}),
        ("report_use", {"items": {second: 1.0}, "search_id": search["search_id"]}),
        ("report_use", {"items": {second: 1.0}, "search_id": search["search_id"]}),
        ("pin_items", {"ids": [second]}),
    )
    assert f"'{second}' is hit 2 of 3" in told.content[0].text
    assert (answer(used)["counted"], answer(again)["counted"]) == (1, 0)
    assert answer(pinned)["pinned"] == [second]
    assert len(memory.index.blocks.history.log) == 1


def test_items_are_kept_changed_listed_and_removed(server, memory):
    made, listing = ask(
        server,
        ("add_items", {"items": [{"text": "water the herbs", "metadata": {"kind": "note"}}]}),
        ("list_items", {"where": {"kind": "note"}}),
    )
    (name,) = answer(made)["ids"]
    assert [item["id"] for item in answer(listing)["items"]] == [name]
    changed, removed = ask(
        server,
        ("update_item", {"id": name, "text": "water the herbs daily"}),
        ("delete_items", {"ids": [name]}),
    )
    assert answer(changed)["text"] == "water the herbs daily"
    assert answer(removed)["ids"] == [name]
    assert len(memory.index) == len(RECORDS)


WRONG = [
    ("search_memory", {"query": QUERY, "k": 0}, "k"),
    ("search_memory", {"query": QUERY, "weights": {"nope": 1}}, "no block 'nope'; the blocks are"),
    ("search_memory", {"query": QUERY, "toward": {"nope": 1}}, "no direction for 'nope'"),
    ("search_memory", {}, "one of query, like and blocks"),
    ("search_memory", {"query": QUERY, "preset": "nope"}, "the presets are"),
    ("show_item", {"id": "nobody"}, "not in this memory: nobody"),
    ("delete_items", {"ids": ["cake", "nobody"]}, "not in this memory: nobody"),
    ("explain_hit", {"search_id": "x", "id": "cake"}, "search again"),
    ("report_use", {"items": {"cake": 2}}, "items"),
    ("report_use", {"items": {"nobody": 1}}, "nobody"),
    ("report_use", {"items": {}}, "items: Dictionary should have at least 1 item"),
    ("add_items", {"items": [{"text": ""}]}, "items"),
    ("add_items", {"items": []}, "items: List should have at least 1 item"),
    ("add_items", {"items": [{"id": "a", "text": "b"}] * 2}, "ids must differ"),
    ("update_item", {"id": "cake", "text": "nul \0"}, "text: Value error, a text cannot hold NUL"),
    ("update_item", {"id": "cake"}, "give a new text, new metadata, or both"),
    ("pin_items", {"ids": []}, "ids: List should have at least 1 item"),
    ("delete_items", {"ids": ["cake"] * 1001}, "ids: List should have at most 1000 items"),
    ("search_memory", {"query": "half \ud83d"}, "unicode string"),
    ("no_such_tool", {}, "no_such_tool"),
]


@pytest.mark.parametrize(("tool", "arguments", "said"), WRONG)
def test_a_mistake_is_a_tool_error_that_says_what_to_do(server, tool, arguments, said):
    (result,) = ask(server, (tool, arguments))
    assert result.is_error
    assert said in result.content[0].text


def test_a_memory_for_reading_has_tools_that_read_alone(tmp_path, model):
    memory = make_memory(tmp_path, model, read_only=True)
    assert set(listed(make_mcp_server(memory, work=Work(threads=1, seconds=30)))) == READING
    memory.close()


def test_over_http_each_address_has_the_namespace_that_it_names(client):
    async def use(address: str, name: str) -> None:
        async with Client(address) as agent:
            result = await agent.call_tool("report_use", {"items": {name: 1.0}})
            assert not result.is_error, result.content

    async def best(address: str) -> str:
        asked = {"query": QUERY, "preset": "pure_importance", "weights": None, "k": 12}
        async with Client(address) as agent:
            result = await agent.call_tool("search_memory", asked)
            return answer(result)["hits"][0]["id"]

    base = f"{client.base_url}/mcp?namespace="
    anyio.run(use, base + "carol", "tax")
    anyio.run(use, base + "dave", "race")
    assert anyio.run(best, base + "carol") == "tax"
    assert anyio.run(best, base + "dave") == "race"


def test_many_agents_at_once_get_their_own_answers(client):
    names = [RECORDS[number % len(RECORDS)].id for number in range(16)]

    async def one(number: int, into: dict[int, str]) -> None:
        async with Client(f"{client.base_url}/mcp") as agent:
            result = await agent.call_tool("search_memory", {"like": names[number], "k": 1})
            into[number] = answer(result)["hits"][0]["id"]

    async def go() -> dict[int, str]:
        found: dict[int, str] = {}
        async with anyio.create_task_group() as group:
            for number in range(16):
                group.start_soon(partial(one, number, found))
        return found

    found = anyio.run(go)
    alone = {
        name: client.post("/search", json={"like": name, "k": 1}).json()["hits"][0]["id"]
        for name in names
    }
    assert found == {number: alone[name] for number, name in enumerate(names)}
    assert len(set(found.values())) > 1


def test_tools_of_what_is_liked_are_there_if_it_is_learned(tmp_path, model):
    memory = make_memory(tmp_path, model, learn_liked=True)
    server = make_mcp_server(memory, work=Work(threads=2, seconds=30))
    tools = listed(server)
    assert set(tools) == READING | CHANGING | {"what_was_learned", "forget_feedback"}
    assert "liked" in tools["search_memory"].description
    told, gone = ask(server, ("what_was_learned", {}), ("forget_feedback", {"search_ids": ["q"]}))
    assert answer(told)["reason"] == "no hits of searches were rated"
    assert answer(gone) == {"forgotten": 0}
    memory.read_only = True
    reading = set(listed(make_mcp_server(memory, work=Work(threads=2, seconds=30))))
    assert reading == READING | {"what_was_learned"}
    memory.close()
