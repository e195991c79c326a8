"""A row shows how far a hit moved, and what its score is made of."""

import json

from subspace.blocks import BlockLayout
from subspace.explore.colours import colour
from subspace.explore.rankings import SHOWN, show_left, show_ranking, show_summary
from subspace.explore.session import Ranking
from subspace.retrieval import Hit, Results, Weights

SMALL = BlockLayout.from_widths({"topic": 3, "style": 1})
MARKUP = "<img src=x onerror=alert(1)><b>bold</b>"


def make_hit(name: str, *, topic: float, style: float = 0.0, text: str = "text") -> Hit:
    nothing = {"recency": 0.0, "importance": 0.0}
    parts = {
        "topic": {**nothing, "relevance": topic},
        "style": {**nothing, "relevance": style},
    }
    return Hit(id=name, text=text, score=topic + style, parts=parts, metadata={"style": "calm"})


def rows(hits: list[Hit], *, before: dict[str, int] | None = None) -> list[dict]:
    """A ranking as it is sent to the browser."""
    found = Results(tuple(hits), "q", Weights.equal(SMALL), "block")
    ranking = Ranking(found, make_hit("average", topic=0.1, style=0.1))
    shown = show_ranking(ranking, factors=("style",), before=before)
    sent = json.loads(json.dumps(shown, default=lambda part: part.to_plotly_json()))
    return sent["props"]["children"]


def texts_of(component) -> list[str]:
    if isinstance(component, str):
        return [component]
    if isinstance(component, dict):
        return texts_of(component["props"].get("children"))
    return [text for part in component or [] for text in texts_of(part)]


def test_a_row_says_where_a_hit_was_before():
    a, b, c = (make_hit(name, topic=0.5) for name in "abc")
    moved = rows([b, a, c], before={"a": 1, "b": 2})
    assert [texts_of(row)[0] for row in moved] == ["▲1", "▼1", "new"]
    assert [texts_of(row)[0] for row in rows([b, a, c])] == ["b", "a", "c"]


def test_what_entered_and_what_left_is_said_in_words_and_marked():
    names = [*"abcdefghij"]
    hits = [make_hit(name, topic=1 - 0.01 * n) for n, name in enumerate(names)]
    ranking = Ranking(
        Results(tuple(hits), "q", Weights.equal(SMALL), "block"), make_hit("average", topic=0.1)
    )

    def said(before: dict[str, int]) -> tuple[str, list[str], list[str]]:
        summary = show_summary(ranking, before=before).to_plotly_json()["props"]
        assert summary["role"] == "status"
        marked = [row["props"]["className"] for row in rows(hits, before=before)]
        entered = [name for name, kind in zip(names, marked, strict=False) if kind == "entered"]
        badges = [texts_of(row).count("entered") for row in rows(hits, before=before)]
        assert badges == [int(kind == "entered") for kind in marked]
        left = json.dumps(
            show_left(ranking, before=before), default=lambda part: part.to_plotly_json()
        )
        return summary["children"], entered, texts_of(json.loads(left))

    same = {name: rank for rank, name in enumerate(names, start=1)}
    assert said(same) == ("the ranking of the default weights", [], [])
    swapped = {**same, "a": 2, "b": 1}
    assert said(swapped) == ("the same hits in another order", [], [])
    # i and z were shown, c and d were not: c was 9th and d beyond what is ranked.
    before = {**same, "i": 3, "c": SHOWN + 1, "z": 4}
    del before["d"]
    title = f"Left the first {SHOWN}"
    assert said(before) == (
        f"2 entered, 2 left the first {SHOWN}",
        ["c", "d"],
        [title, "▼ 3 → 9", "i", "▼ 4 → after 100", "z"],
    )


def test_bars_are_what_each_block_has_above_an_average_text():
    """0.3 above and 0.2 below it: the dark line is at two fifths of the bar."""
    (row,) = rows([make_hit("a", topic=0.4, style=-0.1)])
    bar = next(part["props"] for part in row["props"]["children"] if "bar" in str(part["props"]))
    gradient = bar["style"]["background"].split("to right, ")[1]
    stops = [stop.split(" ", 1)[1] for stop in gradient.split(", ")]
    assert stops[1:3] == ["0.00% 40.00%", "40.00% 100.00%"]
    assert gradient.split(", ")[1].startswith(colour(1))  # style, the second block
    assert ") 40.00% 0 / 1px" in bar["style"]["background"]
    assert bar["title"].splitlines()[1] == "style -0.100, -0.200 above average"


def test_markup_stays_text_and_a_missing_text_is_reported():
    marked, silent = rows([make_hit(MARKUP, topic=1, text=MARKUP), make_hit("a", topic=1, text="")])
    assert texts_of(marked).count(MARKUP) == 2  # as a component's text: no browser makes it markup
    assert texts_of(silent)[-1] == "(no text)"
    assert "index is empty" in rows([])
