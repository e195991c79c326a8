"""The page: a query, sliders for the weights, and what they do to the ranking."""

from collections.abc import Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from subspace.evaluation.heat_maps import PROBE_TITLES
from subspace.explore.colours import PART_COLOURS, colour
from subspace.explore.maps import BlockMaps
from subspace.explore.separation_heat_maps import ProbeMatrix
from subspace.explore.session import Session
from subspace.retrieval import PRESETS
from subspace.retrieval.weights import PARTS

_STEP = 0.05
_LEGEND = (
    "Left: what a search gives without weights; the index keeps no raw embeddings to compare with. "
    "Arrows: ranks gained and lost against it. Bars: what each block adds above an average text of "
    "the index, left of the dark line what it lacks. Point at a bar for its numbers."
)


def lay_out(
    *, session: Session, maps: BlockMaps, matrices: Sequence[ProbeMatrix] | None, name: str
) -> Component:
    """Everything but what the answers put in."""
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
        ]
    )


def _search_tab(session: Session) -> Component:
    columns = [
        html.Section([html.H2(title), html.Div(id=name)])
        for name, title in (("equal", "Equal weights of all blocks"), ("weighted", "Your weights"))
    ]
    controls = [
        *_block_controls(session),
        *_history_controls(has_log=session.searcher.index.history is not None),
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


def _block_controls(session: Session) -> list[Component]:
    """A slider each; in standard deviations from the start where weights would hardly steer."""
    low = session.run(lambda: session.searcher.index.steering).low()
    said = f"Scores hardly vary here in: {', '.join(low)}." if low else ""
    return [
        html.H3(["Blocks", html.Button("all equal", id={"type": "only", "of": -1})]),
        *(_block_slider(position, name) for position, name in enumerate(session.layout)),
        dcc.Checklist(
            [{"label": "in standard deviations of each block's scores", "value": "yes"}],
            ["yes"] if low else [],
            id="standardize",
        ),
        html.P(said, className="note"),
    ]


def _block_slider(position: int, name: str) -> Component:
    return html.Div(
        [
            html.I(className="dot", style={"background": colour(position)}),
            html.Span(name, className="name", title=name),
            _slider({"type": "block", "of": position}, value=1.0),
            html.Button("only", id={"type": "only", "of": position}),
        ],
        className="slider",
    )


def _history_controls(*, has_log: bool) -> list[Component]:
    """Recency, importance, relevance; without a usage log they stand still and say why."""
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
        said = "Recency and importance come from a usage log: start with --usage F."
        sliders.append(html.P(said, className="note"))
    mixes = [name.replace("_", " ") for name in PRESETS]
    options = [{"label": m, "value": n} for m, n in zip(mixes, PRESETS, strict=True)]
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
    said = "" if drawn == maps.count else f"A random {drawn:,} of the {maps.count:,} texts. "
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
                        f"{said}Axes: the first two principal components of each block, with the "
                        "share of its variance that they hold.",
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
        how = (
            "No separation report was given. Make one, then start again with --report DIR:",
            "subspace probe --checkpoint K --data FOLDER... --output DIR",
        )
        return html.Div([html.P(how[0]), html.Pre(how[1])], className="figures", id="no-report")
    probes = list(dict.fromkeys(matrix.probe for matrix in matrices))
    if not probes:
        return html.Div(html.P("The report holds no figures: nothing could be read."))
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
                "What probes read of each factor (column) from each block (row), confounds "
                "controlled: 1 is what they read from the raw embedding, 0 is chance.",
                className="note",
            ),
        ],
        className="figures",
    )
