"""Clouds of points in small multiples: activations on two principal components, coloured by what
they should mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from addlib.axes import panel_frame, require_units, title_edges
from addlib.decimation import as_array, compact
from addlib.palette import line_colours, tinted


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
