"""Figures: arrays in, a plotly figure out. Nothing is computed but which points of a long line are
drawn.

Maps over all pairs in small multiples: attention, neurons, mistakes, each a square of colours.
Films: one frame per moment, a slider, a play button; drawn by plotly alone, without a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from addlib.figures.charts import DIVERGING, SEQUENTIAL
from addlib.figures.layout import (
    frame,
    panel_frame,
    require_units,
    title_edges,
)
from addlib.figures.palette import GRID, NEUTRAL
from addlib.figures.thin import as_array, compact


def heat_map(
    z: Float[np.ndarray, "row column"],
    x: Sequence[object],
    y: Sequence[object],
    *,
    x_title: str,
    y_title: str,
    z_title: str,
    title: str | None = None,
    diverging: bool = False,
    z_range: tuple[float, float] | None = None,
    number_format: str = ".2f",
    annotate: bool | None = None,
    height: int = 380,
) -> go.Figure:
    """A map of numbers, each written in its cell; NaN cells stay empty. The first row is at the
    top.

    Args:
        z: values. x, y: names of the columns and of the rows.
        x_title, y_title: what the names are. z_title: the quantity with its unit, ``"attention
            (share)"``.
        diverging: blue, white, orange around 0 instead of dark to bright.
        z_range: values of the scale's ends; default those of z (symmetric when diverging).
        number_format: d3 format of the numbers. annotate: write them; default up to 160 cells.

    Raises:
        ValueError: for names that do not fit z, infinite values or a z_title without unit.
    """
    z = as_array(z, "z")
    if z.shape != (len(y), len(x)):
        raise ValueError(
            f"z has shape {z.shape}, its names make ({len(y)}, {len(x)}): rows are y, columns are x"
        )
    if np.isinf(z).any() or np.isnan(z).all():
        raise ValueError("z must hold a finite value, and no infinite one")
    require_units(z_title=z_title)
    low, high = z_range or colour_ends(z, diverging)
    written = annotate if annotate is not None else z.size <= 160
    fig = frame(title, height)
    fig.add_heatmap(
        z=compact(z),
        x=[str(name) for name in x],
        y=[str(name) for name in y],
        zmin=low,
        zmax=high,
        colorscale=list(DIVERGING) if diverging else SEQUENTIAL,
        xgap=1,
        ygap=1,
        texttemplate=f"%{{z:{number_format}}}" if written else None,
        hovertemplate=f"{y_title} %{{y}}, {x_title} %{{x}}<br>{z_title}: %{{z:.4g}}<extra></extra>",
        colorbar=dict(title=dict(text=z_title, side="right"), thickness=12, outlinewidth=0, ypad=0),
    )
    fig.update_xaxes(title_text=x_title, type="category", showgrid=False, showline=False, ticks="")
    fig.update_yaxes(
        title_text=y_title,
        type="category",
        autorange="reversed",
        showgrid=False,
        showline=False,
        ticks="",
    )
    return fig


def colour_ends(z: Float[np.ndarray, "*shape"], diverging: bool) -> tuple[float, float]:
    """Values of a colour scale's ends: those of the numbers, symmetric around 0 when diverging; NaN
    don't count.
    """
    bound = float(np.nanmax(np.abs(z)))
    return (-bound, bound) if diverging else (float(np.nanmin(z)), float(np.nanmax(z)))


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


MOST_NUMBERS = 60_000
"""A film of more numbers is refused: at about seven bytes each it would weigh down the page."""


def heat_map_film(
    frames: Float[np.ndarray, "frame row column"],
    names: Sequence[object],
    x: Sequence[object],
    y: Sequence[object],
    *,
    x_title: str,
    y_title: str,
    z_title: str,
    slider_title: str,
    title: str | None = None,
    diverging: bool = False,
    z_range: tuple[float, float] | None = None,
    decimals: int = 3,
    frame_ms: int = 500,
    first: int = 0,
    height: int = 460,
) -> go.Figure:
    """An animated `addlib.figures.heatmaps.heat_map`: one scale for all frames; NaN cells stay empty.

    Args:
        frames: values. names: of the frames, as the slider shows them. x, y: names of the columns
            and of the rows.
        x_title, y_title: what the names are. z_title: the quantity with its unit, ``"probability
            (share)"``.
        slider_title: what the frames' names are, ``"training step (count)"``.
        diverging: blue, white, orange around 0 instead of dark to bright.
        z_range: values of the scale's ends; default those of all frames (symmetric when diverging).
        decimals: of the numbers that the page stores. frame_ms: milliseconds per frame when played.
        first: the frame that is seen before anything is played. height: CSS pixels.

    Raises:
        ValueError: for names that do not fit the frames, infinite values, a title without unit, no
            such first frame, or more numbers than a page should hold.
    """
    frames = as_array(frames, "frames")
    if frames.shape != (len(names), len(y), len(x)) or frames.size == 0:
        raise ValueError(
            f"frames has shape {frames.shape}, its names make ({len(names)}, {len(y)}, {len(x)}): "
            f"frames, rows, columns"
        )
    if frames.size > MOST_NUMBERS:
        raise ValueError(
            f"frames holds {frames.size:,} numbers: a page takes {MOST_NUMBERS:,}; leave out some "
            f"frames"
        )
    if len({str(name) for name in names}) != len(names):
        raise ValueError(f"names = {list(names)}: each frame needs a name of its own")
    if not 0 <= first < len(frames):
        raise ValueError(f"first = {first}: there are frames 0 to {len(frames) - 1}")
    if np.isinf(frames).any() or np.isnan(frames).all():
        raise ValueError("frames must hold a finite value, and no infinite one")
    require_units(slider_title=slider_title)
    stored = [
        np.round(frame, decimals).tolist() for frame in frames
    ]  # plain numbers: short, and any player reads them
    fig = heat_map(
        np.where(np.isnan(frames[first]).all(), 0.0, frames[first]),
        x,
        y,
        x_title=x_title,
        y_title=y_title,
        z_title=z_title,
        title=title,
        diverging=diverging,
        z_range=z_range or colour_ends(frames, diverging),
        annotate=False,
        height=height,
    )
    fig.data[0].z = stored[first]
    return with_player(
        fig,
        {str(name): dict(type="heatmap", z=z) for name, z in zip(names, stored, strict=True)},
        first=first,
        slider_title=slider_title,
        frame_ms=frame_ms,
    )


def with_player(
    fig: go.Figure,
    frames: Mapping[str, dict[str, Any]],
    *,
    first: int,
    slider_title: str,
    frame_ms: int,
) -> go.Figure:
    """The figure with a slider and a play button that change its first trace; returned for
    chaining.

    Args:
        frames: name of each moment → what its trace is then, with the trace's ``type``. first: the
            moment shown now.
        slider_title: what the names are, with the unit in parentheses. frame_ms: milliseconds per
            frame when played.
    """
    fig.frames = [go.Frame(name=name, data=[trace], traces=[0]) for name, trace in frames.items()]
    at_once = dict(mode="immediate", transition=dict(duration=0))
    still = dict(frame=dict(duration=0, redraw=True), **at_once)
    playing = dict(frame=dict(duration=frame_ms, redraw=True), fromcurrent=True, **at_once)
    slider = dict(
        active=first,
        steps=[dict(method="animate", label=name, args=[[name], still]) for name in frames],
        currentvalue=dict(prefix=f"{slider_title}: ", xanchor="left"),
        pad=dict(t=52, l=92),
        len=1.0,
        x=0,
        y=0,
        bordercolor=NEUTRAL,
        bgcolor=GRID,
        tickcolor=NEUTRAL,
    )
    menu = dict(
        type="buttons",
        direction="left",
        showactive=False,
        buttons=[
            dict(label="▶", method="animate", args=[None, playing]),
            dict(label="❚❚", method="animate", args=[[None], still]),
        ],
        x=0,
        y=0,
        xanchor="left",
        yanchor="top",
        pad=dict(t=72),
        bordercolor=NEUTRAL,
        bgcolor=GRID,
    )
    return fig.update_layout(sliders=[slider], updatemenus=[menu])
