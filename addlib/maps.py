"""Maps over all pairs in small multiples: attention, neurons, mistakes, each a square of colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from addlib.axes import panel_frame, require_units, title_edges
from addlib.decimation import as_array, compact
from addlib.figures import DIVERGING, SEQUENTIAL, colour_ends


def map_grid(
    panels: Mapping[str, Float[np.ndarray, "row column"]],
    *,
    x_title: str,
    y_title: str,
    z_title: str,
    names: Sequence[object] | None = None,
    row_names: Sequence[object] | None = None,
    columns: int = 2,
    title: str | None = None,
    diverging: bool = False,
    z_range: tuple[float, float] | None = None,
    number_format: str | None = None,
    panel_height: int = 210,
) -> go.Figure:
    """Maps of numbers side by side on one colour scale; NaN cells stay empty. The first row is at
    the top.

    Args:
        panels: panel heading → values, all of the same shape.
        x_title, y_title: what columns and rows are. z_title: the quantity with its unit,
            ``"attention (share)"``.
        names: of the columns; default 0, 1, 2, …. row_names: of the rows; default the same as of
            the columns.
        columns: 1 or 2 panels side by side; panel_height: CSS pixels of one row of them.
        diverging: blue, white, orange around 0 instead of dark to bright.
        z_range: values of the scale's ends; default those of all panels (symmetric when diverging).
        number_format: d3 format of the numbers written in the cells; None writes none.

    Raises:
        ValueError: for a z_title without unit, maps of different shapes, infinite values, nothing
            but NaN, no panel.
    """
    require_units(z_title=z_title)
    fig, cells = panel_frame(panels, columns, panel_height, title, gap=58, apart=0.09)
    maps = {heading: as_array(z, heading) for heading, z in panels.items()}
    every = (
        np.stack(list(maps.values())) if len({z.shape for z in maps.values()}) == 1 else np.empty(0)
    )
    if every.ndim != 3 or np.isinf(every).any() or np.isnan(every).all():
        raise ValueError(
            f"maps must be finite and of one shape, not {[z.shape for z in maps.values()]}"
        )
    low, high = z_range or colour_ends(every, diverging)
    for cell, (heading, z) in zip(cells, maps.items(), strict=True):
        fig.add_heatmap(
            z=compact(z),
            x=_names(names, z.shape[1]),
            y=_names(names if row_names is None else row_names, z.shape[0]),
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
            texttemplate=f"%{{z:{number_format}}}" if number_format else None,
            hovertemplate=f"{y_title} %{{y}}, {x_title} %{{x}}<br>{z_title}: %{{z:.4g}}<extra>{heading}</extra>",
            **cell,
        )
    title_edges(fig, cells, columns, x_title, y_title)
    fig.update_xaxes(type="category", showgrid=False, showline=False, ticks="")
    fig.update_yaxes(
        type="category", autorange="reversed", showgrid=False, showline=False, ticks=""
    )
    scale = dict(title=dict(text=z_title, side="right"), thickness=12, outlinewidth=0)
    colours = list(DIVERGING) if diverging else SEQUENTIAL
    return fig.update_layout(
        coloraxis=dict(cmin=low, cmax=high, colorscale=colours, colorbar=scale)
    )


def _names(names: Sequence[object] | None, count: int) -> list[str]:
    listed = [str(name) for name in (range(count) if names is None else names)]
    if len(listed) != count:
        raise ValueError(f"{len(listed)} names for {count} rows or columns")
    return listed
