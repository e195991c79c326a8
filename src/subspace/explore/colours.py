"""Colours that people with colour blindness can tell apart, on a light and on a dark page.

Colours named `var(--...)` are those of explore.css, which differ between the two.
"""

# Okabe and Ito (2008) without black and yellow, and four colours of matplotlib.
_PALETTE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#8c564b",
    "#9467bd",
    "#bcbd22",
    "#17becf",
)
GREY = "#9aa0a6"
# Number of different colours.
COLOURS = len(_PALETTE)
# Colours of recency, importance and relevance.
PART_COLOURS = ("#5f6b7a", "#a3acb8", "var(--ink)")
# Colour of what ratings say is liked.
LIKED_COLOUR = "var(--good)"


def colour(position: int) -> str:
    """Returns the colour of the block or category at `position`; after the last, starts again."""
    return _PALETTE[position % COLOURS]
