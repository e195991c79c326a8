"""Layout of the page: a query, sliders for the weights, two rankings, maps and heat maps."""

from collections.abc import Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from subspace.evaluation.heat_maps import PROBE_TITLES
from subspace.explore.colours import LIKED_COLOUR, PART_COLOURS, colour
from subspace.explore.maps import BlockMaps
from subspace.explore.separation_heat_maps import ProbeMatrix
from subspace.explore.session import Session
from subspace.retrieval import PRESETS
from subspace.retrieval.weights import PARTS

# Buttons that set the sliders of all blocks.
ALL_EQUAL, DEFAULT = "equal", "default"

_STEP = 0.05
_CURVE = (
    "What the weight of the block that was moved last does to the ten best hits. Relevance kept: "
    "their score under the default weights, beside that of the default ranking. Nearer: their "
    "cosine to the query in the block, in standard deviations of its cosines between texts."
)
_RATE = (
    "Rate hits under Your weights with + and -, good and bad ones of each search: from five "
    "pairs on, the ranking goes toward what you like. `subspace adapt --ratings` keeps such a "
    "direction; this page forgets it."
)
_LEGEND = (
    "Left: the ranking of a search without weights. Arrows: ranks gained and lost against it. "
    "Bars: what each block adds to the score, above what it adds to an average text of the index; "
    "left of the dark line, how far it is below. Point at a bar for its numbers. A weight counts "
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
            ),
            dcc.Store(id="mixes", data=dict(PRESETS)),
            dcc.Store(id="moved"),
            dcc.Store(id="ratings", data=[]),
        ]
    )


def _search_tab(session: Session) -> Component:
    columns = [
        html.Section([html.H2(title), html.Div(id=name)])
        for name, title in (("default", "Default weights"), ("weighted", "Your weights"))
    ]
    controls = [
        *_block_controls(session),
        *_history_controls(has_log=session.index.blocks.history is not None),
        *_liked_controls(),
        html.P(_LEGEND, className="note legend"),
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
            html.Span("but"),
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
            html.Button("only", id={"type": "only", "of": position}),
        ],
        className="slider",
    )


def _history_controls(*, has_log: bool) -> list[Component]:
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
    return [
        html.H3(["Recency, importance, relevance"]),
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


def _liked_controls() -> list[Component]:
    """Lays out how much what was liked counts."""
    forget = html.Button("forget", id="forget", title="forgets all ratings of this page")
    return [
        html.H3(["What you like", html.Span([forget])]),
        html.Div(
            [
                html.I(className="dot", style={"background": LIKED_COLOUR}),
                html.Span("liked", className="name"),
                _slider({"type": "liked", "of": "liked"}, value=1.0),
            ],
            className="slider",
        ),
        html.P(_RATE, className="note"),
    ]


def _slider(name: dict[str, Any], *, value: float, on: bool = True) -> Component:
    return dcc.Slider(
        0,
        1,
        _STEP,
        value=value,
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
                    "Coloured by",
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
