"""Maps of numbers as squares of colour, alone, in small multiples or as a film.

A film has one frame per moment, a slider and a play button; plotly alone draws it, without a
server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from addlib.figures.layout import frame, in_percent, panel_frame, title_edges
from addlib.figures.palette import DIVERGING, GRID, NEUTRAL, SEQUENTIAL
from addlib.figures.thin import as_array, compact

CATEGORIES = dict(type="category", showgrid=False, showline=False, ticks="")
"""Plotly's settings of an axis along which the squares of a map stand."""

MOST_APART = 30
"""Rows or columns up to which squares stand apart; lines between more of them would hide the map."""

MOST_NAMED = 10
"""Columns up to which each has its name on a phone, too; plotly leaves some out."""

PLAYER_HEIGHT = 92
"""CSS pixels that slider and buttons take below the axis titles."""


def heat_map(
    z: Float[np.ndarray, "row column"],
    x: Sequence[object],
    y: Sequence[object],
    *,
    x_title: str,
    y_title: str,
    z_title: str,
    diverging: bool = False,
    z_range: tuple[float, float] | None = None,
    number_format: str = "",
    annotate: bool | None = None,
    height: int = 380,
) -> go.Figure:
    """A map of numbers, the first row at the top; NaN cells stay empty.

    Args:
        z: values. x, y: names of the columns and of the rows.
        x_title, y_title: what the names are. z_title: the quantity with its unit; the values of
            ``"attention (%)"`` are shares, written in per cent.
        diverging: blue, white, orange around 0 instead of dark to bright.
        z_range: values of the scale's ends; default those of z (symmetric when diverging).
        number_format: d3 format of the numbers; default two decimals, or whole per cent.
        annotate: write them in the cells; default up to 160 cells. height: CSS pixels.

    Raises:
        ValueError: names that do not fit z, or an infinite value.
    """
    z = as_array(z, "z", (len(y), len(x)))
    annotate = z.size <= 160 if annotate is None else annotate
    hover = _hover(x_title, y_title, z_title)
    number_format = number_format or (".0%" if in_percent(z_title)[1] else ".2f")
    fig = frame(height)
    fig.add_trace(_map(z, x, y, hover, number_format if annotate else ""))
    fig.update_xaxes(title_text=x_title, **CATEGORIES, **_round_ticks(x))
    fig.update_yaxes(title_text=y_title, autorange="reversed", **CATEGORIES, **_round_ticks(y))
    scale = _scale(z, z_title, diverging, z_range)
    return fig.update_layout(coloraxis=scale, coloraxis_colorbar_ypad=0)


def map_grid(
    panels: Mapping[str, Float[np.ndarray, "row column"]],
    *,
    x_title: str,
    y_title: str,
    z_title: str,
    names: Sequence[object] | None = None,
    row_names: Sequence[object] | None = None,
    columns: int = 2,
    diverging: bool = False,
    z_range: tuple[float, float] | None = None,
    number_format: str = "",
    panel_height: int = 210,
) -> go.Figure:
    """Maps of numbers side by side on one colour scale, their first row at the top.

    The rows are named at the left only: on a phone, long names between two maps would lie on one.

    Args:
        panels: panel heading → values, all of the same shape; NaN cells stay empty.
        names, row_names: of the columns and of the rows; default 0, 1, 2, ….
        columns: 1 or 2 panels side by side. panel_height: CSS pixels of one row of them.
        z_range: values of the scale's ends; default those of all panels (symmetric when diverging).
        number_format: d3 format of the numbers written in the cells; empty writes none.
            The other arguments are those of `heat_map`.

    Raises:
        ValueError: as `heat_map`.
    """
    fig, cells = panel_frame(panels, columns, panel_height, gap=58, apart=0.09)
    n_rows, n_columns = np.shape(next(iter(panels.values())))
    x = range(n_columns) if names is None else names
    y = range(n_rows) if row_names is None else row_names
    maps = {heading: as_array(z, heading, (len(y), len(x))) for heading, z in panels.items()}
    for cell, (heading, z) in zip(cells, maps.items(), strict=True):
        hover = _hover(x_title, y_title, z_title, heading)
        fig.add_trace(_map(z, x, y, hover, number_format), **cell)
    title_edges(fig, cells, columns, x_title, y_title)
    # the names are given: a map without any number shows its axes too
    fig.update_xaxes(categoryarray=[*map(str, x)], range=[-0.5, n_columns - 0.5], **CATEGORIES)
    fig.update_xaxes(**({"dtick": 1} if n_columns <= MOST_NAMED else _round_ticks(x)))
    fig.update_yaxes(categoryarray=[*map(str, y)], range=[n_rows - 0.5, -0.5], **CATEGORIES)
    fig.update_yaxes(**_round_ticks(y))
    if columns > 1:
        fig.update_yaxes(showticklabels=False, col=2)
    scale = _scale(np.stack([*maps.values()]), z_title, diverging, z_range)
    return fig.update_layout(coloraxis=scale)


