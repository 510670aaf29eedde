"""Lines and bars: arrays in, a plotly figure out.

Nothing is computed but which points of a long line are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike

from addlib.figures.layout import (
    add_axis_buttons,
    add_levels,
    axis,
    extent_of,
    frame,
    hover_of,
    in_percent,
    label_ends,
    panel_frame,
    title_edges,
)
from addlib.figures.palette import NEUTRAL, line_colours, tinted
from addlib.figures.thin import as_array, compact, decimate

CARRIED = "Where a step has no value, the line keeps the last one."
"""What the caption of a figure with filled gaps must say."""

LINE_POINTS = 2000
"""Most points of one line."""

FAMILY_POINTS = 6000
"""Most points of all lines of a `line_family` together."""

GRID_POINTS = 9000
"""Most points of all lines of a `panel_grid` together."""


def line_family(
    x: Shaped[np.ndarray, " point"],
    lines: Mapping[str, Float[np.ndarray, " point"]],
    *,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    log_y: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    levels: Mapping[str, float] | None = None,
    bands: Mapping[str, Sequence[Float[np.ndarray, " point"]]] | None = None,
    colours: Mapping[str, str] | None = None,
    max_points: int = LINE_POINTS,
    height: int = 380,
    buttons: str = "",
) -> go.Figure:
    """A family of lines over a common x: loss curves, accuracies, doses.

    Gaps (NaN) carry the last value forward, and the caption then says so; a line whose last values
    are NaN ends there. Up to four lines with
    short labels whose ends lie apart are labelled at their right ends; otherwise there is a legend.

    Args:
        x: positions, increasing.
        lines: label → values at x. The labels choose the colours (`palette.line_colours`).
        x_title, y_title: with the unit, where there is one, in parentheses: ``"loss (nats)"``,
            ``"training step"``; the values of ``"right (%)"`` are shares, written in per cent.
        log_x, log_y: logarithmic axes; their values must be positive.
        x_range, y_range: the part drawn; points outside x_range are not stored in the page.
        levels: label → y of dashed horizontal reference lines.
        bands: label of a line → (low, high) ends of the interval around it at each x, shaded.
        colours: label → colour, where the label's own is not wanted.
        max_points: most points of one line. height: CSS pixels.
        buttons: axes with buttons for linear and logarithmic: ``"y"``, ``"x"`` or ``"xy"``.

    Raises:
        ValueError: unequal lengths, an infinite value, a value ≤ 0 on an axis that is or can be
            made logarithmic, or a line without a value.
    """
    levels = levels or {}
    palette = line_colours(list(lines)) | dict(colours or {})
    most = min(max_points, FAMILY_POINTS // len(lines))
    points = _points(x, lines, most, log_x, log_y, x_range)
    fig = frame(height)
    ends = [_band(fig, x, low, high, palette[name]) for name, (low, high) in (bands or {}).items()]
    fig.add_traces([_line(name, *points[name], palette[name], y_title) for name in lines])
    x_extent = extent_of([x for x, _ in points.values()], log_x, x_range)
    heights: list[ArrayLike] = [*(y for _, y in points.values()), *levels.values(), *ends]
    y_extent = extent_of(heights, log_y, y_range)
    fig.update_xaxes(axis(x_title, log_x, x_extent, x_range))
    fig.update_yaxes(axis(y_title, log_y, y_extent, y_range))
    first_x, _ = next(iter(points.values()))
    add_levels(fig, levels, first_x[0], y_extent, log_y)
    last = {name: y[-1] for name, (_, y) in points.items()}
    if len(lines) > 1 and (buttons or not label_ends(fig, last, palette, y_extent, log_y)):
        fig.update_layout(showlegend=True)
    return _noted(add_axis_buttons(fig, buttons) if buttons else fig, lines.values())


def panel_grid(
    x: Shaped[np.ndarray, " point"],
    panels: Mapping[str, Mapping[str, Float[np.ndarray, " point"]]],
    *,
    x_title: str,
    y_title: str,
    columns: int = 2,
    log_x: bool = False,
    log_y: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    colours: Mapping[str, str] | None = None,
    panel_height: int = 170,
    buttons: str = "",
) -> go.Figure:
    """Small multiples: panels of lines on the same two axes, one legend entry per label.

    Args:
        x: positions, increasing, shared by all panels.
        panels: panel heading → {label: values at x}.
        columns: 1 or 2 panels side by side. panel_height: CSS pixels of one row of them.
            The other arguments are those of `line_family`.

    Raises:
        ValueError: as `line_family`.
    """
    lines = {(heading, name): y for heading in panels for name, y in panels[heading].items()}
    names = list(dict.fromkeys(name for _, name in lines))
    palette = line_colours(names) | dict(colours or {})
    most = min(LINE_POINTS, GRID_POINTS // len(lines))
    points = _points(x, lines, most, log_x, log_y, x_range)
    fig, cells = panel_frame(panels, columns, panel_height)
    cell_of = dict(zip(panels, cells, strict=True))
    unseen = set(names)
    for (heading, name), (line_x, line_y) in points.items():
        line = _line(name, line_x, line_y, palette[name], y_title)
        line.update(legendgroup=name, showlegend=name in unseen)
        fig.add_trace(line, **cell_of[heading])
        unseen.discard(name)
    x_extent = extent_of([x for x, _ in points.values()], log_x, x_range)
    y_extent = extent_of([y for _, y in points.values()], log_y, y_range)
    fig.update_xaxes(
        dict(tickformat="~s", nticks=5, tickangle=0) | axis("", log_x, x_extent, x_range)
    )
    fig.update_yaxes(axis(y_title, log_y, y_extent, y_range), title_text="")
    for cell in cells[1:]:
        fig.update_xaxes(matches="x", **cell).update_yaxes(matches="y", **cell)
    for cell in cells[:-columns]:
        fig.update_xaxes(showticklabels=False, **cell)
    for inner in range(2, columns + 1):
        fig.update_yaxes(showticklabels=False, col=inner)
    # two lines where panels stand side by side: a phone's panel is narrow
    foot = x_title if columns == 1 else "<br>(".join(x_title.rsplit(" (", 1))
    title_edges(fig, cells, columns, foot, in_percent(y_title)[0])
    fig.update_layout(showlegend=len(names) > 1)
    return _noted(add_axis_buttons(fig, buttons) if buttons else fig, lines.values())


def bars(
    names: Sequence[str],
    series: Mapping[str, Float[np.ndarray, " name"]],
    *,
    x_title: str,
    y_title: str,
    intervals: Mapping[str, Sequence[Float[np.ndarray, " name"]]] | None = None,
    y_range: tuple[float, float] | None = None,
    levels: Mapping[str, float] | None = None,
    colours: Mapping[str, str] | None = None,
    height: int = 340,
) -> go.Figure:
    """Grouped bars with intervals: one group per name, one bar per series.

    Args:
        names: groups along x; x_title says what they are.
        series: label → one value per name; NaN leaves the bar out.
        intervals: label → (low, high) ends of the interval around each value, drawn as whiskers.
            The other arguments are those of `line_family`.

    Raises:
        ValueError: unequal lengths, or an infinite value.
    """
    levels = levels or {}
    palette = line_colours(list(series)) | dict(colours or {})
    heights = {name: as_array(y, name, (len(names),)) for name, y in series.items()}
    fig = frame(height)
    for name, y in heights.items():
        whiskers = None
        if intervals and name in intervals:
            low, high = (as_array(ends, f"interval of {name}", y.shape) for ends in intervals[name])
            whiskers = dict(type="data", symmetric=False, array=high - y, arrayminus=y - low)
            whiskers |= dict(color=NEUTRAL, thickness=1.5, width=4)
        fig.add_bar(
            x=list(names),
            y=y,
            name=name,
            marker=dict(color=tinted(palette[name]), line=dict(color=palette[name], width=1.6)),
            error_y=whiskers,
            hovertemplate=hover_of(y_title),
        )
    extent = extent_of([0.0, *levels.values(), *heights.values()], False, y_range)
    add_levels(fig, levels, names[0], extent, log_y=False)
    fig.update_xaxes(title_text=x_title, type="category", showgrid=False)
    fig.update_yaxes(axis(y_title, False, extent, y_range), rangemode="tozero")
    return fig.update_layout(barmode="group", bargap=0.25, showlegend=len(series) > 1)


def ticks_and_dots(
    rows: Mapping[str, Mapping[str, tuple[float, Sequence[float]]]],
    *,
    x_title: str,
    log_x: bool = False,
    colours: Mapping[str, str] | None = None,
    height: int = 420,
) -> go.Figure:
    """What was predicted, a tick, and what was measured, dots, in one row per name.

    Args:
        rows: name → {label: predicted value, measured values}; the first row is at the top.
            The other arguments are those of `line_family`.
    """
    largest = {label: tick for row in rows.values() for label, (tick, _) in row.items()}
    labels = sorted(largest, key=largest.__getitem__, reverse=True)
    palette = line_colours(labels) | dict(colours or {})
    fig = frame(height).update_layout(showlegend=True, hovermode="closest")
    for label in labels:
        ticks = [(name, row[label][0]) for name, row in rows.items() if label in row]
        dots = [(name, x) for name, row in rows.items() for x in row.get(label, (0, ()))[1]]
        marker = dict(color=palette[label], size=17, symbol="line-ns-open", line_width=2.5)
        look = dict(mode="markers", name=label, legendgroup=label, hovertemplate="%{x:.4g}")
        y, x = zip(*ticks, strict=True)
        fig.add_scatter(x=x, y=y, marker=marker, **look)
        if dots:
            y, x = zip(*dots, strict=True)
            round_dot = dict(color=palette[label], size=8)
            fig.add_scatter(x=x, y=y, marker=round_dot, **look | dict(showlegend=False))
    values = [x for trace in fig.data for x in trace.x]
    fig.update_xaxes(axis(x_title, log_x, extent_of([values], log_x, None), None))
    order = dict(type="category", categoryorder="array", categoryarray=list(rows)[::-1])
    return fig.update_yaxes(showgrid=True, **order)


def verdict_rows(
    rows: Mapping[str, tuple[str, float, Sequence[float]]],
    *,
    x_title: str,
    colours: Mapping[str, str],
    most: float = 6,
    height: int = 480,
) -> go.Figure:
    """A value with its interval in each row, coloured by its verdict, around a line at 0.

    Args:
        rows: name → verdict, value, ends of its interval; the first row is at the top.
        colours: verdict → colour, in the order of the legend.
        most: what lies further from 0 is drawn at this distance. The other arguments are those of
            `line_family`.
    """
    fig = frame(height).update_layout(showlegend=True, hovermode="closest")
    for label, colour in colours.items():
        own = {
            name: np.array([value, *ends])
            for name, (of, value, ends) in rows.items()
            if of == label
        }
        if not own:
            continue
        x, low, high = np.clip(np.stack([*own.values()]).T, -most, most)
        whiskers = dict(type="data", symmetric=False, array=high - x, arrayminus=x - low)
        whiskers |= dict(color=colour, thickness=2.5, width=0)
        look = dict(mode="markers", marker=dict(color=colour, size=10), cliponaxis=False)
        look |= dict(name=label, hovertemplate="%{y}: %{x:.2g}")
        fig.add_scatter(x=x, y=[*own], error_x=whiskers, **look)
    fig.add_vline(x=0, line=dict(color=NEUTRAL, width=1.4, dash="dash"))
    fig.update_xaxes(title_text=x_title, range=[-1.05 * most, 1.05 * most])
    order = dict(type="category", categoryorder="array", categoryarray=list(rows)[::-1])
    return fig.update_yaxes(showgrid=True, dtick=1, automargin=True, **order)


def _points(
    x: object,
    lines: Mapping[Any, object],
    most: int,
    log_x: bool,
    log_y: bool,
    x_range: tuple[float, float] | None,
) -> dict[Any, tuple[np.ndarray, np.ndarray]]:
    """The points of each line that the page stores: gaps filled, cropped to x_range, thinned."""
    x = as_array(x, "x")
    in_range = np.full(x.shape, True)
    if x_range is not None:  # one point beyond each end, so that the line reaches the frame
        first = np.searchsorted(x, x_range[0], "right") - 1
        last = np.searchsorted(x, x_range[1], "left")
        in_range[: max(first, 0)] = False
        in_range[last + 1 :] = False
    points = {}
    for name, values in lines.items():
        stored = pd.Series(as_array(values, f"line {name!r}", x.shape))
        y = stored.ffill(limit_area="inside").to_numpy()
        if log_y and (y <= 0).any():
            raise ValueError(f"line {name!r} is {y[y <= 0][0]:g}: must be positive on a log axis")
        drawn = in_range & ~np.isnan(y)
        if not drawn.any():
            raise ValueError(f"line {name!r} has no value to draw")
        points[name] = decimate(x[drawn], y[drawn], most, log_x)
    return points


def _line(name: str, x: np.ndarray, y: np.ndarray, colour: str, y_title: str) -> go.Scatter:
    return go.Scatter(
        x=compact(x),
        y=compact(y),
        name=name,
        mode="lines+markers" if len(x) <= 20 else "lines",
        line=dict(color=colour, width=1.8),
        hovertemplate=hover_of(y_title),
    )


def _band(fig: go.Figure, x: object, low: object, high: object, colour: str) -> np.ndarray:
    """Shade what lies between two lines; returns their y."""
    x = as_array(x, "x")
    around = np.concatenate([as_array(high, "band", x.shape), as_array(low, "band", x.shape)[::-1]])
    shade = dict(fill="toself", fillcolor=tinted(colour, 0.25), line=dict(width=0), mode="lines")
    there_and_back = compact(np.concatenate([x, x[::-1]]))
    unseen = dict(hoverinfo="skip", showlegend=False)
    fig.add_scatter(x=there_and_back, y=compact(around), **shade, **unseen)
    return around


def _noted(fig: go.Figure, lines: Iterable[object]) -> go.Figure:
    """The figure, with `CARRIED` left for its caption where a line has gaps."""
    if not all(np.trim_zeros(~np.isnan(as_array(y, "line"))).all() for y in lines):
        fig.update_layout(meta=dict(notes=[CARRIED]))
    return fig
