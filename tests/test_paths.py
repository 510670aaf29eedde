"""Paths: points joined in their order on equal scales, film frames that fit the slider, refusals."""

import json

import numpy as np
import pytest

from addlib.figures.palette import digit_colours
from addlib.figures.scatter import path_film, path_grid

AXES = {"x_title": "along cosine (weight)", "y_title": "along sine (weight)"}
ANGLE = 2 * np.pi * np.arange(7) / 7
RING = np.stack([np.cos(ANGLE), np.sin(ANGLE)], 1)


def film(frames, names, **changes):
    return path_film(frames, names, **AXES | {"slider_title": "epoch (count)"} | changes)


def test_points_are_joined_in_order_and_closed_where_asked():
    fig = path_grid({"ring": RING, "curve": 2 * RING, "third": RING}, closed=["ring"], **AXES)
    ring, curve, third = fig.data
    assert np.allclose(np.stack([ring.x, ring.y], 1), np.concatenate([RING, RING[:1]]), atol=1e-3)
    assert np.allclose(np.stack([curve.x, curve.y], 1), 2 * RING, atol=1e-3)
    assert {trace.mode for trace in fig.data} == {"lines+markers"}
    assert list(curve.marker.color) == digit_colours(7)
    assert ring.marker.color[-1] == ring.marker.color[0]
    assert (fig.layout.yaxis.scaleanchor, fig.layout.yaxis2.scaleanchor) == ("x", "x2")
    assert third.yaxis == "y3"
    assert fig.layout.yaxis3.scaleanchor == "x3"


def test_each_frame_has_its_points_and_its_slider_step():
    frames, names = np.stack([RING, 0.5 * RING, 3 * RING]), [0, 100, 250]
    fig = film(frames, names, closed=True, first=1)
    (slider,) = fig.layout.sliders
    assert (
        [frame.name for frame in fig.frames]
        == [step.label for step in slider.steps]
        == ["0", "100", "250"]
    )
    assert slider.active == 1
    assert np.allclose(fig.data[0].x, fig.frames[1].data[0].x)
    for frame, points in zip(fig.frames, frames, strict=True):
        assert np.allclose(frame.data[0].x[:-1], points[:, 0], atol=2e-3)
        assert np.allclose(frame.data[0].y[:-1], points[:, 1], atol=2e-3)
        assert frame.data[0].x[-1] == frame.data[0].x[0]
    assert fig.layout.xaxis.range == fig.layout.yaxis.range
    assert fig.layout.xaxis.range[1] > 3 * RING.max() > 0.9 * fig.layout.xaxis.range[1]
    assert [button.label for button in fig.layout.updatemenus[0].buttons] == ["▶", "❚❚"]
    assert json.loads(fig.to_json())["frames"][2]["data"][0]["type"] == "scatter"


@pytest.mark.parametrize(
    ("panels", "more", "message"),
    [
        ({}, {}, "at least one panel"),
        ({"A": np.zeros((3, 3))}, {}, "A: points must be finite pairs"),
        ({"A": np.zeros((0, 2))}, {}, "finite pairs"),
        ({"A": np.array([[0.0, np.nan]])}, {}, "finite"),
        ({"A": RING}, {"columns": 3}, "columns = 3"),
        ({"A": RING}, {"x_title": "no unit"}, "no unit"),
    ],
)
def test_panels_that_cannot_be_drawn_are_refused(panels, more, message):
    with pytest.raises(ValueError, match=message):
        path_grid(panels, **AXES | more)


@pytest.mark.parametrize(
    ("frames", "names", "more", "message"),
    [
        (RING[None], [1, 2], {}, "zip"),
        (np.stack([RING, RING]), [1, 1], {}, "own name"),
        (RING[None], [1], {"first": 1}, "first = 1"),
        (np.zeros((1, 4, 3)), [1], {}, "frame 1: points must be finite pairs"),
        (np.zeros((2, 20_000, 2)), [1, 2], {}, "leave out some frames"),
        (RING[None], [1], {"slider_title": "epoch"}, "slider_title"),
    ],
)
def test_films_that_cannot_be_shown_are_refused(frames, names, more, message):
    with pytest.raises(ValueError, match=message):
        film(frames, names, **more)
