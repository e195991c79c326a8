"""The page's callbacks rank as a search does, and answer nobody but this machine."""

import json

import numpy as np
import pytest
from retrieval_world import LAYOUT, OTHER, QUERY, TEXTS

from subspace.data.comparisons import Comparison, read_comparisons
from subspace.explore.app import AppState, make_app
from subspace.explore.maps import make_maps
from subspace.retrieval import PRESETS

LOCAL = {"Host": "127.0.0.1:8050"}
RELEVANCE = {"recency": 0.0, "importance": 0.0, "relevance": 1.0}
BALANCED = dict(zip(RELEVANCE, PRESETS["balanced"], strict=True))


@pytest.fixture
def client(session):
    """Asks the server as a browser does."""
    maps = session.run(lambda: make_maps(session.index.blocks.engine))
    app = make_app(AppState(session=session, maps=maps, matrices=None, name="small"))
    return app.server.test_client()


def ask(
    client,
    output: str | dict,
    inputs: list,
    *,
    changed: str,
    prop: str = "children",
    state: tuple[dict, ...] = (),
):
    """What a callback puts into a property of a component, or several of one kind."""
    several = isinstance(output, list)
    target = [{"id": one, "property": prop} for one in output] if several else None
    key = '{"of":["ALL"],"type":"block"}' if several else output
    answer = client.post(
        "/_dash-update-component",
        headers=LOCAL,
        json={
            "output": f"{key}.{prop}",
            "outputs": target or {"id": output, "property": prop},
            "inputs": inputs,
            "changedPropIds": [changed],
            "state": state,
        },
    )
    assert answer.status_code == 200, answer.text
    return answer.json["response"]


def given(name, value, *, prop: str = "value") -> dict:
    return {"id": name, "property": prop, "value": value}


def rank(
    client,
    text: str | None = None,
    *,
    other: str | None = None,
    blocks: dict[str, float] | None = None,
    riv: dict[str, float] = RELEVANCE,
    scope: str = "block",
    toward: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    chosen: str | None = None,
    compared: list | None = None,
    rated: list | None = None,
    liked: float = 1.0,
) -> dict:
    """The component on the right; that on the left without weights."""
    inputs = [given("text", text), given("other", other), given("block", "style")]
    if blocks is None:
        return ask(client, "default", inputs, changed="text.value")["default"]["children"]
    values = [blocks.get(name, 0.0) for name in LAYOUT]
    inputs += [
        [given({"type": "block", "of": n}, value) for n, value in enumerate(values)],
        [given({"type": "part", "of": part}, value) for part, value in riv.items()],
        given("scope", scope),
        [given({"type": "toward", "of": n}, value) for n, value in enumerate(toward)],
        [given({"type": "class", "of": 0}, chosen)],
        given("comparisons", compared or [], prop="data"),
        given("ratings", rated or [], prop="data"),
        given({"type": "liked", "of": "liked"}, liked),
    ]
    return ask(client, "weighted", inputs, changed="text.value")["weighted"]["children"]


def press(client, button: str | int) -> list[float]:
    """The sliders after a click on a button beside them."""
    buttons = ["default", "equal", *range(len(LAYOUT))]
    ids = [{"type": "only", "of": of} for of in buttons]
    clicks = [given(one, 1 if one["of"] == button else None, prop="n_clicks") for one in ids]
    name = f'"{button}"' if isinstance(button, str) else button
    sliders = [{"of": n, "type": "block"} for n in range(len(LAYOUT))]
    changed = f'{{"of":{name},"type":"only"}}.n_clicks'
    found = ask(client, sliders, [clicks], changed=changed, prop="value")
    return [found[f'{{"of":{n},"type":"block"}}']["value"] for n in range(len(LAYOUT))]


