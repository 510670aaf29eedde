"""Claims over many runs in one picture: a row per claim, a column per run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from addlib.claims.threshold import VERDICTS
from addlib.figures.heatmaps import CATEGORIES
from addlib.figures.layout import frame
from addlib.figures.palette import COLOURS, NEUTRAL
from addlib.figures.thin import as_array, compact

VERDICT_COLOURS = {"holds": COLOURS["BA"], "fails": COLOURS["total"], "inconclusive": NEUTRAL}
"""White text has a contrast of at least 4:1 on each colour."""

ROW_HEIGHT = 24  # CSS pixels


def verdict_map(
    values: Float[np.ndarray, "claim run"],
    verdicts: Sequence[Sequence[str]],
    claims: Sequence[str],
    thresholds: Sequence[str],
    runs: Sequence[str],
    *,
    title: str,
) -> go.Figure:
    """A table of measured values, each on the colour of its verdict and with its sign.

    Args:
        values: measured values; NaN where a run has no such claim, which leaves the cell empty.
        verdicts: of the same shape: "holds", "fails" or "inconclusive"; anything where the value is
            NaN.
        claims, thresholds: of the rows, from the top; a threshold reads ``"<= 0.05"`` and stands
            beside the claim's name.
        runs: names of the columns, each once.

    Raises:
        ValueError: names that do not fit the values, an infinite value, or an unknown verdict.
    """
    values = as_array(values, "values", (len(claims), len(runs)))
    codes = np.full(values.shape, np.nan)
    text = np.full(values.shape, "", dtype=object)
    for i, j in np.argwhere(~np.isnan(values)):
        verdict = verdicts[i][j]
        codes[i, j] = list(VERDICTS).index(verdict)
        text[i, j] = f"{VERDICTS[verdict].sign} {values[i, j]:.3g}".replace("-", "−")
    steps = [
        (k / len(VERDICTS), VERDICT_COLOURS[name])
        for i, name in enumerate(VERDICTS)
        for k in (i, i + 1)
    ]
    fig = frame(ROW_HEIGHT * len(claims) + 130)
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
    for name, verdict in VERDICTS.items():  # the legend: a heat map has none of its own
        marker = dict(symbol="square", size=12, color=VERDICT_COLOURS[name])
        fig.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker=marker,
            name=f"{verdict.sign} {name}",
            hoverinfo="skip",
        )
    fig.update_xaxes(side="top", **CATEGORIES)
    fig.update_yaxes(autorange="reversed", **CATEGORIES)
    fig.update_layout(title_text=title, margin=dict(t=44, b=46))
    return fig.update_layout(showlegend=True, hovermode="closest")


def _pretty(threshold: str) -> str:
    return threshold.replace("<=", "≤").replace(">=", "≥").replace("-", "−")
