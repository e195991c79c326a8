"""Over HTTP a memory answers the same, and whatever is wrong gets a status and a sentence."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from retrieval_world import QUERY, RECORDS
from serve_world import make_memory, send, serving

from subspace.errors import IndexFolderError
from subspace.serve.messages import IdsAnswer, SearchRequest
from subspace.serve.server import Limits

JSON = {"content-type": "application/json"}


def test_a_search_over_http_is_that_of_the_memory(tmp_path, model):
    memory = make_memory(tmp_path, model)
    asked = {"query": QUERY, "weights": {"topic": 1, "style": 0.5}, "toward": {"complexity": -1}}
    asked |= {"keywords": 0.5, "unlike": [{"like": "cake"}, {"blocks": {"style": "a song"}}]}
    expected = memory.search(SearchRequest(**asked))
    with serving(memory) as client:
        got = client.post("/search", json=asked).json()
    assert got["hits"] == [hit.model_dump() for hit in expected.hits]
    memory.close()


def test_an_item_lives_from_its_adding_to_its_removal(client):
    name = "odd/ид=1 ?#%\n💡"
    from urllib.parse import quote

    path = "/items/" + quote(name, safe="/")
    added = client.post(
        "/items", json={"items": [{"id": name, "text": "grow basil", "metadata": {"n": 2.5}}]}
    )
    assert added.json() == {"ids": [name]}
    assert client.get(path).json() == {"id": name, "text": "grow basil", "metadata": {"n": 2.5}}
    assert client.patch(path, json={"text": "grow mint"}).json()["text"] == "grow mint"
    found = client.post("/search", json={"query": "grow mint", "where": {"n": {">=": 2}}}).json()
    assert [hit["id"] for hit in found["hits"]] == [name]
    assert client.delete(path).json() == {"ids": [name]}
    assert client.get(path).status_code == 404


def test_a_search_can_be_explained_rated_and_its_items_pinned(client):
    found = client.post("/search", json={"query": QUERY, "preset": "auto"}).json()
    names = [hit["id"] for hit in found["hits"]]
    told = client.post("/explain", json={"search_id": found["search_id"], "id": names[1]}).json()
    assert told["rank"] == 2
    assert names[0] in told["text"]
    use = {"items": {names[0]: 1.0, names[1]: None}, "search_id": found["search_id"]}
    assert client.post("/use", json=use).json() == {"counted": 2, "learned": True}
    assert client.post("/pins", json={"ids": [names[0]]}).json() == {"pinned": [names[0]]}


def test_health_readiness_and_figures_are_told(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    about = client.get("/about").json()
    assert about["blocks"]["topic"] == 12
    assert {"complexity", "specificity", "style:loud"} <= set(about["directions"])
    client.post("/search", json={"query": QUERY})
    client.post("/search", json={"query": QUERY, "weights": {"nope": 1}})
    figures = client.get("/metrics").text
    assert f"subspace_items {float(about['items'])}" in figures
    assert 'subspace_operations_total{operation="search",outcome="refused"}' in figures
    assert 'subspace_operation_seconds_count{operation="search"}' in figures


def test_the_api_page_loads_nothing_from_elsewhere(client):
    page = client.get("/docs").text
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "https://" not in page
    scripts = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert scripts
    for script in scripts:
        assert client.get(script).status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/search", "/explain", "/use", "/items", "/items/{id}", "/health"} <= set(paths)


WRONG = [
    ({"query": QUERY, "k": 0}, "k:"),
    ({"query": QUERY, "k": 10**9}, "k:"),
    ({"query": QUERY, "k": "many"}, "k:"),
    ({"query": QUERY, "colour": 1}, "colour:"),
    ({"query": QUERY, "weights": {"nope": 1}}, "no block 'nope'"),
    ({"query": QUERY, "weights": {"topic": -1}}, "topic"),
    ({"query": QUERY, "weights": "topic"}, "weights must read like"),
    ({"query": QUERY, "preset": "nope"}, "no preset 'nope'"),
    ({"query": QUERY, "toward": {"nope": 1}}, "no direction for 'nope'"),
    ({"query": QUERY, "where": {"nope": 1}}, "nope"),
    ({"query": QUERY, "where": {"loud": "yes"}}, "loud"),
    ({"query": QUERY, "scope": "all"}, "scope:"),
    ({"query": QUERY, "keywords": -1}, "keywords"),
    ({"query": QUERY, "keywords": True}, "keywords"),
    ({"query": QUERY, "unlike": [""]}, "unlike"),
    ({"query": QUERY, "unlike": [{"like": "nobody"}]}, "not in the index: nobody"),
    ({"query": QUERY, "unlike": ["a"], "unlike_weight": -1}, "unlike_weight"),
    ({"query": ""}, "query:"),
    ({"query": "x" * 40_000}, "query:"),
    ({"query": "half \ud83d"}, "query:"),
    ({"query": QUERY, "preset": "half \ud83d"}, "no preset"),
    ({"query": QUERY, "weights": {"half \ud83d": 1}}, "no block"),
    ({"like": "nobody"}, "not in the index: nobody"),
    ({"blocks": {"nope": "a"}}, "no block 'nope'"),
    ({"blocks": {}}, "composed query"),
    ({}, "one of query, like and blocks"),
    ([], ""),
    ("text", ""),
]


@pytest.mark.parametrize(
    ("asked", "said"), WRONG, ids=[json.dumps(asked)[:60] for asked, _ in WRONG]
)
def test_a_wrong_search_is_refused_in_a_sentence(client, asked, said):
    refused = client.post("/search", content=json.dumps(asked), headers=JSON)
    assert refused.status_code == 422
    assert said in refused.json()["error"]


WRONG_ITEMS = [
    {"text": ""},
    {"text": "a", "id": ""},
    {"text": "a\0b"},
    {"text": "a", "metadata": {"x": {"\0": 1}}},
    {"text": "a", "metadata": 5},
    {"text": "a", "colour": 1},
    {"id": "a"},
]


@pytest.mark.parametrize("item", WRONG_ITEMS, ids=map(repr, WRONG_ITEMS))
def test_of_items_with_a_wrong_one_none_is_kept(client, item):
    before = client.get("/about").json()["items"]
    refused = client.post("/items", json={"items": [{"text": "good"}, item]})
    assert refused.status_code == 422
    assert refused.json()["error"]
    assert client.get("/about").json()["items"] == before


def test_metadata_that_is_no_number_of_json_is_refused(client):
    content = b'{"items": [{"text": "a", "metadata": {"x": NaN}}]}'
    assert client.post("/items", content=content, headers=JSON).status_code == 422


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"nonsense", b"\xff\xfe", b"[" * 50_000, b'{"query": "a"} {"query": "b"}'],
    ids=["nothing", "cut", "no json", "no utf-8", "deep", "two"],
)
def test_malformed_json_is_refused(client, content):
    refused = client.post("/search", content=content, headers=JSON)
    assert refused.status_code in (400, 422)
    assert "JSON" in refused.json()["error"] or not content


def test_json_that_does_not_say_that_it_is_json_is_refused(client):
    """A page of another site can send such requests without asking."""
    refused = client.post(
        "/search", content=json.dumps({"query": "a"}), headers={"content-type": "text/plain"}
    )
    assert refused.status_code == 422
    assert "Content-Type: application/json" in refused.json()["error"]
    assert client.get("/", follow_redirects=True).url.path == "/docs"


def test_unknown_addresses_items_and_methods_get_their_status(client):
    assert client.get("/nothing").status_code == 404
    assert client.get("/items/nobody").json() == {"error": "not in this memory: nobody"}
    assert client.patch("/items/nobody", json={"text": "a"}).status_code == 404
    assert client.delete("/items/nobody").status_code == 404
    assert client.post("/delete", json={"ids": ["cake", "nobody"]}).status_code == 404
    assert client.get("/items/cake").status_code == 200
    assert client.get("/search").status_code == 405


def test_a_memory_for_reading_has_no_addresses_that_change_it(tmp_path, model):
    memory = make_memory(tmp_path, model, read_only=True)
    with serving(memory) as client:
        assert client.post("/search", json={"query": QUERY}).status_code == 200
        assert client.post("/items", json={"items": [{"text": "a"}]}).status_code == 404
        assert client.delete("/items/cake").status_code == 405
        assert client.post("/use", json={"items": {"cake": 1}}).status_code == 404
    assert len(memory.index) == len(RECORDS)
    memory.close()


def test_what_takes_too_long_is_given_up_and_what_waited_for_it_is_never_begun(
    tmp_path, model, monkeypatch
):
    memory = make_memory(tmp_path, model)
    released, begun = threading.Event(), []

    def slow(item: str) -> None:
        begun.append(item)
        released.wait(30)

    monkeypatch.setattr(memory, "show", slow)
    with serving(memory, limits=Limits(seconds=0.5, threads=1)) as client:
        with ThreadPoolExecutor(4) as pool:
            late = list(pool.map(lambda n: client.get(f"/items/{n}").status_code, range(4)))
        assert late == [504] * 4
        assert len(begun) == 1
        assert client.get("/health").status_code == 200
        monkeypatch.undo()
        released.set()
        assert client.get("/items/cake").status_code == 200
        assert 'outcome="too_long"} 4.0' in client.get("/metrics").text
    memory.close()


def test_searches_go_on_while_changes_wait(tmp_path, model, monkeypatch):
    memory = make_memory(tmp_path, model)
    released = threading.Event()
    monkeypatch.setattr(memory, "delete", lambda ids: released.wait(30) and IdsAnswer(ids=ids))
    limits = Limits(seconds=20, threads=2)
    with serving(memory, limits=limits) as client, ThreadPoolExecutor(6) as pool:
        changes = [pool.submit(client.delete, f"/items/{n}") for n in range(6)]
        assert client.post("/search", json={"query": QUERY}).status_code == 200
        assert client.get("/metrics").status_code == 200
        released.set()
        assert [change.result().status_code for change in changes] == [200] * 6
    memory.close()


def test_an_index_that_cannot_be_used_is_told_without_its_folder(
    tmp_path, model, monkeypatch, caplog
):
    memory = make_memory(tmp_path, model)

    def full() -> None:
        raise IndexFolderError("cannot write the index /secret/place: no space left")

    monkeypatch.setattr(memory.index.blocks.engine, "save", full)
    with serving(memory) as client:
        refused = client.delete("/items/cake")
    assert refused.status_code == 503
    assert "secret" not in refused.text
    assert "may be saved together with a later one" in refused.json()["error"]
    assert "/secret/place" in caplog.text
    monkeypatch.undo()
    memory.close()


def test_agents_are_answered_by_post_alone(client):
    """A stream that is opened by GET would hold its connection for ever."""
    for method in ("GET", "DELETE"):
        assert client.request(method, "/mcp").status_code == 405


def test_a_defect_is_told_without_its_details(client, monkeypatch, caplog):
    from subspace.serve.memory import Memory

    def fail(*_, **__):
        raise ZeroDivisionError("secret of the house")

    monkeypatch.setattr(Memory, "show", fail)
    failed = client.get("/items/cake")
    assert failed.status_code == 500
    assert "secret" not in failed.text
    assert "secret" in caplog.text


def test_a_client_that_goes_away_does_no_harm(client):
    for content in (b"", b"POST /se", b"POST /search HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        send(client, content).close()
    assert client.get("/health").status_code == 200


def test_what_is_liked_is_shown_and_forgotten_over_http(client, tmp_path, model):
    assert client.post("/learned", json={}).status_code == 404  # off unless asked for
    memory = make_memory(tmp_path, model, learn_liked=True)
    with serving(memory) as learning:
        found = learning.post("/search", json={"query": QUERY, "k": 4}).json()
        rated = {hit["id"]: float(n % 2) for n, hit in enumerate(found["hits"])}
        use = {"items": rated, "search_id": found["search_id"]}
        assert learning.post("/use", json=use).json()["counted"] == 4
        told = learning.post("/learned", json={}).json()
        assert not told["learned"]
        assert "'liked' has 4 ratings, which order 2 pairs of hits" in told["reason"]
        refused = learning.post("/search", json={"query": QUERY, "toward": "liked=1"})
        assert (refused.status_code, refused.json()["error"].count("4 ratings")) == (422, 1)
        gone = learning.post("/forget", json={"search_ids": [found["search_id"]]})
        assert gone.json() == {"forgotten": 4}
        assert "no hits" in learning.post("/learned", json={}).json()["reason"]
    memory.close()
