"""Figures of the page: heat maps of the separation report, and maps of the blocks."""

import html
from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from subspace.data.metadata import Scalar
from subspace.data.records import Record
from subspace.evaluation.heat_maps import PROBE_TITLES
from subspace.explore.colours import COLOURS, GREY, colour
from subspace.explore.maps import BlockMap, BlockMaps
from subspace.explore.separation_heat_maps import ProbeMatrix
from subspace.explore.session import WeightCurve

# Points of one legend entry: name, positions of the points, and marker properties.
Group = tuple[str, list[int], dict[str, object]]

_OTHERS, _UNKNOWN = "others", "no label"
_LONGEST = 120
_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#20262e"}
# The page shows through; explore.css sets the colours of text and grid on a dark page.
_PAPER = {
    "template": "plotly_white",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "hoverlabel": {"bgcolor": "#ffffff", "font": {"color": "#20262e"}},
}

# A legend below the figure.
_BELOW = {"orientation": "h", "y": 0, "yanchor": "top", "x": 0}


def heat_map(matrices: Sequence[ProbeMatrix], *, probe: str, narrow: bool = False) -> go.Figure:
    """Draws the matrices of one probe: in-corpus and cross-corpus.

    Args:
        matrices: The matrices of a report.
        probe: Kind of probe.
        narrow: Draws them one below the other, not side by side.
    """
    shown = [matrix for matrix in matrices if matrix.probe == probe]
    many = max(len(shown), 1)
    figure = make_subplots(
        rows=many if narrow else 1,
        cols=1 if narrow else many,
        subplot_titles=[_title(matrix) for matrix in shown],
        horizontal_spacing=0.14,
    )
    for number, matrix in enumerate(shown, start=1):
        figure.add_trace(
            go.Heatmap(
                z=matrix.values,
                x=[_shown(name) for name in matrix.factors],
                y=[_shown(name) for name in matrix.blocks],
                zmin=0,
                zmax=1,
                colorscale=["#ffffff", colour(0)],
                texttemplate="%{z:.2f}",
                hovertemplate="%{x} from block %{y}: %{z:.2f}<extra></extra>",
                xgap=2,
                ygap=2,
                colorbar={"title": "share of the raw embedding's score", "title_side": "right"},
                showscale=number == len(shown) and not narrow,
            ),
            row=number if narrow else 1,
            col=1 if narrow else number,
        )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    height, margin = (380 * many, {"t": 60, "l": 10, "r": 10}) if narrow else (440, {"t": 60})
    if narrow:
        figure.update_annotations(font_size=12)
    figure.update_layout(**_PAPER, font=_FONT, height=height, margin=margin)
    return figure


def weight_curve(curve: WeightCurve, *, shade: str) -> go.Figure:
    """Draws what the weight of a block does to the hits, in the colour of the block."""
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    lines = (
        (curve.kept, "relevance kept", GREY, False),
        (curve.alike, f"nearer in {_shown(curve.block)} (sd)", shade, True),
    )
    for values, name, ink, right in lines:
        figure.add_trace(
            go.Scatter(
                x=curve.weights.round(3).tolist(),
                y=values.round(3).tolist(),
                name=name,
                mode="lines",
                line={"color": ink, "width": 2},
                hovertemplate="%{y:.2f}",
            ),
            secondary_y=right,
        )
    figure.update_xaxes(title=f"weight of {_shown(curve.block)}", range=[0, 1], fixedrange=True)
    figure.update_yaxes(fixedrange=True, showgrid=False, zeroline=False)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.05], nticks=3, secondary_y=False)
    figure.update_yaxes(tickformat=".1f", nticks=4, secondary_y=True)
    figure.update_layout(
        **_PAPER,
        font={**_FONT, "size": 11},
        height=220,
        margin={"t": 56, "l": 40, "r": 30, "b": 40},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="x unified",
    )
    return figure


def scatter(maps: BlockMaps, *, label: str | None, narrow: bool = False) -> go.Figure:
    """Draws the map of each block, coloured by a label; in one colour if it is None.

    Args:
        maps: The maps.
        label: Name of the label.
        narrow: Draws one map below the other, and the legend below them all.
    """
    columns = 1 if narrow else min(3, len(maps.blocks))
    explained = {name: block.explained for name, block in maps.blocks.items()}
    rows = -(-len(maps.blocks) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[
            f"{_shown(name)}: axes hold {first:.0%} and {second:.0%}"
            for name, (first, second) in explained.items()
        ],
        horizontal_spacing=0.03,
        vertical_spacing=0.12 if rows < 4 else 0.3 / rows,
    )
    groups = _groups(maps.labels[label] if label else (None,) * len(maps.documents))
    for number, block in enumerate(maps.blocks.values()):
        traces = _points(block, maps.documents, groups, in_legend=number == 0 and bool(label))
        for trace in traces:
            figure.add_trace(trace, row=number // columns + 1, col=number % columns + 1)
    figure.update_xaxes(showticklabels=False, zeroline=False)
    figure.update_yaxes(showticklabels=False, zeroline=False)
    figure.update_annotations(font_size=13)
    title = _shown(label or "")
    figure.update_layout(
        **_PAPER,
        font=_FONT,
        height=60 + 300 * rows,
        margin={"t": 40, "l": 10, "r": 10, "b": 20},
        coloraxis={"colorscale": "Viridis", "colorbar": {"title": title}},
        legend={"title": title, "itemsizing": "constant", **(_BELOW if narrow else {})},
    )
    return figure


def _points(
    block: BlockMap, documents: Sequence[Record], groups: Sequence[Group], *, in_legend: bool
) -> list[go.Scatter]:
    """Draws the points of one block, group by group."""
    return [
        go.Scatter(
            x=block.points[members, 0].round(4).tolist(),
            y=block.points[members, 1].round(4).tolist(),
            mode="markers",
            name=_shown(name),
            legendgroup=name,
            showlegend=in_legend and len(groups) > 1,
            marker={"size": 4, "opacity": 0.75, **marker},
            hovertext=[
                f"{_shown(documents[n].id)}: {_shown(documents[n].text or '(no text)')}"
                for n in members
            ],
            hoverinfo="text",
        )
        for name, members, marker in groups
    ]


def _groups(values: Sequence[Scalar | None]) -> list[Group]:
    """Groups points by value; points without a value come first, to be drawn behind others."""
    unknown = [n for n, value in enumerate(values) if value is None]
    known = [n for n, value in enumerate(values) if value is not None]
    groups: list[Group] = []
    if unknown:
        groups.append((_UNKNOWN, unknown, {"color": GREY}))
    if known and all(type(values[n]) in (int, float) for n in known):
        numbers = [values[n] for n in known]
        return [*groups, ("labelled", known, {"color": numbers, "coloraxis": "coloraxis"})]
    counts = Counter(str(values[n]) for n in known)
    named = sorted(name for name, _ in counts.most_common(COLOURS))
    others = [n for n in known if str(values[n]) not in named]
    if others:
        groups.append((_OTHERS, others, {"color": GREY}))
    for position, name in enumerate(named):
        members = [n for n in known if str(values[n]) == name]
        groups.append((name, members, {"color": colour(position)}))
    return groups


def _title(matrix: ProbeMatrix) -> str:
    title = f"{matrix.model}, {PROBE_TITLES[matrix.probe]}"
    if matrix.selectivity is None:
        return title
    return f"{title}: selectivity {matrix.selectivity:.2f}"


def _shown(text: str) -> str:
    """Cuts a text to `_LONGEST` characters and escapes it, as plotly interprets HTML tags."""
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return html.escape(short, quote=False)