def stair_maps(
    heads: Mapping[str, Sequence[Sequence[float]] | Float[np.ndarray, "n_answer n_digits"]],
) -> go.Figure | None:
    """Where heads look, a small map for each: answer digits from the top one, pairs as written.

    For many heads or digits, where the bars of `addlib.figures.drawings.staircase_picture` would be
    hundreds. None if there are no heads.

    Args:
        heads: heading → share of attention by answer column and pair column, units first
            (`addlib.analysis.roles.pair_attention`), all of one size.

    Raises:
        ValueError: as `heat_map`.
    """
    panels = {heading: np.array(shares)[::-1, ::-1] for heading, shares in heads.items()}
    if not panels:
        return None
    n_answer, n_digits = next(iter(panels.values())).shape
    return map_grid(
        panels,
        names=range(n_digits - 1, -1, -1),
        row_names=[f"A{k}" for k in range(n_answer - 1, -1, -1)],
        x_title="pair of digits",
        y_title="answer digit",
        z_title="attention (%)",
        z_range=(0, 1),
        panel_height=70 + 16 * n_answer,
    )


def heat_map_film(
    panels: Mapping[str, Float[np.ndarray, "frame row column"]],
    names: Sequence[object],
    *,
    x_title: str,
    y_title: str,
    z_title: str,
    slider_title: str,
    columns: int = 2,
    z_range: tuple[float, float] | None = None,
    first: int = 0,
    panel_height: int = 150,
) -> go.Figure:
    """A `map_grid` that one slider moves, on one scale for all frames; values have two decimals.

    Args:
        panels: panel heading → values of its frames, all of the same shape.
        names: of the frames, all different, as the slider shows them.
        slider_title: what the frames' names are, ``"training step"``.
        z_range: values of the scale's ends; default those of all frames.
        first: the frame that is seen before anything is played.
            The other arguments are those of `map_grid`.

    Raises:
        ValueError: as `heat_map`.
    """
    shape = (len(names), *np.shape(next(iter(panels.values())))[1:])
    films = {heading: as_array(film, heading, shape) for heading, film in panels.items()}
    every = np.stack([*films.values()])
    fig = map_grid(
        {heading: film[first] for heading, film in films.items()},
        columns=columns,
        x_title=x_title,
        y_title=y_title,
        z_title=z_title,
        z_range=z_range or (float(np.nanmin(every)), float(np.nanmax(every))),
        panel_height=panel_height,
    )
    # plain numbers of two decimals: short, and any player reads them
    stored = [[np.round(film[i], 2).tolist() for film in films.values()] for i in range(len(names))]
    for trace, z in zip(fig.data, stored[first], strict=True):
        trace.update(z=z, hovertemplate=trace.hovertemplate.replace(":.1%", ":.0%"))
    moments = {
        str(name): [dict(type="heatmap", z=z) for z in maps]
        for name, maps in zip(names, stored, strict=True)
    }
    with_player(fig, moments, first=first, slider_title=slider_title, frame_ms=500)
    return fig.update_layout(height=fig.layout.height + PLAYER_HEIGHT)


