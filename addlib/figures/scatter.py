"""Points in the plane: clouds coloured by what they mean, and paths joined in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from addlib.figures.heatmaps import with_player
from addlib.figures.layout import frame, panel_frame, title_edges
from addlib.figures.palette import NEUTRAL, digit_colours, line_colours, tinted
from addlib.figures.thin import as_array, compact


def cloud_grid(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, "point 2"]]],
    *,
    x_title: str,
    y_title: str,
    columns: int = 2,
    colours: Mapping[str, str] | None = None,
    panel_height: int = 190,
) -> go.Figure:
    """Panels of points, each on axes of its own; a label has one colour and one legend entry.

    Args:
        panels: panel heading → {label: x and y of its points}.
        x_title, y_title: what the two coordinates are.
        columns: 1 or 2 panels side by side. panel_height: CSS pixels of one row of them.
        colours: label → colour, where the label's own is not wanted.

    Raises:
        ValueError: points that are no finite pairs.
    """
    fig, cells = _plane_grid(panels, columns, panel_height, x_title, y_title)
    labels = list(dict.fromkeys(label for clouds in panels.values() for label in clouds))
    palette = line_colours(labels) | dict(colours or {})
    for cell, (heading, clouds) in zip(cells, panels.items(), strict=True):
        for label, points in clouds.items():
            x, y = _columns(points, f"{heading}, {label}")
            fig.add_scatter(
                x=x,
                y=y,
                name=label,
                mode="markers",
                marker=dict(size=5, color=tinted(palette[label], 0.55), line=dict(width=0)),
                legendgroup=label,
                showlegend=label not in {trace.name for trace in fig.data},
                hovertemplate=f"{label}<extra>{heading}</extra>",
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
) -> go.Figure:
    """Panels of joined points on equal scales, coloured from the first (cool) to the last (warm).

    Args:
        panels: panel heading → x and y of its points, in the order in which they are joined.
        x_title, y_title: what the two coordinates are.
        closed: headings of panels whose last point is joined to the first.
        numbered: write at each point which it is, from 0.

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
    fig, _ = _plane_grid([""], 1, 520, x_title, y_title)
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
            middle = (start + end) / 2
            at = dict(x=[1.06 * reach * np.sin(middle)], y=[1.06 * reach * np.cos(middle)])
            fig.add_scatter(**at, text=[str(answer)], **label_sizes)
    palette = line_colours(list(clouds))
    for label, points in clouds.items():
        x, y = _columns(points, label)
        marker = dict(size=8, color=tinted(palette[label], 0.7), line=dict(width=0))
        fig.add_scatter(x=x, y=y, name=label, mode="markers", marker=marker, hoverinfo="name")
    fig.update_yaxes(scaleanchor="x", scaleratio=1)
    return fig.update_layout(showlegend=len(clouds) > 1)


def path_film(
    frames: Float[np.ndarray, "frame point 2"],
    names: Sequence[object],
    *,
    x_title: str,
    y_title: str,
    slider_title: str,
    closed: bool = False,
    first: int = 0,
) -> go.Figure:
    """Joined points that move on the same axes: a frame per moment, a slider, a play button.

    Args:
        frames: x and y of the points at each moment.
        names: of the moments, all different, as the slider shows them.
        x_title, y_title: what the two coordinates are; slider_title: what the names are.
        closed: join the last point to the first.
        first: the frame that is seen before anything is played.

    Raises:
        ValueError: points that are no finite pairs.
    """
    paths = [_path(points, closed) for points in frames]
    fig = frame(560).add_trace(paths[first]).update_layout(hovermode="closest")
    bound = 1.05 * float(np.abs(as_array(frames, "frames")).max()) or 1.0
    look = dict(range=[-bound, bound], constrain="domain")
    fig.update_xaxes(title_text=x_title, **look)
    fig.update_yaxes(title_text=y_title, scaleanchor="x", **look)
    moments = {
        str(name): dict(type="scatter", x=path.x, y=path.y)
        for name, path in zip(names, paths, strict=True)
    }
    return with_player(fig, moments, first=first, slider_title=slider_title, frame_ms=150)


def _plane_grid(
    headings: Mapping[str, object], columns: int, panel_height: int, x_title: str, y_title: str
) -> tuple[go.Figure, list[dict[str, int]]]:
    """An empty frame of planes and plotly's row and column of each."""
    fig, cells = panel_frame(headings, columns, panel_height, gap=46, apart=0.09)
    title_edges(fig, cells, columns, x_title, y_title)
    fig.update_xaxes(nticks=4).update_yaxes(nticks=4)
    return fig.update_layout(hovermode="closest"), cells


def _columns(points: object, name: str) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the points, as the page stores them."""
    x, y = as_array(points, name, (len(points), 2)).T
    return compact(x), compact(y)


def _path(points: Float[np.ndarray, "point 2"], closed: bool) -> go.Scatter:
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
