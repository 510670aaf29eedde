"""Clouds of points in small multiples: activations on two principal components, coloured by what
they should mean.

Points joined in their order, on equal scales: numbers on circles and curves, as small multiples
or as a film.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from addlib.figures.heatmaps import MOST_NUMBERS, with_player
from addlib.figures.layout import frame, panel_frame, require_units, title_edges
from addlib.figures.palette import NEUTRAL, digit_colours, line_colours, tinted
from addlib.figures.thin import as_array, compact


def cloud_grid(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, "point 2"]]],
    *,
    x_title: str,
    y_title: str,
    columns: int = 2,
    title: str | None = None,
    colours: Mapping[str, str] | None = None,
    panel_height: int = 190,
) -> go.Figure:
    """One panel of points per entry, each on axes of its own, one colour and one legend entry per
    label.

    Args:
        panels: panel heading → {label: x and y of its points}.
        x_title, y_title: what the two coordinates are, with the unit in parentheses.
        columns: 1 or 2 panels side by side; panel_height: CSS pixels of one row of them.
        colours: label → colour, where the label's own is not wanted.

    Raises:
        ValueError: for a title without unit, points that are not finite pairs, no panel, or another
            number of columns.
    """
    require_units(x_title=x_title, y_title=y_title)
    fig, cells = panel_frame(panels, columns, panel_height, title, gap=46, apart=0.09)
    labels = list(dict.fromkeys(label for clouds in panels.values() for label in clouds))
    palette = line_colours(labels) | dict(colours or {})
    unseen = set(labels)
    for cell, (heading, clouds) in zip(cells, panels.items(), strict=True):
        for label, points in clouds.items():
            points = as_array(points, f"{heading}, {label}")
            if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
                raise ValueError(
                    f"{heading}, {label}: points must be finite pairs, not of shape {points.shape}"
                )
            cloud = go.Scatter(
                x=compact(points[:, 0]),
                y=compact(points[:, 1]),
                name=label,
                mode="markers",
                marker=dict(size=5, color=tinted(palette[label], 0.55), line=dict(width=0)),
                legendgroup=label,
                showlegend=label in unseen,
                hovertemplate=f"{label}<extra>{heading}</extra>",
            )
            fig.add_trace(cloud, **cell)
            unseen.discard(label)
    title_edges(fig, cells, columns, x_title, y_title)
    fig.update_xaxes(nticks=4).update_yaxes(nticks=4)
    return fig.update_layout(showlegend=len(labels) > 1, hovermode="closest")


def path_grid(
    panels: Mapping[str, Float[np.ndarray, "point 2"]],
    *,
    x_title: str,
    y_title: str,
    columns: int = 2,
    closed: Sequence[str] = (),
    panel_height: int = 230,
) -> go.Figure:
    """One panel of joined points per entry, coloured from the first (cool) to the last (warm).

    Args:
        panels: panel heading → x and y of its points, in the order in which they are joined.
        x_title, y_title: what the two coordinates are, with the unit in parentheses.
        columns: 1 or 2 panels side by side; panel_height: CSS pixels of one row of them.
        closed: headings of panels whose last point is joined to the first.

    Raises:
        ValueError: for a title without unit, points that are not finite pairs, no panel, or another
            number of columns.
    """
    require_units(x_title=x_title, y_title=y_title)
    fig, cells = panel_frame(panels, columns, panel_height, None, gap=46, apart=0.09)
    title_edges(fig, cells, columns, x_title, y_title)
    fig.update_xaxes(nticks=4).update_yaxes(nticks=4)
    for cell, (heading, points) in zip(cells, panels.items(), strict=True):
        fig.add_trace(_path(_pairs(points, heading), heading in closed), **cell)
        fig.update_yaxes(scaleanchor=fig.data[-1].xaxis or "x", **cell)
    return fig.update_layout(hovermode="closest")


def path_film(
    frames: Float[np.ndarray, "frame point 2"],
    names: Sequence[object],
    *,
    x_title: str,
    y_title: str,
    slider_title: str,
    closed: bool = False,
    frame_ms: int = 150,
    first: int = 0,
    height: int = 560,
) -> go.Figure:
    """Joined points that move: one frame per moment, a slider, a play button; the same two axes in
    all frames.

    Args:
        frames: x and y of the points at each moment. names: of the moments, as the slider shows
            them.
        x_title, y_title: what the two coordinates are; slider_title: what the names are; each with
            its unit.
        closed: join the last point to the first.
        frame_ms: milliseconds per frame when played. first: the frame that is seen before anything
            is played.
        height: CSS pixels.

    Raises:
        ValueError: for names that do not fit the frames or occur twice, points that are not finite
            pairs, a title without unit, no such first frame, or more numbers than a page should
            hold.
    """
    require_units(x_title=x_title, y_title=y_title, slider_title=slider_title)
    moments = [_pairs(points, f"frame {name}") for points, name in zip(frames, names, strict=True)]
    keys = [str(name) for name in names]
    if len(set(keys)) != len(keys) or not 0 <= first < len(keys):
        raise ValueError(
            f"names = {keys}, first = {first}: each frame needs its own name, and first must be "
            f"one of them"
        )
    if sum(points.size for points in moments) > MOST_NUMBERS:
        raise ValueError(
            f"the film holds more than {MOST_NUMBERS:,} numbers: leave out some frames"
        )
    fig = frame(None, height)
    paths = [_path(points, closed) for points in moments]
    fig.add_trace(paths[first])
    bound = 1.05 * max(float(np.abs(points).max()) for points in moments) or 1.0
    fig.update_xaxes(title_text=x_title, range=[-bound, bound], constrain="domain")
    fig.update_yaxes(title_text=y_title, range=[-bound, bound], constrain="domain", scaleanchor="x")
    with_player(
        fig,
        {
            key: dict(type="scatter", x=path.x, y=path.y)
            for key, path in zip(keys, paths, strict=True)
        },
        first=first,
        slider_title=slider_title,
        frame_ms=frame_ms,
    )
    return fig.update_layout(hovermode="closest")


def _pairs(points: object, what: str) -> np.ndarray:
    points = as_array(points, what)
    if (
        points.ndim != 2
        or points.shape[1] != 2
        or len(points) == 0
        or not np.isfinite(points).all()
    ):
        raise ValueError(f"{what}: points must be finite pairs, not of shape {points.shape}")
    return points


def _path(points: Float[np.ndarray, "point 2"], closed: bool) -> go.Scatter:
    colours = digit_colours(len(points))
    if closed:
        points, colours = np.concatenate([points, points[:1]]), [*colours, colours[0]]
    return go.Scatter(
        x=compact(points[:, 0]),
        y=compact(points[:, 1]),
        mode="lines+markers",
        line=dict(width=1, color=tinted(NEUTRAL, 0.6)),
        marker=dict(size=6, color=colours),
        showlegend=False,
        hoverinfo="skip",
    )
