"""Points in the plane: clouds coloured by what they mean, and paths joined in order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Shaped
from plotly.subplots import make_subplots

from addlib.figures.charts import line_family
from addlib.figures.heatmaps import with_player
from addlib.figures.layout import add_axis_buttons, frame, panel_frame, title_edges
from addlib.figures.palette import NEUTRAL, digit_colours, line_colours, tinted
from addlib.figures.thin import as_array, compact

LOWEST = np.radians(104)
"""Angle from "up" below which a dial is cut off, in radians."""


def cloud_grid(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, "point 2"]]],
    *,
    x_title: str,
    y_title: str,
    columns: int = 2,
    diagonal: bool = False,
    colours: Mapping[str, str] | None = None,
    hover: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    panel_height: int = 190,
) -> go.Figure:
    """Panels of points, each on axes of its own; a label has one colour and one legend entry.

    Args:
        panels: panel heading → {label: x and y of its points}.
        x_title, y_title: what the two coordinates are.
        columns: 1 or 2 panels side by side. panel_height: CSS pixels of one row of them.
        diagonal: a dashed line in each panel where both coordinates are equal.
        colours: label → colour, where the label's own is not wanted.
        hover: panel heading → {label: a name for each point}, shown when pointed at.

    Raises:
        ValueError: points that are no finite pairs, or another number of names.
    """
    fig, cells = _plane_grid(panels, columns, panel_height, x_title, y_title)
    labels = list(dict.fromkeys(label for clouds in panels.values() for label in clouds))
    palette = line_colours(labels) | dict(colours or {})
    for cell, (heading, clouds) in zip(cells, panels.items(), strict=True):
        if diagonal:
            every = np.concatenate([np.ravel(points) for points in clouds.values()])
            ends = compact(np.array([every.min(), every.max()]))
            dashed = dict(mode="lines", line=dict(color=NEUTRAL, width=1.4, dash="dash"))
            fig.add_scatter(x=ends, y=ends, hoverinfo="skip", showlegend=False, **dashed, **cell)
        for label, points in clouds.items():
            x, y = _columns(points, f"{heading}, {label}")
            names = list((hover or {}).get(heading, {}).get(label, []))
            if names and len(names) != len(points):
                raise ValueError(f"{heading}, {label}: {len(names)} names for {len(points)} points")
            fig.add_scatter(
                x=x,
                y=y,
                name=label,
                mode="markers",
                text=names or None,
                marker=dict(size=5, color=tinted(palette[label], 0.55), line=dict(width=0)),
                legendgroup=label,
                showlegend=label not in {trace.name for trace in fig.data},
                hovertemplate=f"{'%{text}, ' if names else ''}{label}<extra>{heading}</extra>",
                **cell,
            )
    return fig.update_layout(showlegend=len(labels) > 1)


def path_grid(
    panels: Mapping[str, Float[np.ndarray, "point 2"]],
    *,
    x_title: str,
    y_title: str,
    closed: Sequence[str] = (),
    numbered: bool = False,
    same_scale: bool = False,
) -> go.Figure:
    """Panels of joined points on equal scales, coloured from the first (cool) to the last (warm).

    Args:
        panels: panel heading → x and y of its points, in the order in which they are joined.
        x_title, y_title: what the two coordinates are.
        closed: headings of panels whose last point is joined to the first.
        numbered: write at each point which it is, from 0.
        same_scale: all panels show the same part of the plane.

    Raises:
        ValueError: points that are no finite pairs.
    """
    fig, cells = _plane_grid(panels, 2, 230, x_title, y_title)
    for cell, (heading, points) in zip(cells, panels.items(), strict=True):
        path = _path(points, heading in closed)
        if numbered:
            path.update(text=[*map(str, range(len(points)))], textposition="top center")
            path.update(mode="lines+markers+text", textfont_size=11)
        fig.add_trace(path, **cell)
        fig.update_yaxes(scaleanchor=fig.data[-1].xaxis, **cell)
    if same_scale:
        bound = 1.08 * max(float(np.abs(points).max()) for points in panels.values())
        fig.update_xaxes(range=[-bound, bound], constrain="domain")
        fig.update_yaxes(range=[-bound, bound], constrain="domain")
    return fig


def dial(
    clouds: Mapping[str, Float[np.ndarray, "point 2"]],
    ends: Float[np.ndarray, " wedge"],
    answers: Sequence[object],
    *,
    x_title: str,
    y_title: str,
    least_degrees: float = 2.5,
) -> go.Figure:
    """Points in a plane that is divided into wedges, like the face of a clock.

    Args:
        clouds: label → x and y of its points.
        ends: angle at which each wedge ends, in radians from the y axis, clockwise, increasing.
        answers: what each wedge stands for, written at its rim.
        x_title, y_title: what the two coordinates are.
        least_degrees: narrower wedges are not labelled.

    Raises:
        ValueError: points that are no finite pairs.
    """
    fig, _ = _plane_grid([""], 1, 400, x_title, y_title)
    reach = 1.12 * max(float(np.linalg.norm(points, axis=1).max()) for points in clouds.values())
    starts = np.roll(ends, 1)
    starts[0] -= 2 * np.pi
    label_sizes = dict(mode="text", hoverinfo="skip", showlegend=False, textfont_size=13)
    for i, (start, end, answer) in enumerate(zip(starts, ends, answers, strict=True)):
        arc = np.linspace(start, end, 12)
        rim = dict(x=[0, *(reach * np.sin(arc)), 0], y=[0, *(reach * np.cos(arc)), 0])
        shade = tinted(NEUTRAL, 0.05 + 0.11 * (i % 2))
        look = dict(fill="toself", fillcolor=shade, line=dict(width=0), mode="lines")
        fig.add_scatter(**rim, **look, hoverinfo="skip", showlegend=False)
        if end - start > np.radians(least_degrees):
            # the lower half is cut off: a wedge there is named where it comes into sight
            middle = (start + end) / 2
            middle = np.clip(middle - 2 * np.pi * (middle > np.pi), -LOWEST, LOWEST)
            at = dict(x=[1.06 * reach * np.sin(middle)], y=[1.06 * reach * np.cos(middle)])
            fig.add_scatter(**at, text=[str(answer)], **label_sizes)
    palette = line_colours(list(clouds))
    for label, points in clouds.items():
        x, y = _columns(points, label)
        marker = dict(size=8, color=tinted(palette[label], 0.7), line=dict(width=0))
        fig.add_scatter(x=x, y=y, name=label, mode="markers", marker=marker, hoverinfo="name")
    fig.update_xaxes(range=[-1.15 * reach, 1.15 * reach], constrain="domain")
    lowest = 1.3 * np.cos(LOWEST) * reach
    fig.update_yaxes(scaleanchor="x", range=[lowest, 1.15 * reach], constrain="domain")
    return fig.update_layout(showlegend=len(clouds) > 1)


def path_film(
    frames: Float[np.ndarray, "frame point 2"],
    times: Sequence[int],
    curves_x: Shaped[np.ndarray, " x"],
    curves: Mapping[str, Float[np.ndarray, " x"]],
    *,
    x_title: str,
    y_title: str,
    time_title: str,
    curves_title: str,
    colours: Mapping[str, str],
    first: int = 0,
) -> go.Figure:
    """Joined points that move, below curves of the same time, with one slider for both.

    A line across the curves marks the moment; the last point is joined to the first. Buttons make
    the curves' axis linear or logarithmic.

    Args:
        frames: x and y of the points at each moment, all on the same axes.
        times: of the moments, all different.
        curves_x, curves: label → positive values at the times curves_x, logarithmic at first.
        x_title, y_title: what the points' coordinates are.
        time_title, curves_title: what the times and the curves are.
        colours: label → colour. first: the frame that is seen before anything is played.

    Raises:
        ValueError: points that are no finite pairs; as :func:`addlib.figures.charts.line_family`.
    """
    above = line_family(
        curves_x, curves, x_title="", y_title="", log_y=True, colours=colours, max_points=600
    )
    heights = np.concatenate([line.y for line in above.data])
    marks = [
        dict(type="scatter", x=[time, time], y=[heights.min(), heights.max()]) for time in times
    ]
    paths = [_path(points, closed=True) for points in frames]
    fig = make_subplots(2, 1, row_heights=[0.34, 0.66], vertical_spacing=0.14, figure=frame(680))
    fig.add_trace(paths[first], row=2, col=1)
    marker = dict(mode="lines", line=dict(color=NEUTRAL, width=2), showlegend=False)
    fig.add_trace(go.Scatter(marks[first] | marker, hoverinfo="skip"), row=1, col=1)
    for line in above.data:
        fig.add_trace(line, row=1, col=1)
    fig.update_xaxes(title_text=time_title, row=1)
    fig.update_yaxes(above.layout.yaxis, title_text=curves_title, row=1)
    bound = 1.05 * float(np.abs(as_array(frames, "frames")).max()) or 1.0
    plane = dict(range=[-bound, bound], constrain="domain", nticks=5, row=2)
    fig.update_xaxes(title_text=x_title, **plane)
    fig.update_yaxes(title_text=y_title, scaleanchor="x2", **plane)
    on_top = dict(orientation="h", x=0, y=1, yanchor="bottom", yref="paper")
    fig.update_layout(hovermode="closest", showlegend=True, legend=on_top)
    moments = {
        f"{time:,}": [dict(type="scatter", x=path.x, y=path.y), mark]
        for time, path, mark in zip(times, paths, marks, strict=True)
    }
    with_player(fig, moments, first=first, slider_title=time_title, frame_ms=150)
    add_axis_buttons(fig, "y", first_panel=True)
    fig.layout.updatemenus[-1].pad.b = 30  # above the legend
    return fig


def _plane_grid(
    headings: Collection[str], columns: int, panel_height: int, x_title: str, y_title: str
) -> tuple[go.Figure, list[dict[str, int]]]:
    """An empty frame of planes and plotly's row and column of each."""
    fig, cells = panel_frame(headings, columns, panel_height, gap=62, apart=0.09)
    title_edges(fig, cells, columns, x_title, y_title)
    fig.update_xaxes(nticks=4).update_yaxes(nticks=4)
    return fig.update_layout(hovermode="closest"), cells


def _columns(points: Float[np.ndarray, "point 2"], name: str) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the points, as the page stores them."""
    x, y = as_array(points, name, (len(points), 2)).T
    return compact(x), compact(y)


def _path(points: Float[np.ndarray, "point 2"], closed: bool) -> go.Scatter:
    points = as_array(points, "path", (len(points), 2))
    colours = digit_colours(len(points))
    if closed:
        points = np.concatenate([points, points[:1]])
        colours = [*colours, colours[0]]
    x, y = _columns(points, "path")
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line=dict(width=1, color=tinted(NEUTRAL, 0.6)),
        marker=dict(size=6, color=colours),
        showlegend=False,
        hoverinfo="skip",
    )
