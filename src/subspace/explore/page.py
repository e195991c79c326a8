"""Layout of the page: a query, sliders for the weights, two rankings, maps and heat maps."""

import json
from collections.abc import Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from subspace.data.records import Record
from subspace.evaluation.heat_maps import PROBE_TITLES
from subspace.explore.colours import GREY, LIKED_COLOUR, PART_COLOURS, colour
from subspace.explore.comparing import compared_factors
from subspace.explore.maps import BlockMaps
from subspace.explore.separation_heat_maps import ProbeMatrix
from subspace.explore.session import Session
from subspace.retrieval import PRESETS
from subspace.retrieval.weights import PARTS

# Buttons that set the sliders of all blocks.
ALL_EQUAL, DEFAULT = "equal", "default"

_STEP = 0.05
# Characters of a text that is compared.
_LONGEST = 300
# A slider toward a factor goes from less of it to more, in standard deviations of relevance.
_MOST_TOWARD, _STEP_TOWARD = 2.0, 0.25
_CURVE = (
    "What the weight of the block that was moved last does to the ten best hits. Relevance kept: "
    "their score under the default weights, beside that of the default ranking. Nearer: their "
    "cosine to the query in the block, in standard deviations of its cosines between texts."
)
_TOWARD = (
    "Right of the middle: more of the factor or class; left: less. At 1, one standard deviation of "
    "it counts as much as one of relevance."
)
_RATE = (
    "Rate hits under Your weights with + and -, good and bad ones of each search: from five "
    "pairs on, the ranking goes toward what you like. `subspace adapt --ratings` keeps such a "
    "direction; this page forgets it."
)
_COMPARE = (
    "Choose the text that has more of the factor. From five answers on, the slider toward it "
    "follows them: move it to see. `save` gives a file for `subspace adapt --comparisons`; this "
    "page forgets them."
)
_LEGEND = (
    "Default weights: the ranking of a search without weights. Arrows: ranks gained and lost "
    "against it; entered: not among its first eight. "
    "Bars: what each block adds to the score, above what it adds to an average text of the index; "
    "left of the thin line, how far it is below. Point at a bar for its numbers. A weight counts "
    "as much in every block: scores are brought to the standard deviation of the first block's."
)


def lay_out(
    *, session: Session, maps: BlockMaps, matrices: Sequence[ProbeMatrix] | None, name: str
) -> Component:
    """Lays out the page; the callbacks of the app fill in rankings and figures."""
    about = f"{name}: {maps.count:,} texts, {len(session.layout)} blocks"
    tabs = {
        "Search": _search_tab(session),
        "Map of the blocks": _map_tab(maps),
        "Separation": _separation_tab(matrices),
    }
    return html.Div(
        [
            html.Header([html.H1("subspace explore"), html.Span(about)]),
            dcc.Tabs(
                [
                    dcc.Tab(
                        content,
                        label=title,
                        value=title,
                        className="tab",
                        selected_className="selected",
                    )
                    for title, content in tabs.items()
                ],
                value="Search",
                parent_className="tabs",
                mobile_breakpoint=0,
            ),
            dcc.Store(id="mixes", data=dict(PRESETS)),
            dcc.Store(id="moved"),
            dcc.Store(id="narrow", data=False),
            dcc.Store(id="ratings", data=[]),
            dcc.Store(id="comparisons", data=[]),
            dcc.Download(id="saved"),
        ]
    )


def _search_tab(session: Session) -> Component:
    columns = [
        html.Section([html.H2(title), html.Div(id=name)], className=f"column-{name}")
        for name, title in (("default", "Default weights"), ("weighted", "Your weights"))
    ]
    controls = [
        *_block_controls(session),
        *_toward_controls(session),
        _history_controls(has_log=session.index.blocks.history is not None),
        _liked_controls(),
        *_compare_controls(session),
        _group("How to read it", [html.P(_LEGEND, className="note")]),
    ]
    return html.Div(
        [
            _query_line(list(session.layout)),
            html.Div([html.Aside(controls), html.Main(columns)], className="search"),
        ]
    )


