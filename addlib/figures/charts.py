"""Figures: arrays in, a plotly figure out. Nothing is computed but which points of a long line are
drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Shaped

from addlib.figures.layout import (
    add_levels,
    axis,
    checked_levels,
    extent_of,
    frame,
    label_ends,
    panel_frame,
    require_units,
)
from addlib.figures.palette import NEUTRAL, line_colours, tinted
from addlib.figures.thin import as_array, carry_forward, compact, decimate

CARRIED = "Where a step has no value, the line keeps the last one."


SEQUENTIAL, DIVERGING = "Cividis", ((0.0, "#0d68c8"), (0.5, "#f2f2f2"), (1.0, "#c85a00"))


def line_family(
    x: Shaped[np.ndarray, " point"],
    lines: Mapping[str, Float[np.ndarray, " point"]],
    *,
    x_title: str,
    y_title: str,
    title: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    levels: Mapping[str, float] | None = None,
    colours: Mapping[str, str] | None = None,
    max_points: int = 2000,
    budget: int = 6000,
    height: int = 380,
) -> go.Figure:
    """A family of lines over a common x: loss curves, accuracies, doses.

    Gaps (NaN) carry the last value forward, and `notes` then says so. Up to four lines with short
    labels whose ends lie apart are labelled at their right ends; otherwise there is a legend below.

    Args:
        x: positions, increasing.
        lines: label → values at x. The labels choose the colours (`palette.line_colours`).
        x_title, y_title: with the unit in parentheses: ``"loss (nats)"``, ``"training step
            (count)"``.
        log_x, log_y: logarithmic axes; their values must be positive.
        x_range, y_range: the part drawn; points outside x_range are not stored in the page.
        levels: label → y of dashed horizontal reference lines.
        colours: label → colour, where the label's own is not wanted.
        max_points, budget: most points of one line, and of all lines together. height: CSS pixels.

    Raises:
        ValueError: for a title without unit, unequal lengths, infinite values, values ≤ 0 on a log
            axis, no line.
    """
    require_units(x_title=x_title, y_title=y_title)
    levels = checked_levels(levels, log_y)
    palette = line_colours(list(lines)) | dict(colours or {})
    share = _share(len(lines), max_points, budget)
    points = {
        label: _points(label, x, y, log_x, log_y, x_range, share) for label, y in lines.items()
    }
    fig = frame(title, height)
    fig.add_traces([_line(label, *points[label], palette[label]) for label in lines])
    x_extent = extent_of([x for x, _ in points.values()], log_x, x_range)
    extent = extent_of([*(y for _, y in points.values()), *levels.values()], log_y, y_range)
    add_levels(fig, levels, next(iter(points.values()))[0][0], extent, log_y)
    fig.update_xaxes(title_text=x_title, **axis(log_x, x_range, x_extent))
    fig.update_yaxes(title_text=y_title, **axis(log_y, y_range, extent))
    ends = {label: y[-1] for label, (_, y) in points.items()}
    if len(lines) > 1 and not label_ends(fig, ends, palette, extent, log_y):
        fig.update_layout(showlegend=True)
    return _note_gaps(fig, lines.values())


def panel_grid(
    x: Shaped[np.ndarray, " point"],
    panels: Mapping[str, Mapping[str, Float[np.ndarray, " point"]]],
    *,
    x_title: str,
    y_title: str,
    columns: int = 2,
    title: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    colours: Mapping[str, str] | None = None,
    max_points: int = 2000,
    budget: int = 9000,
    panel_height: int = 170,
) -> go.Figure:
    """Small multiples: one panel of lines per entry, all on the same two axes, one legend entry per
    label.

    Args:
        x: positions, increasing, shared by all panels.
        panels: panel heading → {label: values at x}.
        columns: 1 or 2 panels side by side; panel_height: CSS pixels of one row of them.
            The other arguments are those of `line_family`.

    Raises:
        ValueError: as `line_family`, and for another number of columns.
    """
    require_units(x_title=x_title, y_title=y_title)
    every = [(heading, label, y) for heading, lines in panels.items() for label, y in lines.items()]
    labels = list(dict.fromkeys(label for _, label, _ in every))
    palette = line_colours(labels) | dict(colours or {})
    share = _share(len(every), max_points, budget)
    fig, places = panel_frame(panels, columns, panel_height, title)
    cells = dict(zip(panels, places, strict=True))
    unseen, points = set(labels), []
    for heading, label, y in every:
        points.append(_points(f"{heading}, {label}", x, y, log_x, log_y, x_range, share))
        trace = _line(label, *points[-1], palette[label])
        fig.add_trace(trace.update(legendgroup=label, showlegend=label in unseen), **cells[heading])
        unseen.discard(label)
    x_axis = axis(log_x, x_range, extent_of([x for x, _ in points], log_x, x_range))
    fig.update_xaxes(**dict(tickformat="~s", nticks=5, tickangle=0) | x_axis)
    fig.update_yaxes(**axis(log_y, y_range, extent_of([y for _, y in points], log_y, y_range)))
    foot = (
        x_title if columns == 1 else "<br>(".join(x_title.rsplit(" (", 1))
    )  # two lines: a phone's panel is narrow
    for i, cell in enumerate(
        cells.values()
    ):  # titles and numbers only at the foot of each column and at the left
        lowest, leftmost = i >= len(cells) - columns, i % columns == 0
        fig.update_xaxes(
            matches="x" if i else None, showticklabels=lowest, title_text=foot * lowest, **cell
        )
        fig.update_yaxes(
            matches="y" if i else None,
            showticklabels=leftmost,
            title_text=y_title * leftmost,
            **cell,
        )
    fig.update_layout(showlegend=len(labels) > 1)
    return _note_gaps(fig, [y for _, _, y in every])


def bars(
    names: Sequence[str],
    series: Mapping[str, Float[np.ndarray, " name"]],
    *,
    x_title: str,
    y_title: str,
    intervals: Mapping[str, tuple[Float[np.ndarray, " name"], Float[np.ndarray, " name"]]]
    | None = None,
    title: str | None = None,
    y_range: tuple[float, float] | None = None,
    levels: Mapping[str, float] | None = None,
    colours: Mapping[str, str] | None = None,
    height: int = 340,
) -> go.Figure:
    """Grouped bars with intervals: one group per name, one bar per series.

    Args:
        names: groups along x; x_title says what they are.
        series: label → one value per name; NaN leaves the bar out. y_title: the quantity with its
            unit.
        intervals: label → (low, high) ends of the interval around each value, drawn as whiskers.
        levels: label → y of dashed horizontal reference lines. The other arguments are those of
            `line_family`.

    Raises:
        ValueError: for a y_title without unit, unequal lengths, infinite values, an interval that
            misses its value.
    """
    require_units(y_title=y_title)
    levels = checked_levels(levels, log_y=False)
    palette = line_colours(list(series)) | dict(colours or {})
    fig, heights = frame(title, height), [0.0, *levels.values()]
    for label, values in series.items():
        y = as_array(values, label)
        if y.shape != (len(names),) or np.isinf(y).any():
            raise ValueError(
                f"{label!r} must hold {len(names)} finite values (NaN leaves a bar out), not {y}"
            )
        whiskers = _whiskers(label, y, *intervals[label]) if label in (intervals or {}) else None
        look = dict(color=tinted(palette[label]), line=dict(color=palette[label], width=1.6))
        fig.add_bar(
            x=list(names), y=y, name=label, marker=look, error_y=whiskers, hovertemplate="%{y:.4g}"
        )
        heights.append(y)
    add_levels(fig, levels, names[0], extent_of(heights, False, y_range), log_y=False)
    fig.update_xaxes(title_text=x_title, type="category", showgrid=False)
    fig.update_yaxes(title_text=y_title, range=y_range, rangemode="tozero")
    return fig.update_layout(barmode="group", bargap=0.25, showlegend=len(series) > 1)


def notes(fig: go.Figure) -> list[str]:
    """Sentences a caption must add: what the drawing did to the data (gaps carried forward)."""
    return list((fig.layout.meta or {}).get("notes", []))


# ------------------------------------------------------------- points and whiskers
def _share(n_lines: int, max_points: int, budget: int) -> int:
    if n_lines == 0:
        raise ValueError("there must be at least one line to draw")
    return max(4, min(max_points, budget // n_lines))


def _points(
    label: str, x, y, log_x: bool, log_y: bool, x_range, max_points: int
) -> tuple[np.ndarray, np.ndarray]:
    """The points of one line that the page stores: filled, cropped, thinned."""
    x, y = as_array(x, "x"), as_array(y, f"line {label!r}")
    if x.shape != y.shape:
        raise ValueError(f"line {label!r} has shape {y.shape}, x has {x.shape}")
    if np.isinf(y).any():
        raise ValueError(f"line {label!r} is infinite at x = {x[np.isinf(y)][0]:g}")
    if log_y and (y <= 0).any():
        raise ValueError(
            f"line {label!r} is {y[y <= 0][0]:g} at x = {x[y <= 0][0]:g}: must be positive on a "
            f"log axis"
        )
    y = carry_forward(y)
    keep = ~np.isnan(y)
    if x_range is not None:  # one point beyond each end, so that the line reaches the frame
        first, last = (
            np.searchsorted(x, x_range[0], "right") - 1,
            np.searchsorted(x, x_range[1], "left"),
        )
        keep[: max(first, 0)] = False
        keep[last + 1 :] = False
    if not keep.any():
        raise ValueError(
            f"line {label!r} has no value to draw"
            + (f" within x_range = {x_range}" if x_range else "")
        )
    return decimate(x[keep], y[keep], max_points, log_x)


def _line(label: str, x: np.ndarray, y: np.ndarray, colour: str) -> go.Scatter:
    marks = "lines+markers" if len(x) <= 20 else "lines"
    return go.Scatter(
        x=compact(x),
        y=compact(y),
        name=label,
        mode=marks,
        line=dict(color=colour, width=1.8),
        hovertemplate="%{y:.4g}",
    )


def _whiskers(label: str, y: np.ndarray, low: object, high: object) -> dict:
    low, high = as_array(low, f"low ends of {label!r}"), as_array(high, f"high ends of {label!r}")
    if low.shape != y.shape or high.shape != y.shape or (low > y).any() or (high < y).any():
        raise ValueError(f"the intervals of {label!r} must hold its values: {low} ≤ {y} ≤ {high}")
    return dict(
        type="data",
        symmetric=False,
        array=high - y,
        arrayminus=y - low,
        color=NEUTRAL,
        thickness=1.5,
        width=4,
    )


def _note_gaps(fig: go.Figure, lines: Iterable[object]) -> go.Figure:
    gaps = any(np.isnan(as_array(y, "line")).any() for y in lines)
    return fig.update_layout(meta=dict(notes=[CARRIED] * gaps))
