"""Films: one frame per moment, a slider, a play button; drawn by plotly alone, without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from addlib.axes import require_units
from addlib.decimation import as_array
from addlib.figures import colour_ends, heat_map
from addlib.palette import GRID, NEUTRAL

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
    """An animated `addlib.figures.heat_map`: one scale for all frames; NaN cells stay empty.

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
