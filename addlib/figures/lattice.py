"""The carry plane of chapter 08 as a picture: a lattice of nine cells, mistakes ringed."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Int

from addlib.figures.palette import CYCLE, NEUTRAL
from addlib.figures.scatter import cloud_grid
from addlib.figures.thin import compact

STATES = ("below nine", "to nine", "above nine")

ALONG = ((1, 4, 7), (3, 4, 5))
"""Cells that differ in the state below, and in that two below, with the other pair at nine."""


def state_places(
    points: Float[np.ndarray, "point 2"], cells: Int[np.ndarray, " point"]
) -> list[list[float | None]]:
    """Where each state lies along either coordinate, the other pair at nine; None without points."""
    return [
        [
            points[cells == cell, coordinate].mean().item() if (cells == cell).any() else None
            for cell in along
        ]
        for coordinate, along in enumerate(ALONG)
    ]


def lattice(
    points: Float[np.ndarray, "point 2"],
    cells: Int[np.ndarray, " point"],
    more: Bool[np.ndarray, " point"],
    wrong: Bool[np.ndarray, " point"],
    heading: str,
    cut: tuple[Float[np.ndarray, " axis"], float] | None = None,
    height: int = 420,
) -> go.Figure:
    """Sums as points in the plane, coloured by the digit written; the axes name the states.

    Args:
        cells: 3 · (state below + 1) + (state two below + 1).
        more: where the own sum and one more is written. wrong: where that is a mistake.
        cut: direction and level; a dashed line where the coordinate along the direction has it.
    """
    kinds = {"writes its own sum": ~more, "writes one more": more, "wrong": wrong}
    clouds = {name: points[chosen] for name, chosen in kinds.items()}
    colours = dict(zip(kinds, (CYCLE[0], CYCLE[1], CYCLE[4]), strict=True))
    fig = cloud_grid(
        {heading: clouds},
        x_title="the pair below sums",
        y_title="the pair two below sums",
        columns=1,
        panel_height=height,
        colours=colours,
    )
    updates = (fig.update_xaxes, fig.update_yaxes)
    for update, places in zip(updates, state_places(points, cells), strict=True):
        ticks = [
            (place, name) for place, name in zip(places, STATES, strict=True) if place is not None
        ]
        update(tickvals=[place for place, _ in ticks], ticktext=[name for _, name in ticks])
    ring = {"symbol": "circle-open", "size": 9, "line": {"width": 1.5}, "color": CYCLE[4]}
    fig.update_traces(marker=ring, selector={"name": "wrong"})
    if cut is not None:
        (along_x, along_y), level = cut
        heights = np.array([points[:, 1].min(), points[:, 1].max()])
        fig.add_scatter(
            x=compact((level - along_y * heights) / along_x),
            y=compact(heights),
            name="threshold",
            mode="lines",
            line={"color": NEUTRAL, "width": 2, "dash": "dash"},
        )
    return fig
