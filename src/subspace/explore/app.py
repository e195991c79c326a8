"""The Dash app: callbacks of the page, and restrictions on hosts and on loaded content."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from flask import Response, request
from werkzeug.exceptions import HTTPException

from subspace.data.comparisons import Comparison, comparisons_to_jsonl
from subspace.data.ratings import Rating
from subspace.errors import SubspaceError
from subspace.explore.colours import colour
from subspace.explore.comparing import Turned, compared_factors
from subspace.explore.figures import heat_map, scatter, weight_curve
from subspace.explore.maps import BlockMaps
from subspace.explore.page import (
    ALL_EQUAL,
    DEFAULT,
    default_mix,
    lay_out,
    numbers_and_classes,
    show_pair,
)
from subspace.explore.rankings import show_left, show_ranking, show_summary
from subspace.explore.separation_heat_maps import ProbeMatrix
from subspace.explore.session import ExplorerQuery, Session
from subspace.retrieval import Weights

# The browser may load only files of this server, inline scripts and styles, and generated images.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; form-action 'none'; frame-ancestors 'none'"
)
_log = logging.getLogger(__name__)

_NOTHING = html.P("Type a query.", className="note")
_TYPED = [Input("text", "value"), Input("other", "value"), Input("block", "value")]
_CONTROLS = [
    Input({"type": "block", "of": ALL}, "value"),
    Input({"type": "part", "of": ALL}, "value"),
    Input("scope", "value"),
]
_TOWARD = [
    Input({"type": "toward", "of": ALL}, "value"),
    Input({"type": "class", "of": ALL}, "value"),
]
_COMPARED = [Input("comparisons", "data")]
_RATED = [Input("ratings", "data"), Input({"type": "liked", "of": "liked"}, "value")]


@dataclass(frozen=True, eq=False)
class AppState:
    """The data that the page shows.

    Attributes:
        session: Searches the index.
        maps: Maps of the blocks, of a sample of the index.
        matrices: Matrices of a separation report; None if no report was given.
        name: Name of the checkpoint.
    """

    session: Session
    maps: BlockMaps
    matrices: tuple[ProbeMatrix, ...] | None
    name: str


def make_app(state: AppState) -> Dash:
    """Makes the page and its callbacks; all files are served locally."""
    app = Dash(
        __name__,
        title="subspace explore",
        update_title="",
        serve_locally=True,
        add_log_handler=False,
        enable_mcp=False,
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.layout = lay_out(
        session=state.session,
        maps=state.maps,
        matrices=state.matrices,
        name=state.name,
    )
    _answer_searches(app, state)
    _take_ratings(app)
    if compared_factors(state.session.index.model):
        _take_comparisons(app, state.session)
    _answer_curves(app, state.session)
    _set_weights(app, state.session)
    _answer_figures(app, state)
    _guard(app)
    return app


def _guard(app: Dash) -> None:
    """Refuses requests to other host names and odd ones, and sets the content security policy."""
    app.server.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]
    app.server.after_request(_set_policy)
    app.server.register_error_handler(Exception, _refuse)


def _refuse(error: Exception) -> HTTPException | tuple[str, int]:
    """Answers 400 to a request that no page sends, and leaves a line instead of a stack trace."""
    if isinstance(error, HTTPException):
        return error
    _log.warning("refused a request to %s: %s: %.200s", request.path, type(error).__name__, error)
    _log.debug("where it failed", exc_info=error)
    return "no request of this page", 400


def _set_policy(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    return response


def _answer_searches(app: Dash, state: AppState) -> None:
    """Adds the callbacks of the two rankings; sliders change only the one with own weights."""
    session = state.session
    show = partial(
        show_ranking, factors=[name for name in session.layout if name in state.maps.labels]
    )

    @app.callback(Output("default", "children"), *_TYPED)
    def _rank_default(*typed: str | None) -> Component:
        try:
            ranking = session.rank_default(_read(*typed))
        except SubspaceError as error:
            return html.P(str(error), className="error")
        if ranking is None:
            return _NOTHING
        default = dict(zip(session.layout, ranking.found.weights.relevance, strict=True))
        code = html.Code(_format_mix(default), title="what a search without --weights uses")
        return html.Div([code, show(ranking)])

    numbers, _ = numbers_and_classes(session)

    @app.callback(
        Output("weighted", "children"), *_TYPED, *_CONTROLS, *_TOWARD, *_COMPARED, *_RATED
    )
    def _rank_weighted(
        text: str,
        other: str,
        block: str,
        blocks: Any,
        riv: Any,
        scope: Any,
        counts: list[float],
        classes: list[str | None],
        compared: Any,
        rated: Any,
        strength: float,
    ) -> Component:
        query = _read(text, other, block)
        ratings = [Rating(*one) for one in rated or ()]
        own = {one.item: one.success for one in ratings if one.query == (text or "")}
        by_name = dict(zip(session.layout, blocks, strict=True))
        toward = _read_toward([*numbers, *classes], counts)
        try:
            weights = Weights.make(layout=session.layout, blocks=by_name, riv=riv)
            default, liked = session.rank_default(query, again=False), session.liked(ratings)
            turned = session.turned(_read_comparisons(compared))
            ranking = session.rank(
                query,
                weights=weights,
                scope=scope,
                toward=toward,
                turned={
                    name: one.direction for name, one in turned.items() if one.direction is not None
                },
                liked=liked.direction,
                strength=strength,
            )
        except SubspaceError as error:
            return html.P(str(error), className="error")
        if default is None or ranking is None:
            return _NOTHING
        mix = _format_mix(by_name, riv=riv if weights.uses_history else ())
        codes = [html.Code(mix, title="as --weights takes them")]
        if toward:
            codes.append(html.Code(f"toward {_format_mix(toward)}", title="as --toward takes it"))
        said = [liked.told, *(_say(name, one, toward=toward) for name, one in turned.items())]
        told = [html.P(one, className="note") for one in said if one]
        before = default.ranks()
        return html.Div(
            [
                show_summary(ranking, before=before),
                *codes,
                *told,
                show(ranking, before=before, rated=own),
                *show_left(ranking, before=before),
            ]
        )


def _take_ratings(app: Dash) -> None:
    """Adds the callback of the thumbs: a list of query, item and success, kept in the browser."""

    @app.callback(
        Output("ratings", "data"),
        Input({"type": "rate", "item": ALL, "success": ALL}, "n_clicks"),
        Input("forget", "n_clicks"),
        State("text", "value"),
        State("ratings", "data"),
        prevent_initial_call=True,
    )
    def _rate(clicks: list[int | None], _: int | None, text: str | None, rated: Any) -> Any:
        of = ctx.triggered_id
        if of == "forget":
            return []
        if not any(clicks) or not text:  # the buttons of a new ranking
            return no_update
        others = [one for one in rated or () if one[:2] != [text, of["item"]]]
        return [*others, [text, of["item"], float(of["success"])]]


def _take_comparisons(app: Dash, session: Session) -> None:
    """Adds the callbacks of the question which text has more of a factor.

    The answers are a list of factor and the ids of the text with more and the one with less, empty
    if a pair was skipped; they are kept in the browser.
    """

    @app.callback(
        Output("pair", "children"), Input("compared", "value"), Input("comparisons", "data")
    )
    def _ask(factor: str, answers: Any) -> Any:
        pairs = session.pairs(factor)
        asked = sum(one[0] == factor for one in answers or ())
        if asked < len(pairs):
            return show_pair(factor, pairs[asked])
        return html.P("no more pairs" if pairs else "too few texts to compare", className="note")

    @app.callback(
        Output("comparisons", "data"),
        Input({"type": "more", "of": ALL, "more": ALL, "less": ALL}, "n_clicks"),
        Input("skip", "n_clicks"),
        Input("undo", "n_clicks"),
        State("compared", "value"),
        State("comparisons", "data"),
        prevent_initial_call=True,
    )
    def _answer(clicks: list[int | None], _: Any, __: Any, factor: str, answers: Any) -> Any:
        of, given = ctx.triggered_id, list(answers or ())
        if of == "undo":
            own = [place for place, one in enumerate(given) if one[0] == factor]
            return [one for place, one in enumerate(given) if place not in own[-1:]]
        if of == "skip":
            return [*given, [factor, "", ""]]
        if not any(clicks):  # the buttons of a new pair
            return no_update
        if given and {*given[-1][1:]} == {of["more"], of["less"]}:  # pressed twice
            return no_update
        return [*given, [of["of"], of["more"], of["less"]]]

    @app.callback(
        Output("saved", "data"),
        Input("save", "n_clicks"),
        State("comparisons", "data"),
        prevent_initial_call=True,
    )
    def _save(_: int | None, answers: Any) -> Any:
        given = _read_comparisons(answers)
        if not given:
            return no_update
        return {"content": comparisons_to_jsonl(given), "filename": "comparisons.jsonl"}


def _say(factor: str, turned: Turned, *, toward: Mapping[str, float]) -> str:
    """Says what was learned of a factor, and how to see it."""
    if turned.direction is None or factor in toward:
        return turned.told
    return f"{turned.told}; move the slider toward {factor} to see it"


def _read_comparisons(answers: Any) -> list[Comparison]:
    """Reads the answers that are no skipped pairs."""
    return [Comparison(*one) for one in answers or () if one[1]]


def _answer_curves(app: Dash, session: Session) -> None:
    """Adds the curve of the slider that was moved last; without one, of the first idle block."""
    names = list(session.layout)
    idle = [position for position, weight in enumerate(default_mix(session)) if not weight]

    @app.callback(
        Output("curve", "children"),
        Output("moved", "data"),
        *_TYPED,
        *_CONTROLS,
        State("moved", "data"),
    )
    def _draw_curve(
        text: str, other: str, block: str, blocks: Any, riv: Any, scope: Any, drawn: Any
    ) -> tuple[Any, Any]:
        of = ctx.triggered_id
        if isinstance(of, dict) and of["type"] == "block" and len(ctx.triggered) == 1:
            place = int(of["of"])
        else:
            place = (idle or [0])[0] if drawn is None else drawn["place"]
        # Drawing takes longer than ranking: its own slider leaves a curve as it is.
        others = [weight for position, weight in enumerate(blocks) if position != place]
        now = {"place": place, "of": [text, other, block, others, riv, scope]}
        if now == drawn:
            return no_update, drawn
        by_name = dict(zip(names, blocks, strict=True))
        try:
            curve = session.curve(
                _read(text, other, block), names[place], blocks=by_name, riv=riv, scope=scope
            )
        except SubspaceError:  # the ranking says it
            curve = None
        if curve is None:
            return None, now
        figure = weight_curve(curve, shade=colour(place))
        return dcc.Graph(figure=figure, config={"displayModeBar": False}), now


def _read(text: str | None, other: str | None, block: str | None) -> ExplorerQuery:
    return ExplorerQuery(text or "", other or "", block or "")


def _read_toward(names: Sequence[str | None], counts: Sequence[float]) -> dict[str, float]:
    """Reads the sliders toward factors; that toward a class does nothing until one is chosen."""
    return {name: count for name, count in zip(names, counts, strict=True) if name and count}


def _format_mix(blocks: Mapping[str, float], *, riv: Sequence[float] = ()) -> str:
    """Formats weights as `Weights.parse` reads them."""
    parts = [f"{name}={weight:g}" for name, weight in blocks.items() if weight]
    return ",".join([*parts, f"riv={','.join(f'{weight:g}' for weight in riv)}"] if riv else parts)


def _set_weights(app: Dash, session: Session) -> None:
    mixes = {ALL_EQUAL: [1.0] * len(session.layout), DEFAULT: default_mix(session)}

    @app.callback(
        Output({"type": "block", "of": ALL}, "value"),
        Input({"type": "only", "of": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def _set_blocks(clicks: list[int | None]) -> list[float] | Any:
        if not any(clicks):
            return no_update
        of = ctx.triggered_id["of"]
        return mixes.get(of) or [float(of == position) for position in range(len(session.layout))]

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("explore", "mix"),
        Output({"type": "part", "of": ALL}, "value"),
        Output("preset", "value"),
        Input("preset", "value"),
        Input({"type": "part", "of": ALL}, "value"),
        State("mixes", "data"),
        prevent_initial_call=True,
    )


def _answer_figures(app: Dash, state: AppState) -> None:
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("explore", "narrow"),
        Output("narrow", "data"),
        Input("narrow", "id"),
    )

    @app.callback(Output("map", "figure"), Input("label", "value"), Input("narrow", "data"))
    def _draw_map(label: str | None, narrow: bool) -> Any:
        return scatter(state.maps, label=label, narrow=narrow)

    if state.matrices:
        matrices = state.matrices

        @app.callback(
            Output("separation", "figure"), Input("probe", "value"), Input("narrow", "data")
        )
        def _draw_heat_map(probe: str, narrow: bool) -> Any:
            return heat_map(matrices, probe=probe, narrow=narrow)
