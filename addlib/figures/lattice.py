"""The carry plane of chapter 08 as a picture: a lattice of nine cells, mistakes ringed."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Int

from addlib.figures.palette import CYCLE
from addlib.figures.scatter import cloud_grid

STATES = ("below nine", "to nine", "above nine")


def lattice(
    points: Float[np.ndarray, "point 2"],
    cells: Int[np.ndarray, " point"],
    more: Bool[np.ndarray, " point"],
    wrong: Bool[np.ndarray, " point"],
    heading: str,
    height: int = 420,
) -> go.Figure:
    """Sums as points in the plane, coloured by the digit written; the axes name the states.

    Args:
        cells: 3 · (state below + 1) + (state two below + 1).
        more: where the own sum and one more is written. wrong: where that is a mistake.
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
    for update, coordinate, along in (
        (fig.update_xaxes, 0, (1, 4, 7)),  # the other pair at nine
        (fig.update_yaxes, 1, (3, 4, 5)),
    ):
        there = [
            (points[cells == cell, coordinate], name)
            for cell, name in zip(along, STATES, strict=True)
        ]
        ticks = [(values.mean(), name) for values, name in there if len(values)]
        update(tickvals=[value for value, _ in ticks], ticktext=[name for _, name in ticks])
    ring = {"symbol": "circle-open", "size": 9, "line": {"width": 1.5}, "color": CYCLE[4]}
    return fig.update_traces(marker=ring, selector={"name": "wrong"})
