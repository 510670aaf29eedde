"""The book's colours, one for each sub-task, head role and answer digit, and its plotly template.

Every colour has a contrast of at least 3:1 on white and on the dark theme's #121212, so one figure
serves both, and the five sub-tasks stay apart under the three common kinds of colour blindness
(tests/test_figures.py measures it). The hues start from Okabe and Ito's palette
(https://jfly.uni-koeln.de/color/), darkened or lightened into that range.
"""

from __future__ import annotations

import re

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

NEUTRAL = "#7b7b7b"
"""Grey that is equally readable (4.2:1) on both pages: text, axes, reference lines."""

GRID = "rgba(128,128,128,0.22)"
"""Lines and areas that should hardly be seen."""

COLOURS: dict[str, str] = {
    "BA": "#0d68c8",
    "UC1": "#cc8400",
    "US9": "#a8308a",
    "MC1": "#3fa19c",
    "MS9": "#7a6440",
    # the head roles wear the colour of the sub-task they serve
    "base add": "#0d68c8",
    "carry": "#cc8400",
    "far carry": "#3fa19c",
    "cascade": "#a8308a",
    "total": "#c8202a",
    "baseline": NEUTRAL,
}
"""Colour of each sub-task, head role and shared line; look labels up with `line_colours`."""

CYCLE = ("#0d68c8", "#cc8400", "#a8308a", "#3fa19c", "#c8202a", "#7a6440", "#7f6bd6", "#7b7b7b")
"""Colours for lines without a meaning of their own, in order of use."""

DIGIT_ANCHORS = ("#5b9db3", "#1a7fe2", "#6a4acc", "#98508b", "#c8202a", "#cc8420")
"""Colours of A0…A5 of the five-digit model: from the units digit (cool) to the top digit (warm)."""

SEQUENTIAL = "Cividis"
"""Colour scale of a map from dark (low) to bright (high)."""

DIVERGING = [(0.0, "#0d68c8"), (0.5, "#f2f2f2"), (1.0, "#c85a00")]
"""Colour scale of a map around zero: blue, white, orange."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

DIGIT_LABEL = re.compile(r"(?:A|D'?|column )(\d+)\b")

KNOWN_LABEL = re.compile(
    "(" + "|".join(re.escape(name) for name in sorted(COLOURS, key=len, reverse=True)) + r")\b"
)


def digit_colours(n: int) -> list[str]:
    """Hex colours of `n` digits or columns, units first.

    Up to six are `DIGIT_ANCHORS`; more are spread evenly over the same scale.
    """
    if n <= len(DIGIT_ANCHORS):
        return list(DIGIT_ANCHORS[:n])
    anchors = np.array([hex_to_rgb(colour) for colour in DIGIT_ANCHORS])  # (6, rgb)
    positions = np.linspace(0, len(anchors) - 1, n)
    channels = [np.interp(positions, np.arange(len(anchors)), channel) for channel in anchors.T]
    shades = np.stack(channels, axis=1).round().astype(int)  # (n, rgb)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in shades]


def line_colours(labels: list[str]) -> dict[str, str]:
    """Colour of each label of one figure.

    A label that starts with a known name (``"UC1 (21 % of cases)"``) has that name's colour;
    ``A3``, ``D3`` and ``column 3`` have digit 3's; the others take the remaining colours of
    `CYCLE`. Where two labels would share a colour (``UC1 seed 1``, ``UC1 seed 2``) all take colours
    in order instead.
    """
    digits = {label: int(match[1]) for label in labels if (match := DIGIT_LABEL.match(label))}
    names = {label: match[1] for label in labels if (match := KNOWN_LABEL.match(label))}
    scale = digit_colours(max([*digits.values(), len(DIGIT_ANCHORS) - 1]) + 1)
    chosen = {label: scale[digit] for label, digit in digits.items()}
    chosen |= {label: COLOURS[name] for label, name in names.items()}
    free = [colour for colour in CYCLE if colour not in chosen.values()]
    unknown = [label for label in labels if label not in chosen]
    if len(set(chosen.values())) == len(chosen) and len(unknown) <= len(free):
        return chosen | dict(zip(unknown, free, strict=False))
    in_order = CYCLE if len(labels) <= len(CYCLE) else digit_colours(len(labels))
    return dict(zip(labels, in_order, strict=False))


def tinted(colour: str, opacity: float = 0.45) -> str:
    """The colour let through to the page, for areas inside an outline in the full colour."""
    red, green, blue = hex_to_rgb(colour)
    return f"rgba({red},{green},{blue},{opacity})"


def template() -> go.layout.Template:
    """The template of every figure: transparent, with a grey that reads on light and dark pages."""
    axis = dict(
        gridcolor=GRID,
        linecolor=NEUTRAL,
        tickcolor=NEUTRAL,
        zeroline=False,
        showline=True,
        ticks="outside",
        ticklen=4,
        automargin=True,
        title_standoff=8,
    )
    hover_font = dict(color="#1f1f1f", size=12)
    return go.layout.Template(
        layout=dict(
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font=dict(family=FONT, size=13, color=NEUTRAL),
            title=dict(font_size=15, x=0, xref="paper", xanchor="left"),
            colorway=CYCLE,
            hoverlabel=dict(bgcolor="#fafafa", bordercolor=NEUTRAL, font=hover_font, namelength=-1),
            xaxis=axis,
            yaxis=axis,
            margin=dict(l=8, r=14, t=18, b=8),
            modebar=dict(bgcolor="rgba(0,0,0,0)", color=NEUTRAL, activecolor=CYCLE[0]),
        )
    )
