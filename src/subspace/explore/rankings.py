"""Rankings as components of the page.

The texts of hits are children of components, so the browser shows markup in them as plain text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dash import html
from dash.development.base_component import Component

from subspace.explore.colours import PART_COLOURS, colour
from subspace.explore.session import DEPTH, Ranking
from subspace.retrieval import Hit
from subspace.retrieval.weights import Part

# Number of hits that the page shows.
SHOWN = 8
_LONGEST = 200


def show_ranking(
    ranking: Ranking,
    *,
    factors: Sequence[str],
    before: Mapping[str, int] | None = None,
    rated: Mapping[str, float] | None = None,
) -> Component:
    """Makes the list of the best hits.

    Args:
        ranking: The hits.
        factors: Names of the metadata that are shown with each hit.
        before: Rank by id under the default weights, to show ranks gained and lost; None to
            leave them out.
        rated: Success by id of the hits that were rated, to show buttons for it; None to leave
            them out.
    """
    if not ranking.found:
        return html.P("no hits: the index is empty", className="note")
    rows = _Rows(ranking, factors=factors)
    if before is None:
        return html.Ol([html.Li(rows.show(hit, marks=_thumbs(hit, rated))) for hit in rows.hits])
    return html.Ol(
        [
            html.Li(
                [
                    _move(rank, before.get(hit.id)),
                    *rows.show(hit, marks=[*_thumbs(hit, rated), *_entered(hit, before)]),
                ],
                className="entered" if _entered(hit, before) else "",
            )
            for rank, hit in enumerate(rows.hits, start=1)
        ]
    )


def show_summary(ranking: Ranking, *, before: Mapping[str, int]) -> Component:
    """Says how many of the shown hits entered and left, for screen readers as well.

    Args:
        ranking: The hits.
        before: Rank by id under the default weights.
    """
    shown = ranking.found[:SHOWN]
    left = _left(ranking, before)
    entered = [hit for hit in shown if _entered(hit, before)]
    if entered or left:
        said = f"{len(entered)} entered, {len(left)} left the first {SHOWN}"
    elif all(before[hit.id] == rank for rank, hit in enumerate(shown, start=1)):
        said = "the ranking of the default weights"
    else:
        said = "the same hits in another order"
    return html.P(said, className="note summary", role="status")


def show_left(ranking: Ranking, *, before: Mapping[str, int]) -> list[Component]:
    """Lists the hits that the default weights show and this ranking does not, with both ranks."""
    now = ranking.ranks()
    rows = [
        html.Div(
            [
                html.Span(f"▼ {rank} → {now.get(name, f'after {DEPTH}')}", className="fell"),
                html.Span(name, className="gone", title=name),
            ]
        )
        for name, rank in _left(ranking, before).items()
    ]
    return [html.H3(f"Left the first {SHOWN}"), html.Div(rows, className="left")] if rows else []


def _left(ranking: Ranking, before: Mapping[str, int]) -> dict[str, int]:
    """Returns the earlier rank of each hit that was shown and no longer is."""
    shown = {hit.id for hit in ranking.found[:SHOWN]}
    return {name: rank for name, rank in before.items() if rank <= SHOWN and name not in shown}


def _entered(hit: Hit, before: Mapping[str, int]) -> list[Component]:
    """Makes the mark of a hit that the default weights do not show."""
    if before.get(hit.id, SHOWN + 1) <= SHOWN:
        return []
    told = f"not among the first {SHOWN} with the default weights"
    return [html.Span("entered", className="badge", title=told)]


def _thumbs(hit: Hit, rated: Mapping[str, float] | None) -> list[Component]:
    """Makes the buttons that rate a hit."""
    if rated is None:
        return []
    buttons = []
    for sign, success, told in (("+", 1, "served well"), ("-", 0, "did not serve")):
        pressed = rated.get(hit.id) == success
        named: dict[str, Any] = {
            "aria-label": f"{told}: {hit.id}",
            "aria-pressed": str(pressed).lower(),
        }
        button = html.Button(
            sign,
            id={"type": "rate", "item": hit.id, "success": success},
            className="on" if pressed else "",
            title=f"{told}: what you like is learned from such hits of one search",
            **named,
        )
        buttons.append(button)
    return [html.Span(buttons, className="thumbs")]


class _Rows:
    """Rows for the best hits of a ranking; their bars have the same scale."""

    def __init__(self, ranking: Ranking, *, factors: Sequence[str]) -> None:
        self.hits = ranking.found[:SHOWN]
        self._factors = factors
        self._history = ranking.found.weights.uses_history
        self._average = ranking.average
        surpluses = [parts.values() for hit in self.hits for parts in self._surplus(hit)]
        self._low = min(sum(min(value, 0) for value in parts) for parts in surpluses)
        self._high = max(sum(max(value, 0) for value in parts) for parts in surpluses)

    def show(self, hit: Hit, *, marks: Sequence[Component] = ()) -> list[Component]:
        """Returns the components of a hit's row, with buttons and marks before its text."""
        blocks, parts = self._surplus(hit)
        row = [
            html.B(hit.id, title=hit.id),
            html.Span(f"{hit.score:+.4f}", className="score"),
            self._bar(blocks.items(), of=hit.by_block(), colours=map(colour, range(len(blocks)))),
        ]
        if self._history:
            row.append(self._bar(parts.items(), of=hit.by_part(), colours=PART_COLOURS))
        text = hit.text if len(hit.text) <= _LONGEST else hit.text[: _LONGEST - 1] + "…"
        shown = [text] if text else [html.I("(no text)")]
        return [*row, html.Div([*marks, *self._labels(hit), *shown], className="text")]

    def _labels(self, hit: Hit) -> list[Component]:
        labels = {name: hit.metadata[name] for name in self._factors if name in hit.metadata}
        values = [f"{v:g}" if isinstance(v, float) else str(v) for v in labels.values()]
        named = ", ".join(f"{name} {value}" for name, value in zip(labels, values, strict=True))
        shown = " · ".join(values)
        return [html.Span(shown, className="labels", title=named)] if values else []

    def _surplus(self, hit: Hit) -> tuple[dict[str, float], dict[Part, float]]:
        """Subtracts the average text's scores from a hit's, by block and by part."""
        blocks, parts = self._average.by_block(), self._average.by_part()
        return (
            {name: value - blocks[name] for name, value in hit.by_block().items()},
            {part: value - parts[part] for part, value in hit.by_part().items()},
        )

    def _bar(
        self,
        surplus: Iterable[tuple[str, float]],
        *,
        of: Mapping[Any, float],
        colours: Iterable[str],
    ) -> Component:
        """Draws positive values end to end to the right of zero, and negative ones to the left.

        The bar is a single CSS gradient: one component per value would take the browser twice
        as long.
        """
        scale = 100 / (self._high - self._low or 1)
        zero = -self._low * scale
        right, left = zero, zero
        after: list[str] = []
        before: list[str] = []
        numbers: list[str] = []
        for (name, value), shade in zip(surplus, colours, strict=False):
            numbers.append(f"{name} {of[name]:+.3f}, {value:+.3f} above average")
            if value >= 0:
                after.append(f"{shade} {right:.2f}% {right + value * scale:.2f}%")
                right += value * scale
            else:
                before.insert(0, f"{shade} {left + value * scale:.2f}% {left:.2f}%")
                left += value * scale
        stops = [f"transparent {left:.2f}%", *before, *after, f"transparent {right:.2f}%"]
        line = f"linear-gradient(var(--ink) 0 0) {zero:.2f}% 0 / 1px 100% no-repeat"
        style = {"background": f"{line}, linear-gradient(to right, {', '.join(stops)}) var(--fill)"}
        label: dict[str, Any] = {"aria-label": "; ".join(numbers)}
        return html.Div(className="bar", style=style, title="\n".join(numbers), role="img", **label)


def _move(rank: int, before: int | None) -> Component:
    if before is None:
        return html.Span("new", className="move up", title=f"not among the first {DEPTH} before")
    title = f"rank {before} with the default weights"
    if before == rank:
        return html.Span("=", className="move", title=title)
    if before > rank:
        return html.Span(f"▲{before - rank}", className="move up", title=title)
    return html.Span(f"▼{rank - before}", className="move down", title=title)
