"""Points in the plane: all are drawn, in their colours, paths in order on equal scales."""

import json

import numpy as np
import pytest

from addlib.figures.palette import COLOURS, digit_colours, tinted
from addlib.figures.scatter import cloud_grid, dial, path_film, path_grid

AXES = {"x_title": "along cosine", "y_title": "along sine"}
ANGLE = 2 * np.pi * np.arange(7) / 7
RING = np.stack([np.cos(ANGLE), np.sin(ANGLE)], 1)


def film(frames, times, **changes):
    curve = {"held out": np.array([3.0, 2.0, 0.1])}
    titles = {"time_title": "epoch", "curves_title": "loss (nats)"}
    return path_film(
        frames,
        times,
        np.array([0, 100, 250]),
        curve,
        **AXES | titles | {"colours": {"held out": "#c8202a"}} | changes,
    )


def test_a_films_buttons_change_the_axis_of_its_curves_alone():
    fig = film(np.stack([RING, 2 * RING]), [0, 100])
    menus = {button.label: button for menu in fig.layout.updatemenus for button in menu.buttons}
    assert [*menus] == ["▶", "❚❚", "y linear", "y log"]
    assert {key.split(".")[0] for key in menus["y linear"].args[0]} == {"yaxis"}
    assert menus["y linear"].args[0]["yaxis.type"] == fig.layout.yaxis.type.replace("log", "linear")


def test_every_point_is_there_and_labels_share_their_colour():
    rng = np.random.default_rng(0)
    panels = {
        f"A{k}": {name: rng.normal(size=(7 + k, 2)) for name in ("BA", "UC1")} for k in range(3)
    }
    fig = cloud_grid(panels, **AXES)
    assert len(fig.data) == 6
    drawn = {(trace.hovertemplate, len(trace.x)) for trace in fig.data}
    assert drawn == {
        (f"{name}<extra>A{k}</extra>", 7 + k) for k in range(3) for name in ("BA", "UC1")
    }
    assert np.allclose(fig.data[3].y, panels["A1"]["UC1"][:, 1], rtol=1e-3)
    assert {trace.marker.color for trace in fig.data if trace.name == "BA"} == {
        tinted(COLOURS["BA"], 0.55)
    }
    assert [trace.showlegend for trace in fig.data] == [True, True, False, False, False, False]


def test_a_diagonal_runs_over_all_values_of_its_panel():
    panels = {"near": {"BA": np.array([[0.0, 1.0], [2.0, -3.0]])}, "far": {"BA": 10 * RING}}
    fig = cloud_grid(panels, diagonal=True, **AXES)
    lines = [trace for trace in fig.data if trace.mode == "lines"]
    assert [list(line.x) for line in lines] == [list(line.y) for line in lines]
    assert list(lines[0].x) == [-3, 2]
    assert lines[1].x[1] == 10
    assert (lines[0].xaxis, lines[1].xaxis) == (fig.data[1].xaxis, fig.data[3].xaxis)


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
    assert fig.layout.xaxis.range is None
    fig = path_grid({"small": RING, "large": 2 * RING}, same_scale=True, **AXES)
    assert fig.layout.xaxis.range == fig.layout.yaxis2.range
    assert 2 < fig.layout.xaxis.range[1] < 2.2


def test_points_may_be_numbered():
    fig = path_grid({"ring": RING}, numbered=True, **AXES)
    assert list(fig.data[0].text) == ["0", "1", "2", "3", "4", "5", "6"]
    assert fig.data[0].mode == "lines+markers+text"


def test_a_dial_has_a_wedge_for_each_answer_and_labels_those_wide_enough():
    ends = np.radians([90, 91, 330])
    fig = dial({"BA": np.array([[0.0, 1.0]])}, ends, [5, 6, 7], **AXES)
    wedges = [trace for trace in fig.data if trace.fill == "toself"]
    labels = {trace.text[0]: (trace.x[0], trace.y[0]) for trace in fig.data if trace.text}
    assert len(wedges) == 3
    assert set(labels) == {"5", "7"}
    assert np.allclose(np.arctan2(*labels["5"]), np.radians(30))
    assert np.allclose(np.arctan2(*labels["7"]), np.radians(-104)), "in sight, not at its middle"
    assert np.allclose(np.arctan2(wedges[1].x[1], wedges[1].y[1]), np.radians(90))
    (points,) = [trace for trace in fig.data if trace.name == "BA"]
    assert (points.x[0], points.y[0]) == (0, 1)


def test_each_frame_has_its_points_and_its_slider_step():
    frames, names = np.stack([RING, 0.5 * RING, 3 * RING]), [0, 100, 250]
    fig = film(frames, names, first=1)
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
    assert [frame.data[1].x for frame in fig.frames] == [(0, 0), (100, 100), (250, 250)]
    assert fig.data[1].x == (100, 100)
    assert fig.data[1].y == pytest.approx((0.1, 3.0))
    assert (fig.data[2].name, fig.data[2].line.color) == ("held out", "#c8202a")
    assert fig.layout.xaxis2.range == fig.layout.yaxis2.range
    assert fig.layout.xaxis2.range[1] > 3 * RING.max() > 0.9 * fig.layout.xaxis2.range[1]
    assert [button.label for button in fig.layout.updatemenus[0].buttons] == ["▶", "❚❚"]
    assert json.loads(fig.to_json())["frames"][2]["data"][0]["type"] == "scatter"


@pytest.mark.parametrize(
    ("points", "changes", "complaint"),
    [
        (np.zeros((3, 3)), {}, r"has shape \(3, 3\)"),
        (np.array([[0.0, np.inf]]), {}, "finite"),
    ],
)
def test_points_that_would_mislead_are_refused(points, changes, complaint):
    for draw in (
        lambda: cloud_grid({"A": {"BA": points}}, **AXES | changes),
        lambda: path_grid({"A": points}, **AXES | changes),
        lambda: film([points], [1], **changes),
    ):
        with pytest.raises(ValueError, match=complaint):
            draw()


def test_points_show_their_names_when_pointed_at():
    points = np.zeros((2, 2))
    panels = {"A": {"BA": points, "UC1": points}}
    fig = cloud_grid(panels, hover={"A": {"BA": ["L0H1", "L2H3"]}}, **AXES)
    assert list(fig.data[0].text) == ["L0H1", "L2H3"]
    assert fig.data[0].hovertemplate == "%{text}, BA<extra>A</extra>"
    assert fig.data[1].hovertemplate == "UC1<extra>A</extra>"
    with pytest.raises(ValueError, match="A, BA: 1 names for 2 points"):
        cloud_grid(panels, hover={"A": {"BA": ["L0H1"]}}, **AXES)
