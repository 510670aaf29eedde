"""Claims over many runs in one picture: a row per claim, a column per run, colours by verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from addlib.claims.threshold import VERDICTS
from addlib.figures.layout import frame
from addlib.figures.palette import COLOURS, NEUTRAL
from addlib.figures.thin import as_array, compact

LOOK: dict[str, tuple[str, str]] = {
    "holds": (COLOURS["BA"], "✓"),
    "fails": (COLOURS["total"], "✗"),
    "inconclusive": (NEUTRAL, "?"),
}
"""Colour and sign of each verdict; white text has a contrast of at least 4:1 on each colour."""

ROW_HEIGHT = 24  # CSS pixels


def verdict_map(
    values: Float[np.ndarray, "claim run"],
    verdicts: Sequence[Sequence[str]],
    claims: Sequence[str],
    thresholds: Sequence[str],
    runs: Sequence[str],
    *,
    title: str | None = None,
) -> go.Figure:
    """A table of measured values, each on the colour of its verdict; the first claim is on top.

    Args:
        values: measured values; NaN where a run has no such claim, which leaves the cell empty.
        verdicts: of the same shape: "holds", "fails" or "inconclusive"; anything where the value is
            NaN.
        claims, thresholds: of the rows; a threshold reads ``"<= 0.05"`` and stands beside the
            claim's name.
        runs: names of the columns, each once.

    Raises:
        ValueError: names that do not fit the values, an infinite value, or a value with another
            verdict.
    """
    values = as_array(values, "values")
    shape = (len(claims), len(runs))
    if (
        values.shape != shape
        or len(thresholds) != shape[0]
        or {len(row) for row in verdicts} != {shape[1]}
    ):
        raise ValueError(
            f"values have shape {values.shape}, their names make {shape}: rows are claims, columns "
            f"runs"
        )
    if len(set(claims)) < shape[0] or len(set(runs)) < shape[1]:
        raise ValueError("every claim and every run must have a name of its own")
    if np.isinf(values).any():
        raise ValueError("values must be finite; NaN leaves a cell empty")
    there = ~np.isnan(values)
    unknown = {verdicts[i][j] for i, j in np.argwhere(there)} - set(VERDICTS)
    if unknown:
        raise ValueError(
            f"verdicts must be one of {', '.join(VERDICTS)}, not "
            f"{', '.join(map(repr, sorted(unknown)))}"
        )
    codes, text = np.full(shape, np.nan), np.full(shape, "", dtype=object)
    for i, j in np.argwhere(there):
        codes[i, j] = VERDICTS.index(verdicts[i][j])
        text[i, j] = f"{LOOK[verdicts[i][j]][1]} {values[i, j]:.3g}".replace("-", "−")
    steps = [
        (k / len(VERDICTS), LOOK[name][0]) for i, name in enumerate(VERDICTS) for k in (i, i + 1)
    ]
    fig = frame(title, ROW_HEIGHT * shape[0] + 130)
    fig.add_heatmap(
        z=compact(codes),
        x=list(runs),
        y=[
            f"{claim}  {_pretty(threshold)}"
            for claim, threshold in zip(claims, thresholds, strict=True)
        ],
        zmin=-0.5,
        zmax=len(VERDICTS) - 0.5,
        colorscale=steps,
        showscale=False,
        xgap=2,
        ygap=2,
        text=text.tolist(),
        texttemplate="%{text}",
        textfont=dict(color="#ffffff", size=12),
        hovertemplate="%{y}<br>%{x}: %{text}<extra></extra>",
    )
    for name in VERDICTS:  # the legend: a heat map has none of its own
        colour, sign = LOOK[name]
        marker = dict(symbol="square", size=12, color=colour)
        fig.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker=marker,
            name=f"{sign} {name}",
            hoverinfo="skip",
        )
    fig.update_xaxes(type="category", side="top", showgrid=False, showline=False, ticks="")
    fig.update_yaxes(
        type="category", autorange="reversed", showgrid=False, showline=False, ticks=""
    )
    return fig.update_layout(showlegend=True, hovermode="closest", margin_b=46)


def _pretty(threshold: str) -> str:
    return threshold.replace("<=", "≤").replace(">=", "≥").replace("-", "−")
