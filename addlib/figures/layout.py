"""What surrounds the marks of a figure: frame, axes, reference levels, labels at the ends of lines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from addlib.figures.palette import NEUTRAL, template

NEAR = 0.055
"""Share of an axis's length within which two labels of 12 px would touch."""


def frame(title: str | None, height: int) -> go.Figure:
    """An empty figure in the book's template, its legend (off) below the axes, where a phone has
    room for it.
    """
    fig = go.Figure(
        layout=dict(template=template(), height=height, hovermode="x unified", showlegend=False)
    )
    fig.update_layout(
        legend=dict(orientation="h", x=0, xanchor="left", y=0, yanchor="bottom", yref="container")
    )
    if title:
        fig.update_layout(title_text=title, margin_t=44)
    return fig


def panel_frame(
    headings: Iterable[str],
    columns: int,
    panel_height: int,
    title: str | None,
    gap: int = 36,
    apart: float = 0.05,
) -> tuple[go.Figure, list[dict[str, int]]]:
    """An empty frame of small multiples, and plotly's row and column of each panel.

    Args:
        headings: one per panel. columns: panels side by side. panel_height: CSS pixels of one row
            of them.
        gap: CSS pixels between rows. apart: space between columns, as a share of the width.

    Raises:
        ValueError: no panel, or another number of columns than 1 or 2.
    """
    headings = list(headings)
    if columns not in (1, 2):
        raise ValueError(f"columns = {columns}: must be 1 or 2 (more do not fit a phone)")
    if not headings:
        raise ValueError("there must be at least one panel to draw")
    rows = -(-len(headings) // columns)
    plot_height = rows * (panel_height + gap - 6)
    fig = make_subplots(
        rows=rows,
        cols=columns,
        specs=[
            [{} if row * columns + col < len(headings) else None for col in range(columns)]
            for row in range(rows)
        ],
        subplot_titles=headings,
        horizontal_spacing=apart,
        vertical_spacing=gap / plot_height,
        figure=frame(title, plot_height + 90),
    )
    fig.update_annotations(font_size=13)
    return fig, [dict(row=i // columns + 1, col=i % columns + 1) for i in range(len(headings))]


def title_edges(
    fig: go.Figure, cells: list[dict[str, int]], columns: int, x_title: str, y_title: str
) -> None:
    """Write the axis titles of a :func:`panel_frame` once: at the foot of each column and at the
    left of each row.
    """
    for i, cell in enumerate(cells):
        fig.update_xaxes(title_text=x_title if i >= len(cells) - columns else None, **cell)
        fig.update_yaxes(title_text=None if i % columns else y_title, **cell)


def require_units(**titles: str) -> None:
    """Raise ValueError for an axis title without its unit in parentheses; keywords are the
    arguments' names.
    """
    for name, title in titles.items():
        if not re.search(r"\S.*\(.+\)", title or ""):
            raise ValueError(
                f'{name} = {title!r}: needs its unit in parentheses, as in "loss (nats)"'
            )


def axis(log: bool, ends: tuple[float, float] | None, extent: tuple[float, float]) -> dict:
    """Plotly's settings of a numeric axis.

    Args:
        ends: fixed ends of the axis, in the data's own units on a logarithmic axis too; None: those
            of the data.
        extent: what `extent_of` gives; from two decades on, a logarithmic axis is labelled at whole
            decades only, on one decade at 1, 2 and 5.
    """
    settings = dict(range=[_at(end, log) for end in ends] if ends else None)
    if log:
        settings |= dict(
            type="log", tickformat="~g", minor=dict(ticks="outside", ticklen=2, tickcolor=NEUTRAL)
        )
        decades = extent[1] - extent[0]
        settings["dtick"] = 1 if decades >= 2 else "D2" if decades > 0.7 else None
    return settings


def extent_of(
    values: Iterable[object], log: bool, ends: tuple[float, float] | None
) -> tuple[float, float]:
    """Lowest and highest axis position of the values (log₁₀ on a logarithmic axis), or the given
    `ends`.

    Raises ValueError for ends that an axis cannot have.
    """
    if ends is not None and not (ends[0] < ends[1] and (ends[0] > 0 or not log)):
        raise ValueError(
            f"range = {ends}: must run from a lower {'positive ' if log else ''}end to a higher one"
        )
    numbers = np.concatenate([np.ravel(v) for v in (ends or values)])
    numbers = numbers[~np.isnan(numbers)]
    return _at(numbers.min(), log), _at(numbers.max(), log)


def checked_levels(levels: Mapping[str, float] | None, log_y: bool) -> dict[str, float]:
    """The levels as a dict; raises ValueError for one that no axis, or no logarithmic axis, can
    show.
    """
    for label, level in (levels or {}).items():
        if not math.isfinite(level) or (log_y and level <= 0):
            raise ValueError(
                f"level {label!r} = {level}: must be "
                f"finite{' and positive on a log axis' if log_y else ''}"
            )
    return dict(levels or {})


def add_levels(
    fig: go.Figure, levels: Mapping[str, float], x: object, extent: tuple[float, float], log_y: bool
) -> None:
    """Dashed lines across the axes, each labelled on the line.

    Labels stand at the right; where levels lie so near that labels would touch, at the middle, then
    at the left.

    Args:
        levels: label → y.
        x: any position of the data: a line of no length there widens the y axis to the level.
        extent: lowest and highest axis position, as `extent_of` gives them.
    """
    last_in_slot = [-math.inf] * 3
    for label, level in sorted(levels.items(), key=lambda item: item[1]):
        y = _at(level, log_y)
        at = (y - extent[0]) / ((extent[1] - extent[0]) or 1)
        slot = next(
            (i for i, last in enumerate(last_in_slot) if at - last > NEAR),
            int(np.argmin(last_in_slot)),
        )
        last_in_slot[slot] = at
        fig.add_shape(
            type="line",
            xref="paper",
            x0=0,
            x1=1,
            y0=level,
            y1=level,
            line=dict(color=NEUTRAL, width=1.4, dash="dash"),
        )
        fig.add_scatter(
            x=[x, x], y=[level, level], mode="lines", hoverinfo="skip", showlegend=False, name=label
        )
        fig.add_annotation(
            text=label,
            x=(1.0, 0.5, 0.0)[slot],
            xref="paper",
            xanchor=("right", "center", "left")[slot],
            y=y,
            yanchor="bottom",
            showarrow=False,
            font=dict(size=11),
            borderpad=0,
        )


def label_ends(
    fig: go.Figure,
    ends: Mapping[str, float],
    colours: Mapping[str, str],
    extent: tuple[float, float],
    log_y: bool,
) -> bool:
    """Write each line's label at its right end, in its colour, where that is readable; tells
    whether it did.

    Readable is: at most four lines, labels of at most eight characters, last values that do not
    touch.
    """
    heights = sorted(_at(end, log_y) for end in ends.values())
    apart = min(np.diff(heights), default=math.inf) > NEAR * (extent[1] - extent[0])
    if len(ends) > 4 or max(map(len, ends)) > 8 or not apart:
        return False
    for label, end in ends.items():
        fig.add_annotation(
            text=f"<b>{label}</b>",
            x=1,
            xref="paper",
            xanchor="left",
            xshift=4,
            y=_at(end, log_y),
            showarrow=False,
            font=dict(color=colours[label], size=12),
        )
    fig.update_layout(margin_r=16 + 8 * max(map(len, ends)))
    return True


def _at(value: float, log: bool) -> float:
    return math.log10(value) if log else float(value)
