"""The book's visual language: one colour per sub-task, head role and answer digit, and one plotly
template.

Every colour has a contrast of at least 3:1 on white and on the dark theme's #121212, so one figure
serves both, and the five sub-tasks stay apart under the three common kinds of colour blindness
(tests/test_figures.py measures it). The hues start from Okabe and Ito's palette
(https://jfly.uni-koeln.de/color/), darkened or lightened into that range.
"""

from __future__ import annotations

import re

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

LIGHT_PAGE, DARK_PAGE = "#ffffff", "#121212"
"""Page backgrounds of the two themes of the site."""


NEUTRAL = "#7b7b7b"
"""Grey that is equally readable (4.2:1) on both pages: text, axes, reference lines."""


GRID = "rgba(128,128,128,0.22)"


COLOURS: dict[str, str] = {
    "BA": "#0d68c8",
    "UC1": "#cc8400",
    "US9": "#a8308a",
    "MC1": "#3fa19c",
    "MS9": "#7a6440",
    "base add": "#0d68c8",  # the head roles wear the colour of the sub-task they serve
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
"""Ordered scale from the units digit (cool) to the top digit (warm): A0…A5 of the five-digit model.
"""


FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


DIGIT_LABEL = re.compile(r"(?:A|D'?|column )(\d+)\b")


KNOWN_LABEL = re.compile(
    "(" + "|".join(re.escape(key) for key in sorted(COLOURS, key=len, reverse=True)) + r")\b"
)


def digit_colours(n: int) -> list[str]:
    """Ordered colours of `n` digits or columns, units first.

    Args:
        n: how many, at least 1. Up to 6 they are the colours of the five-digit model's A0…A5.

    Returns:
        `n` hex colours; beyond 6 the scale is interpolated between the same end points.
    """
    if n < 1:
        raise ValueError(f"n = {n}: must be at least 1")
    if n <= len(DIGIT_ANCHORS):
        return list(DIGIT_ANCHORS[:n])
    anchors = np.array(
        [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in DIGIT_ANCHORS], dtype=float
    )  # (6, rgb)
    at = np.linspace(0, len(anchors) - 1, n)
    channels = [np.interp(at, np.arange(len(anchors)), channel) for channel in anchors.T]
    return [
        "#" + "".join(f"{round(value):02x}" for value in rgb) for rgb in zip(*channels, strict=True)
    ]


def line_colours(labels: list[str]) -> dict[str, str]:
    """Colour of each label of one figure.

    A label that starts with a known name (``"UC1 (21 % of cases)"``) has that name's colour;
    ``A3``, ``D3`` and ``column 3`` have digit 3's; the others take the remaining colours of
    `CYCLE`. Where two labels would share a colour (``UC1 seed 1``, ``UC1 seed 2``) all take colours
    in order instead.
    """
    digits = {label: int(found[1]) for label in labels if (found := DIGIT_LABEL.match(label))}
    scale = digit_colours(max([*digits.values(), len(DIGIT_ANCHORS) - 1]) + 1)
    chosen = {label: scale[digit] for label, digit in digits.items()}
    chosen |= {label: COLOURS[found[1]] for label in labels if (found := KNOWN_LABEL.match(label))}
    free = [colour for colour in CYCLE if colour not in chosen.values()]
    others = [label for label in labels if label not in chosen]
    if len(set(chosen.values())) == len(chosen) and len(others) <= len(free):
        return chosen | dict(zip(others, free, strict=False))
    if len(labels) <= len(CYCLE):
        return dict(zip(labels, CYCLE, strict=False))
    return dict(zip(labels, digit_colours(len(labels)), strict=True))


def tinted(colour: str, opacity: float = 0.45) -> str:
    """The colour let through to the page, for areas inside an outline in the full colour."""
    return f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},{opacity})"


def luminance(colour: str) -> float:
    """Relative luminance of a hex colour, 0 (black) to 1 (white), as WCAG 2 defines it."""
    channels: Float[np.ndarray, " rgb"] = (
        np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    )
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(colour: str, background: str) -> float:
    """Contrast ratio of two hex colours, 1 (none) to 21 (black on white), as WCAG 2 defines it."""
    low, high = sorted((luminance(colour), luminance(background)))
    return (high + 0.05) / (low + 0.05)


def template() -> go.layout.Template:
    """The template of every figure: transparent, grey text and grid that read on a light and on a
    dark page.
    """
    axis = dict(
        gridcolor=GRID,
        linecolor=NEUTRAL,
        tickcolor=NEUTRAL,
        zeroline=False,
        showline=True,
        ticks="outside",
        ticklen=4,
        automargin=True,
        title=dict(standoff=8),
    )
    return go.layout.Template(
        layout=dict(
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font=dict(family=FONT, size=13, color=NEUTRAL),
            title=dict(font=dict(size=15), x=0, xref="paper", xanchor="left"),
            colorway=list(CYCLE),
            hoverlabel=dict(
                bgcolor="#fafafa",
                bordercolor=NEUTRAL,
                font=dict(color="#1f1f1f", size=12),
                namelength=-1,
            ),
            xaxis=axis,
            yaxis=axis,
            margin=dict(l=8, r=14, t=18, b=8),
            modebar=dict(bgcolor="rgba(0,0,0,0)", color=NEUTRAL, activecolor=CYCLE[0]),
        )
    )


def themed(fig: go.Figure, dark: bool = False) -> go.Figure:
    """A copy of `fig` on an opaque page with that page's full-contrast text, for exports on their
    own.
    """
    page, text = (DARK_PAGE, "#e8e8e8") if dark else (LIGHT_PAGE, "#1f1f1f")
    copy = go.Figure(fig)
    copy.update_layout(paper_bgcolor=page, plot_bgcolor=page, font_color=text)
    return copy
