"""The page's server side: what answers the sliders, and what may be asked."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component
from flask import Response

from subspace.errors import SubspaceError
from subspace.explore.figures import heat_map, scatter
from subspace.explore.maps import BlockMaps
from subspace.explore.page import lay_out
from subspace.explore.rankings import show_ranking
from subspace.explore.separation_heat_maps import ProbeMatrix
from subspace.explore.session import Question, Session
from subspace.retrieval import Weights

# What the browser may load: this server's files, the styles of its components, drawn images.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; form-action 'none'; frame-ancestors 'none'"
)
_NOTHING = html.P("Type a query.", className="note")
_TYPED = [Input("text", "value"), Input("other", "value"), Input("block", "value")]
_CONTROLS = [
    Input({"type": "block", "of": ALL}, "value"),
    Input({"type": "part", "of": ALL}, "value"),
    Input("scope", "value"),
    Input("standardize", "value"),
]


@dataclass(frozen=True, eq=False)
class Explored:
    """All that the page shows.

    Attributes:
        session: What is searched.
        maps: The blocks of a sample.
        matrices: The separation report; None if none was given.
        name: Of the checkpoint.
    """

    session: Session
    maps: BlockMaps
    matrices: tuple[ProbeMatrix, ...] | None
    name: str


def make_app(explored: Explored) -> Dash:
    """The page and what answers it; every file it needs comes from this package's own server."""
    app = Dash(
        __name__,
        title="subspace explore",
        update_title="",
        serve_locally=True,
        add_log_handler=False,
        enable_mcp=False,
    )
    app.layout = lay_out(
        session=explored.session,
        maps=explored.maps,
        matrices=explored.matrices,
        name=explored.name,
    )
    _answer_searches(app, explored)
    _set_weights(app, explored.session)
    _answer_figures(app, explored)
    _guard(app)
    return app


def _guard(app: Dash) -> None:
    """Nothing from elsewhere, and nothing for pages that got here by another name."""
    app.server.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]
    app.server.after_request(_set_policy)


def _set_policy(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    return response


def _answer_searches(app: Dash, explored: Explored) -> None:
    """Two answers, as a slider leaves the left one as it is."""
    session = explored.session
    show = partial(
        show_ranking,
        factors=[name for name in session.layout if name in explored.maps.labels],
    )

    @app.callback(Output("equal", "children"), *_TYPED)
    def _rank_equal(*question: str | None) -> Component:
        try:
            ranking = session.rank(_read(*question))
        except SubspaceError as error:
            return html.P(str(error), className="error")
        return _NOTHING if ranking is None else html.Div([html.Code("no --weights"), show(ranking)])

    @app.callback(Output("weighted", "children"), *_TYPED, *_CONTROLS)
    def _rank_weighted(
        text: str, other: str, block: str, blocks: Any, riv: Any, scope: Any, standardize: Any
    ) -> Component:
        question = _read(text, other, block)
        by_name = dict(zip(session.layout, blocks, strict=True))
        try:
            weights = Weights.make(layout=session.layout, blocks=by_name, riv=riv)
            equal = session.rank(question)
            ranking = session.rank(
                question, weights=weights, scope=scope, standardize=bool(standardize)
            )
        except SubspaceError as error:
            return html.P(str(error), className="error")
        if equal is None or ranking is None:
            return _NOTHING
        said = ",".join(f"{name}={weight:g}" for name, weight in by_name.items() if weight)
        if weights.uses_history:
            said += f",riv={','.join(f'{weight:g}' for weight in riv)}"
        code = html.Code(said, title="as --weights takes them")
        return html.Div([code, show(ranking, before=equal.ranks())])


def _read(text: str | None, other: str | None, block: str | None) -> Question:
    return Question(text or "", other or "", block or "")


def _set_weights(app: Dash, session: Session) -> None:
    @app.callback(
        Output({"type": "block", "of": ALL}, "value"),
        Input({"type": "only", "of": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def _set_blocks(clicks: list[int | None]) -> list[float] | Any:
        if not any(clicks):
            return no_update
        of = ctx.triggered_id["of"]
        return [float(of in (-1, position)) for position in range(len(session.layout))]

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("explore", "mix"),
        Output({"type": "part", "of": ALL}, "value"),
        Output("preset", "value"),
        Input("preset", "value"),
        Input({"type": "part", "of": ALL}, "value"),
        State("mixes", "data"),
        prevent_initial_call=True,
    )


def _answer_figures(app: Dash, explored: Explored) -> None:
    @app.callback(Output("map", "figure"), Input("label", "value"))
    def _draw_map(label: str | None) -> Any:
        return scatter(explored.maps, label=label)

    if explored.matrices:
        matrices = explored.matrices

        @app.callback(Output("separation", "figure"), Input("probe", "value"))
        def _draw_heat_map(probe: str) -> Any:
            return heat_map(matrices, probe=probe)