def find(component, kind: str) -> list[dict]:
    """Properties of all components of a kind, in order."""
    if isinstance(component, list):
        return [found for part in component for found in find(part, kind)]
    if not isinstance(component, dict):
        return []
    own = [component["props"]] if component["type"] == kind else []
    return own + find(component["props"].get("children"), kind)


def shown(component) -> list[str]:
    return [bold["children"] for bold in find(component, "B")]


def best(index, query, **options) -> list[str]:
    return [hit.id for hit in index.search(query, k=8, **options)]


@pytest.mark.parametrize("scope", ["block", "item"])
@pytest.mark.parametrize("riv", [RELEVANCE, BALANCED], ids=["relevance", "balanced"])
def test_both_rankings_are_searches_and_the_weights_can_be_taken_along(client, index, scope, riv):
    blocks = {"topic": 0.4, "specificity": 1.0}
    right, left = rank(client, QUERY, blocks=blocks, riv=riv, scope=scope), rank(client, QUERY)
    (code,) = find(right, "Code")
    assert shown(right) == best(index, QUERY, weights=code["children"], scope=scope)
    assert shown(left) == best(index, QUERY) != shown(right)
    assert find(left, "Code")[0]["children"] == "topic=2,style=0.5"
    wanted = "topic=0.4,specificity=1" + (",riv=0.33,0.33,0.34" if riv is BALANCED else "")
    assert code["children"] == wanted
    moves = [part["className"] for part in find(right, "Span") if "move" in part["className"]]
    assert len(moves) == 8
    assert "move up" in moves


def test_sliders_toward_factors_and_a_class_rank_as_a_search_toward_them(client, index):
    plain = shown(rank(client, QUERY, blocks={"topic": 1}))
    number, _ = rank_toward(client, {"specificity": -1.0})
    assert number == best(index, QUERY, weights="topic=1", toward="specificity=-1") != plain
    both, codes = rank_toward(client, {"complexity": 1.5}, chosen="style:calm", count=-0.5)
    toward = "complexity=1.5,style:calm=-0.5"
    assert both == best(index, QUERY, weights="topic=1", toward=toward) != plain
    assert codes == ["topic=1", f"toward {toward}"]
    # A slider toward a class does nothing before one is chosen.
    assert rank_toward(client, {}, count=1.0) == (plain, ["topic=1"])


def rank_toward(client, numbers: dict[str, float], *, chosen=None, count: float = 0.0):
    """The hits under the weight of a topic, and the lines that say what they are of."""
    layout = client.get("/_dash-layout", headers=LOCAL).json
    names = [s["title"] for s in find(layout, "Span") if "toward" in s.get("aria-label", "")]
    assert names == ["complexity", "specificity", "style", "class"]
    toward = tuple({**numbers, "class": count}.get(name, 0.0) for name in names)
    found = rank(client, QUERY, blocks={"topic": 1}, toward=toward, chosen=chosen)
    return shown(found), [code["children"] for code in find(found, "Code")]


def curve(client, text: str, *, changed: str, drawn=None, own: float = 0.5) -> tuple[list, dict]:
    """The figures below the sliders (None if they stay), and what they are of."""
    inputs = [given("text", text), given("other", None), given("block", "style")]
    inputs += [
        [given({"type": "block", "of": n}, own if n == 1 else 0.5) for n in range(len(LAYOUT))],
        [given({"type": "part", "of": part}, value) for part, value in RELEVANCE.items()],
        given("scope", "block"),
    ]
    asked = {
        "output": "..curve.children...moved.data..",
        "outputs": [{"id": "curve", "property": "children"}, {"id": "moved", "property": "data"}],
        "inputs": inputs,
        "changedPropIds": [changed],
        "state": [given("moved", drawn, prop="data")],
    }
    answer = client.post("/_dash-update-component", headers=LOCAL, json=asked)
    assert answer.status_code == 200, answer.text
    found = answer.json["response"]
    graphs = find(found["curve"]["children"], "Graph") if "curve" in found else None
    return graphs, found["moved"]["data"]