def _query_line(names: list[str]) -> Component:
    second = "style" if "style" in names else names[-1]
    return html.Div(
        [
            html.Label("Query", htmlFor="text"),
            dcc.Input(
                id="text", debounce=True, placeholder="type, then press Enter", autoFocus=True
            ),
            html.Label("but", htmlFor="block"),
            dcc.Dropdown(names, second, id="block", clearable=False, searchable=False),
            html.Label("like", htmlFor="other"),
            dcc.Input(id="other", debounce=True, placeholder="another text, or nothing"),
        ],
        className="line query",
    )


def default_mix(session: Session) -> list[float]:
    """Returns values of the sliders: the model's default weights divided by the largest."""
    weights = session.default_weights.relevance
    return [weight / max(weights) for weight in weights]


def _block_controls(session: Session) -> list[Component]:
    buttons = [
        html.Button("default", id={"type": "only", "of": DEFAULT}),
        html.Button("all equal", id={"type": "only", "of": ALL_EQUAL}),
    ]
    sliders = zip(session.layout, default_mix(session), strict=True)
    return [
        html.H3(["Blocks", html.Span(buttons)]),
        *(_block_slider(n, name, value=value) for n, (name, value) in enumerate(sliders)),
        html.Div(id="curve", title=_CURVE),
    ]


def _block_slider(position: int, name: str, *, value: float) -> Component:
    return html.Div(
        [
            html.I(className="dot", style={"background": colour(position)}),
            html.Span(name, className="name", title=name),
            _slider({"type": "block", "of": position}, value=value),
            html.Button("only", id={"type": "only", "of": position}, **_label(f"only {name}")),
        ],
        className="slider",
    )


def numbers_and_classes(session: Session) -> tuple[list[str], list[str]]:
    """Returns the names of the model's directions: those of factors, and those of classes."""
    names = list(session.index.model.directions)
    return [name for name in names if ":" not in name], [name for name in names if ":" in name]


def _toward_controls(session: Session) -> list[Component]:
    """Lays out a slider per factor that is a number or has two classes, and one for any class."""
    numbers, classes = numbers_and_classes(session)
    places = {name: place for place, name in enumerate(session.layout)}
    rows: list[Component] = [
        _toward_slider(n, name, shade=colour(places[name]) if name in places else GREY)
        for n, name in enumerate(numbers)
    ]
    if classes:
        name = {"type": "class", "of": 0}
        rows += [
            html.Label(
                "one class", htmlFor=json.dumps(name, sort_keys=True, separators=(",", ":"))
            ),
            dcc.Dropdown(classes, id=name, placeholder="factor:class"),
            _toward_slider(len(numbers), "class", shade=GREY),
        ]
    return [_group("Toward", [*rows, html.P(_TOWARD, className="note")])] if rows else []


def _toward_slider(position: int, name: str, *, shade: str) -> Component:
    return html.Div(
        [
            html.I(className="dot", style={"background": shade}),
            html.Span(name, className="name", title=name, **_label(f"toward {name}")),
            _slider(
                {"type": "toward", "of": position},
                value=0.0,
                span=(-_MOST_TOWARD, _MOST_TOWARD, _STEP_TOWARD),
            ),
        ],
        className="slider",
    )


def _group(title: str, content: list[Component]) -> Component:
    """Lays out controls that can be folded away; in a narrow window they begin folded."""
    return html.Details([html.Summary(title), *content], open=True, className="group")


def _label(text: str) -> dict[str, Any]:
    # Not a name that Python takes as a keyword.
    return {"aria-label": text}


def _history_controls(*, has_log: bool) -> Component:
    """Lays out the sliders of recency, importance and relevance; disabled without a usage log."""
    sliders: list[Component] = [
        html.Div(
            [
                html.I(className="dot", style={"background": shade}),
                html.Span(part, className="name"),
                _slider({"type": "part", "of": part}, value=float(part == "relevance"), on=has_log),
            ],
            className="slider",
        )
        for part, shade in zip(PARTS, PART_COLOURS, strict=True)
    ]
    if not has_log:
        why = "Recency and importance come from a usage log: start with --usage F."
        sliders.append(html.P(why, className="note"))
    options = [{"label": name.replace("_", " "), "value": name} for name in PRESETS]
    content = [
        html.Label("mix", htmlFor="preset"),
        dcc.Dropdown(options, id="preset", placeholder="mixes by name", disabled=not has_log),
        *sliders,
        dcc.RadioItems(
            [
                {"label": "per block", "value": "block", "disabled": not has_log},
                {"label": "per item", "value": "item", "disabled": not has_log},
            ],
            "block",
            id="scope",
            inline=True,
        ),
    ]
    return _group("Recency, importance, relevance", content)


