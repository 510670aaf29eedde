"""What surrounds the marks of a figure: frame, panels, axes, reference levels, labels of lines."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from addlib.figures.palette import NEUTRAL, template

NEAR = 0.055
"""Share of an axis's length within which two labels of 12 px would touch."""


def frame(height: int) -> go.Figure:
    """An empty figure in the book's template, `height` CSS pixels high.

    Its legend is off; switched on, it stands below the axes, where a phone has room for it.
    """
    below = dict(orientation="h", x=0, xanchor="left", y=0, yanchor="bottom", yref="container")
    fig = go.Figure(layout=dict(template=template(), height=height, hovermode="x unified"))
    return fig.update_layout(showlegend=False, legend=below)


def panel_frame(
    headings: Collection[str],
    columns: int,
    panel_height: int,
    gap: int = 36,
    apart: float = 0.05,
) -> tuple[go.Figure, list[dict[str, int]]]:
    """An empty frame of small multiples, and plotly's row and column of each panel.

    Args:
        headings: one per panel. columns: panels side by side; more than 2 do not fit a phone.
        panel_height: CSS pixels of one row of panels. gap: CSS pixels between rows.
        apart: space between columns, as a share of the width.
    """
    rows = -(-len(headings) // columns)
    plot_height = rows * (panel_height + gap - 6)
    cells = [dict(row=i // columns + 1, col=i % columns + 1) for i in range(len(headings))]
    panels: list[dict[str, Any] | None] = [{}] * len(headings) + [None] * (
        rows * columns - len(headings)
    )
    fig = make_subplots(
        rows=rows,
        cols=columns,
        specs=[panels[first : first + columns] for first in range(0, len(panels), columns)],
        subplot_titles=list(headings),
        horizontal_spacing=apart,
        vertical_spacing=gap / plot_height,
        figure=frame(plot_height + 90),
    )
    return fig.update_annotations(font_size=13), cells


def title_edges(
    fig: go.Figure, cells: list[dict[str, int]], columns: int, x_title: str, y_title: str
) -> None:
    """Write the axis titles of a `panel_frame` at the foot of each column and left of each row."""
    for cell in cells[-columns:]:
        fig.update_xaxes(title_text=x_title, **cell)
    for cell in cells[::columns]:
        fig.update_yaxes(title_text=y_title, **cell)


def in_percent(title: str) -> tuple[str, bool]:
    """An axis title, and whether its values are shares that readers see in per cent.

    They are where the title's unit is that: ``"right (%)"`` → ``("right", True)``, since the ticks
    then say it.
    """
    short = title.removesuffix(" (%)")
    return short, short != title


def hover_of(y_title: str) -> str:
    """How a value is written where a reader points at it."""
    return "%{y:.1%}" if in_percent(y_title)[1] else "%{y:.4g}"


def extent_of(
    values: Iterable[ArrayLike], log: bool, ends: tuple[float, float] | None
) -> tuple[float, float]:
    """Lowest and highest position of `ends`, or of all values, on an axis (log₁₀ if `log`)."""
    numbers = np.concatenate([np.ravel(part) for part in (ends or values)])
    return axis_position(np.nanmin(numbers), log), axis_position(np.nanmax(numbers), log)


def axis_position(value: float, log: bool) -> float:
    """Where a value stands in plotly's coordinates of a linear or a logarithmic axis."""
    return math.log10(value) if log else float(value)


def axis(
    title: str, log: bool, extent: tuple[float, float], ends: tuple[float, float] | None
) -> dict[str, object]:
    """Plotly's settings of a numeric axis.

    Args:
        title: as `in_percent` reads it.
        extent: of `extent_of`. From two decades on, a logarithmic axis is labelled at whole decades
            only, at five or so of many; on one decade at 1, 2 and 5.
        ends: where the axis must end; None leaves it to plotly.
    """
    title, percent = in_percent(title)
    settings: dict[str, object] = dict(title_text=title, range=extent if ends else None)
    if percent:
        settings["tickformat"] = "~%"
    if log:
        minor = dict(ticks="outside", ticklen=2, tickcolor=NEUTRAL)
        settings |= dict(type="log", minor=minor)
        if extent[0] < -5:  # else some would be 1e-7 and others 0.000001
            settings.setdefault("exponentformat", "power")
        else:
            settings.setdefault("tickformat", "~g")
        decades = extent[1] - extent[0]
        if decades >= 2:
            settings["dtick"] = max(1, round(decades / 5))  # labels of more would touch
        elif decades > 0.7:
            settings["dtick"] = "D2"
    return settings


def add_axis_buttons(fig: go.Figure, axes: str, first_panel: bool = False) -> go.Figure:
    """Buttons above the axes that make them linear or logarithmic; returns the figure.

    Args:
        axes: ``"y"``, ``"x"`` or ``"xy"``. All panels change together, or the first one alone.

    Raises:
        ValueError: a value that a logarithmic axis can't show.
    """
    layout = fig.layout.to_plotly_json()
    for place, letter in enumerate(axes):
        pattern = rf"{letter}axis" if first_panel else rf"{letter}axis\d*"
        names = [name for name in layout if re.fullmatch(pattern, name)]
        places = {name.replace("axis", "") for name in names}
        traces = [trace for trace in fig.data if (trace[f"{letter}axis"] or letter) in places]
        values = np.concatenate([np.ravel(trace[letter]) for trace in traces])
        if np.nanmin(values) <= 0:
            raise ValueError(f"{letter} has {np.nanmin(values):g}: must be positive on a log axis")
        decades = math.log10(np.nanmax(values) / np.nanmin(values))
        ticks: dict[str, dict[str, object]] = {
            "linear": dict(tickmode="auto", dtick=None),
            "log": dict(tickmode="linear", dtick=1 if decades >= 2 else "D2"),
        }
        buttons = []
        for kind, settings in ticks.items():
            changes = dict(type=kind, autorange=True) | settings
            args = {f"{name}.{key}": value for name in names for key, value in changes.items()}
            buttons.append(dict(label=f"{letter} {kind}", method="relayout", args=[args]))
        look = dict(bgcolor="rgba(0,0,0,0)", bordercolor=NEUTRAL, font_size=11, showactive=False)
        where = dict(x=place * 0.5, xanchor="left", y=1, yanchor="bottom", pad=dict(b=22))
        menu = dict(type="buttons", direction="right", buttons=buttons)
        fig.layout.updatemenus += (menu | look | where,)
    return fig.update_layout(margin_t=64, height=(fig.layout.height or 0) + 30)


def add_levels(
    fig: go.Figure, levels: Mapping[str, float], x: object, extent: tuple[float, float], log_y: bool
) -> None:
    """Dashed lines across the axes, each labelled on the line.

    Labels stand at the right; where levels lie so near that labels would touch, at the middle, then
    at the left.

    Args:
        levels: label → y. extent: of the y axis, as `extent_of` gives it.
        x: any position of the data: a line of no length there widens the y axis to the level.
    """
    slots = [dict(x=1.0, xanchor="right"), dict(x=0.5, xanchor="center"), dict(x=0, xanchor="left")]
    last_in_slot = [-math.inf] * len(slots)
    for label, level in sorted(levels.items(), key=lambda item: item[1]):
        y = axis_position(level, log_y)
        share = (y - extent[0]) / ((extent[1] - extent[0]) or 1)
        free = [slot for slot, last in enumerate(last_in_slot) if share - last > NEAR]
        slot = free[0] if free else int(np.argmin(last_in_slot))
        last_in_slot[slot] = share
        place = dict(y=y, yanchor="bottom", font_size=11, borderpad=0, **slots[slot])
        dashed = dict(color=NEUTRAL, width=1.4, dash="dash")
        fig.add_hline(y=level, line=dashed, annotation=dict(text=label, **place))
        fig.add_scatter(
            x=[x, x], y=[level, level], mode="lines", hoverinfo="skip", showlegend=False, name=label
        )


def label_ends(
    fig: go.Figure,
    ends: Mapping[str, float],
    colours: Mapping[str, str],
    extent: tuple[float, float],
    log_y: bool,
) -> bool:
    """Write each line's label at its right end, in its colour, where that is readable.

    Readable is: at most four lines, labels of at most eight characters, last values that do not
    touch. Returns whether it did.
    """
    heights = {label: axis_position(end, log_y) for label, end in ends.items()}
    longest = max(map(len, heights))
    nearest = min(np.diff(sorted(heights.values())), default=math.inf)
    if len(heights) > 4 or longest > 8 or nearest <= NEAR * (extent[1] - extent[0]):
        return False
    for label, y in heights.items():
        beside = dict(x=1, xref="paper", xanchor="left", xshift=4, y=y, showarrow=False)
        font = dict(color=colours[label], size=12)
        fig.add_annotation(text=f"<b>{label}</b>", font=font, **beside)
    fig.update_layout(margin_r=16 + 8 * longest)
    return True