def test_the_curve_is_of_the_slider_that_was_moved_last(client):
    def title(graphs) -> str:
        return graphs[0]["figure"]["layout"]["xaxis"]["title"]["text"]

    graphs, drawn = curve(client, QUERY, changed="text.value")
    assert (title(graphs), drawn["place"]) == (f"weight of {LAYOUT.names[2]}", 2)  # first idle one
    slider = '{"of":1,"type":"block"}.value'
    graphs, drawn = curve(client, QUERY, changed=slider, drawn=drawn)
    assert (title(graphs), drawn["place"]) == (f"weight of {LAYOUT.names[1]}", 1)
    # Moved on, it stays as it is; another query draws it again.
    assert curve(client, QUERY, changed=slider, drawn=drawn, own=0.9) == (None, drawn)
    graphs, again = curve(client, OTHER, changed="text.value", drawn=drawn)
    assert (title(graphs), again["place"]) == (f"weight of {LAYOUT.names[1]}", 1)
    assert curve(client, " ", changed="text.value", drawn=drawn)[0] == []


def test_the_sliders_begin_with_the_default_weights(client):
    layout = client.get("/_dash-layout", headers=LOCAL).json
    sliders = {
        props["id"]["of"]: props["value"]
        for props in find(find(layout, "Tab")[0]["children"], "Slider")
        if props["id"]["type"] == "block"
    }
    assert [sliders[n] for n in range(len(LAYOUT))] == [1.0, 0.25, 0.0, 0.0, 0.0]


def test_buttons_set_the_sliders(client):
    assert press(client, "equal") == [1.0] * len(LAYOUT)
    assert press(client, "default") == [1.0, 0.25, 0.0, 0.0, 0.0]
    assert press(client, 0) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert press(client, 3) == [0.0, 0.0, 0.0, 1.0, 0.0]


def test_two_texts_are_one_composed_query(client, index):
    query = {**dict.fromkeys(LAYOUT, QUERY), "style": OTHER}
    weights = dict.fromkeys(LAYOUT, 1.0)
    both = shown(rank(client, QUERY, other=OTHER, blocks=weights))
    assert both == best(index, query, weights=weights) != best(index, QUERY, weights=weights)


def test_a_text_of_100_000_characters_is_searched_and_an_empty_one_is_not(client, index):
    long = "bread and soup " * 6667
    assert shown(rank(client, long)) == best(index, long)
    for empty in ("   ", None):
        assert rank(client, empty)["props"]["children"] == "Type a query."
        assert rank(client, empty, blocks={"topic": 1})["props"]["children"] == "Type a query."


def test_weights_that_are_all_0_are_refused_and_the_page_goes_on(client, index):
    message = rank(client, QUERY, blocks={})["props"]
    assert message["className"] == "error"
    assert "at least one weight must be above 0" in message["children"]
    assert shown(rank(client, QUERY, blocks={"topic": 1})) == best(index, QUERY, weights="topic=1")


def test_the_map_is_drawn_and_a_missing_report_says_how_to_make_one(client):
    inputs = [given("label", "style"), given("narrow", False, prop="data")]
    figure = ask(client, "map", inputs, changed="label.value", prop="figure")
    traces = figure["map"]["figure"]["data"]
    assert sum(len(trace["x"]) for trace in traces) == (len(TEXTS) + 1) * len(LAYOUT)
    assert {trace["name"] for trace in traces} == {"calm", "loud"}
    layout = client.get("/_dash-layout", headers=LOCAL).text
    assert "subspace probe --checkpoint" in layout


def test_a_page_by_another_name_gets_nothing_and_the_browser_may_load_nothing_else(client):
    answer = client.get("/", headers=LOCAL)
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
    layout = client.get("/_dash-layout", headers={"Host": "localhost"}).text
    assert all(name in layout for name in (*PRESETS, *LAYOUT))