def _liked_controls() -> Component:
    """Lays out how much what was liked counts."""
    forget = html.Button("forget", id="forget", title="forgets all ratings of this page")
    row = [
        html.I(className="dot", style={"background": LIKED_COLOUR}),
        html.Span("liked", className="name"),
        _slider({"type": "liked", "of": "liked"}, value=1.0),
        forget,
    ]
    content: list[Component] = [
        html.Div(row, className="slider"),
        html.P(_RATE, className="note"),
    ]
    return _group("What you like", content)


def _compare_controls(session: Session) -> list[Component]:
    """Lays out the question which of two texts has more of a factor; nothing without numbers."""
    factors = compared_factors(session.index.model)
    if not factors:
        return []
    buttons = [
        html.Button("skip", id="skip", title="asks about two other texts"),
        html.Button("undo", id="undo", title="takes the last answer back"),
        html.Button("save", id="save", title="saves the answers as JSONL"),
    ]
    content: list[Component] = [
        html.Div(
            [
                html.Label("more", htmlFor="compared"),
                dcc.Dropdown(factors, factors[0], id="compared", clearable=False, searchable=False),
            ],
            className="line",
        ),
        html.Div(id="pair"),
        html.Div(buttons, className="line"),
        html.P(_COMPARE, className="note"),
    ]
    return [_group("Which has more?", content)]


def show_pair(factor: str, pair: Sequence[Record]) -> list[Component]:
    """Makes two buttons with the texts of a pair; whichever is pressed has more of the factor."""
    buttons: list[Component] = []
    for more, less in (pair, pair[::-1]):
        cut = more.text if len(more.text) <= _LONGEST else more.text[: _LONGEST - 1] + "…"
        button = html.Button(
            cut,
            id={"type": "more", "of": factor, "more": more.id, "less": less.id},
            className="choice",
            title=more.text,
        )
        buttons.append(button)
    return buttons


def _slider(
    name: dict[str, Any],
    *,
    value: float,
    on: bool = True,
    span: tuple[float, float, float] = (0.0, 1.0, _STEP),
) -> Component:
    low, high, step = span
    return dcc.Slider(
        low,
        high,
        step,
        value=value,
        included=not low,  # a bar from the left would say that the middle is half of something
        marks=None,
        id=name,
        disabled=not on,
        updatemode="drag",
        allow_direct_input=False,
        tooltip={"placement": "top"},
    )


def _map_tab(maps: BlockMaps) -> Component:
    drawn = len(maps.documents)
    sample = "" if drawn == maps.count else f"A sample of {drawn:,} of the {maps.count:,} texts. "
    labels = list(maps.labels)
    return html.Div(
        [
            html.Div(
                [
                    html.Label("Coloured by", htmlFor="label"),
                    dcc.Dropdown(
                        labels,
                        labels[0] if labels else None,
                        id="label",
                        clearable=False,
                        placeholder="no labels: give --data F.jsonl",
                        disabled=not labels,
                    ),
                    html.Span(
                        f"{sample}Axes: the first two principal components of each block, with "
                        "their share of its variance.",
                        className="note",
                    ),
                ],
                className="line",
            ),
            dcc.Graph(id="map", config={"displayModeBar": False}),
        ],
        className="figures",
    )


def _separation_tab(matrices: Sequence[ProbeMatrix] | None) -> Component:
    if matrices is None:
        how = html.P("No separation report was given. Make one, then start with --report DIR:")
        command = html.Pre("subspace probe --checkpoint K --data FOLDER... --output DIR")
        return html.Div([how, command], className="figures", id="no-report")
    probes = list(dict.fromkeys(matrix.probe for matrix in matrices))
    if not probes:
        return html.Div(html.P("The report holds no matrices: no factor could be read."))
    return html.Div(
        [
            dcc.RadioItems(
                [{"label": PROBE_TITLES[probe], "value": probe} for probe in probes],
                probes[0],
                id="probe",
                inline=True,
            ),
            dcc.Graph(id="separation", config={"displayModeBar": False}),
            html.P(
                "Score of probes that read a factor (column) from a block (row), confounds "
                "controlled, divided by their score on the raw embedding: 1 is the same, 0 is "
                "chance.",
                className="note",
            ),
        ],
        className="figures",
    )