def with_player(
    fig: go.Figure,
    moments: Mapping[str, Sequence[dict[str, Any]]],
    *,
    first: int,
    slider_title: str,
    frame_ms: int,
) -> go.Figure:
    """The figure with a slider and a play button that change its first traces.

    Args:
        moments: name of each moment → what its first traces are then, each with its ``type``.
        first: the moment shown now. frame_ms: milliseconds per frame when played.
        slider_title: what the names are.
    """
    fig.frames = [
        go.Frame(name=name, data=list(traces), traces=list(range(len(traces))))
        for name, traces in moments.items()
    ]
    at_once = dict(mode="immediate", transition=dict(duration=0))
    still = dict(frame=dict(duration=0, redraw=True), **at_once)
    playing = dict(frame=dict(duration=frame_ms, redraw=True), fromcurrent=True, **at_once)
    look = dict(x=0, bordercolor=NEUTRAL, bgcolor=GRID)
    slider = dict(
        active=first,
        steps=[dict(method="animate", label=name, args=[[name], still]) for name in moments],
        currentvalue=dict(prefix=f"{slider_title}: ", xanchor="left"),
        pad=dict(t=52, l=92),
        len=1.0,
        y=0,
        tickcolor=NEUTRAL,
        **look,
    )
    buttons = dict(
        type="buttons",
        direction="left",
        showactive=False,
        buttons=[
            dict(label="▶", method="animate", args=[None, playing]),
            dict(label="❚❚", method="animate", args=[[None], still]),
        ],
        xanchor="left",
        y=0,
        yanchor="top",
        pad=dict(t=72),
        **look,
    )
    return fig.update_layout(sliders=[slider], updatemenus=[buttons])


def _map(
    z: np.ndarray, x: Sequence[object], y: Sequence[object], hover: str, number_format: str
) -> go.Heatmap:
    gap = int(max(np.shape(z)) <= MOST_APART)
    return go.Heatmap(
        z=compact(z),
        x=[str(name) for name in x],
        y=[str(name) for name in y],
        coloraxis="coloraxis",
        xgap=gap,
        ygap=gap,
        texttemplate=f"%{{z:{number_format}}}" if number_format else None,
        hovertemplate=hover,
    )


def _round_ticks(names: Sequence[object]) -> dict[str, int]:
    """Ticks at round numbers along an axis of many numbers from 0; plotly's own would be at any."""
    counted = [*map(str, names)] == [str(i) for i in range(len(names))]
    if not counted or len(names) <= MOST_APART:
        return {}
    return {"tick0": 0, "dtick": 10 if len(names) <= 2 * MOST_APART else 20}


def _hover(x_title: str, y_title: str, z_title: str, heading: str = "") -> str:
    place = f"{y_title} %{{y}}, {x_title} %{{x}}"
    z_title, percent = in_percent(z_title)
    value = "%{z:.1%}" if percent else "%{z:.4g}"
    return f"{place}<br>{z_title}: {value}<extra>{heading}</extra>"


def _scale(
    values: np.ndarray, z_title: str, diverging: bool, z_range: tuple[float, float] | None
) -> dict[str, object]:
    """Plotly's settings of a colour axis over `z_range`, by default that of the values."""
    low, high = z_range or (float(np.nanmin(values)), float(np.nanmax(values)))
    if diverging and not z_range:
        high = max(-low, high)
        low = -high
    z_title, percent = in_percent(z_title)
    bar = dict(title=dict(text=z_title, side="right"), thickness=12, outlinewidth=0)
    if percent:
        bar["tickformat"] = "~%"
    colours = DIVERGING if diverging else SEQUENTIAL
    return dict(cmin=low, cmax=high, colorscale=colours, colorbar=bar)