@pytest.mark.parametrize(
    "body",
    ["{}", "[]", "null", "[" * 100_000, "{", '{"output": 3}', '{"output": "map.figure"}', "\x00"],
)
def test_a_request_that_no_page_sends_is_refused_without_a_trace(client, body, caplog, capfd):
    answer = client.post(
        "/_dash-update-component",
        headers={**LOCAL, "Content-Type": "application/json"},
        data=body,
    )
    assert answer.status_code == 400
    assert "Content-Security-Policy" in answer.headers
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())
    assert client.get("/", headers=LOCAL).status_code == 200


def test_ratings_of_hits_change_the_ranking_at_once(client, index):
    names = list(TEXTS)
    loud = {name: float("!!!" in text) for name, text in TEXTS.items()}
    rated = [[f"query {n}", name, loud[name]] for n in range(12) for name in np.roll(names, n)[:6]]
    before = rank(client, QUERY, blocks={"topic": 1})
    after = rank(client, QUERY, blocks={"topic": 1}, rated=rated)
    note = find(after, "P")[1]["children"]
    assert note.startswith(f"{len(rated)} ratings, ")
    learned = "trusted" in note
    assert (shown(after) != shown(before)) == learned
    assert shown(rank(client, QUERY, blocks={"topic": 1}, rated=rated, liked=0)) == shown(before)
    first = index.search(QUERY)[0].id
    few = rank(client, QUERY, blocks={"topic": 1}, rated=[[QUERY, first, 1.0]])
    assert shown(few) == shown(before)
    assert "'liked' has 1 rating, which" in find(few, "P")[1]["children"]
    pressed = [b["id"] for b in find(few, "Button") if b["className"] == "on"]
    assert pressed == [{"type": "rate", "item": first, "success": 1}]


def click(
    client,
    store: str,
    button: str | dict,
    *,
    others: tuple[str, ...],
    state: list[dict],
    clicks: int | None = 1,
):
    """What a store holds after a click on a button of a list or another one; None if it stays.

    Args:
        client: Asks the server.
        store: Name of the store.
        button: The button that was clicked, by its id.
        others: Names of all buttons that are in no list.
        state: What the callback reads beside the clicks.
        clicks: How often a button of the list was clicked; None for a list that is new.
    """
    alone = isinstance(button, str)
    name = button if alone else json.dumps(button, sort_keys=True, separators=(",", ":"))
    answer = client.post(
        "/_dash-update-component",
        headers=LOCAL,
        json={
            "output": f"{store}.data",
            "outputs": {"id": store, "property": "data"},
            "inputs": [
                [] if alone else [given(button, clicks, prop="n_clicks")],
                *(given(other, 1, prop="n_clicks") for other in others),
            ],
            "changedPropIds": [f"{name}.n_clicks"],
            "state": state,
        },
    )
    assert answer.status_code == 200, answer.text
    return answer.json["response"].get(store, {}).get("data")


def test_a_click_adds_a_rating_and_a_second_one_changes_it(client):
    def rate(button: int | str, rated: list, *, clicks: int | None = 1) -> list | None:
        of = {"type": "rate", "item": "a.b", "success": button}
        state = [given("text", QUERY), given("ratings", rated, prop="data")]
        one = button if isinstance(button, str) else of
        return click(client, "ratings", one, others=("forget",), state=state, clicks=clicks)

    others = [[OTHER, "a.b", 1.0]]
    once = rate(1, others)
    assert once == [*others, [QUERY, "a.b", 1.0]]
    assert rate(0, once) == [*others, [QUERY, "a.b", 0.0]]
    assert rate(1, once, clicks=None) is None  # the buttons of a new ranking
    assert rate("forget", once) == []


def pair_shown(client, answers: list) -> list[dict]:
    """The ids of the two buttons that ask which text has more complexity."""
    inputs = [given("compared", "complexity"), given("comparisons", answers, prop="data")]
    found = ask(client, "pair", inputs, changed="compared.value")["pair"]["children"]
    return [button["id"] for button in find(found, "Button")]


def answer(client, answers: list, *, button: str | dict, clicks: int | None = 1) -> list | None:
    """The answers after a click on a text of the pair, `skip` or `undo`; None if all stays."""
    state = [given("compared", "complexity"), given("comparisons", answers, prop="data")]
    others = ("skip", "undo")
    return click(client, "comparisons", button, others=others, state=state, clicks=clicks)


def test_every_answer_asks_about_two_other_texts_and_can_be_taken_back(client):
    one, other = pair_shown(client, [])
    assert {one["more"], one["less"]} == {other["more"], other["less"]} <= {*TEXTS, "markup"}
    assert one["more"] == other["less"]
    answers = answer(client, [], button=other)
    assert answers == [["complexity", other["more"], other["less"]]]
    assert answer(client, answers, button=other, clicks=None) is None  # the buttons of a new pair
    assert answer(client, answers, button=one) is None  # pressed before the new pair was there
    second = pair_shown(client, answers)
    assert {second[0]["more"], second[0]["less"]} != {one["more"], one["less"]}
    skipped = answer(client, answers, button="skip")
    assert skipped == [*answers, ["complexity", "", ""]]
    assert pair_shown(client, skipped) != second
    assert answer(client, skipped, button="undo") == answers
    elsewhere = [["other", "a", "b"]]
    assert answer(client, elsewhere, button="undo") == elsewhere
    assert pair_shown(client, [["complexity", "", ""]] * 200) == []


def test_answers_turn_what_a_slider_does_at_once_and_can_be_saved(client, index, tmp_path):
    """Who says the opposite of the model's order gets the opposite."""
    direction = index.model.direction("complexity")
    names = list(TEXTS)
    scores = dict(zip(names, index.blocks.engine.fetch(names).vectors @ direction, strict=True))
    pairs = [(a, b) for a in names for b in names if scores[a] < scores[b]]
    answers = [["complexity", *pair] for pair in pairs] + [["complexity", "", ""]]
    options = {"blocks": {"topic": 1}, "toward": (1.0, 0.0, 0.0, 0.0)}
    before = rank(client, QUERY, **options)
    after = rank(client, QUERY, **options, compared=answers)
    view = index.view()
    view.adapt(comparisons=[Comparison(*one) for one in answers[:-1]])
    assert view.model.adapted["factors"]["complexity"]["trust"] > 0
    asked = {"weights": "topic=1", "toward": "complexity=1"}
    assert shown(after) == best(view, QUERY, **asked)
    assert shown(after) != shown(before) == best(index, QUERY, **asked)
    assert f"complexity: {len(pairs)} answers, trusted" in find(after, "P")[1]["children"]
    few = rank(client, QUERY, **options, compared=answers[:4])
    assert shown(few) == shown(before)
    assert "4 answers; from 5 on they count" in find(few, "P")[1]["children"]
    middle = rank(client, QUERY, blocks={"topic": 1}, compared=answers)
    assert "move the slider toward complexity to see it" in find(middle, "P")[1]["children"]
    none = [["complexity", "gone", f"gone {n}"] for n in range(5)]
    gone = rank(client, QUERY, **options, compared=none)
    assert "not in the index any more" in find(gone, "P")[1]["children"]
    pressed = [given("save", 1, prop="n_clicks")]
    kept = (given("comparisons", answers, prop="data"),)
    saved = ask(client, "saved", pressed, changed="save.n_clicks", prop="data", state=kept)
    file = saved["saved"]["data"]
    assert file["filename"] == "comparisons.jsonl"
    (tmp_path / "saved.jsonl").write_text(file["content"], encoding="utf-8")
    found = read_comparisons(tmp_path / "saved.jsonl")
    assert [[one.factor, one.more, one.less] for one in found] == answers[:-1]
