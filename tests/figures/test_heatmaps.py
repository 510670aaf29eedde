"""Heat maps, alone, side by side and as films: what is drawn is what came in."""

import numpy as np
import pytest

from addlib.figures.heatmaps import heat_map, heat_map_film, map_grid, stair_maps

TITLES = dict(x_title="predicted digit", y_title="true digit", z_title="probability (share)")
STEPS = [0, 250, 500, 750]


def ends(fig):
    """Values of the colour scale's ends."""
    return fig.layout.coloraxis.cmin, fig.layout.coloraxis.cmax


def test_a_map_shows_its_numbers_and_leaves_gaps():
    trace = heat_map([[0.25, np.nan]], ["A1", "A0"], ["base add"], **TITLES).data[0]
    assert trace.z[0][0] == 0.25 and np.isnan(trace.z[0][1])
    assert trace.texttemplate == "%{z:.2f}"
    large = heat_map(np.ones((20, 20)), range(20), range(20), **TITLES)
    assert large.data[0].texttemplate is None


def test_a_diverging_map_is_symmetric_around_zero():
    assert ends(heat_map([[-3.0, 1.0]], "ab", "c", **TITLES, diverging=True)) == (-3, 3)


def test_every_panel_is_drawn_on_one_scale_with_the_first_row_on_top():
    panels = {"left": np.arange(4.0).reshape(2, 2), "right": np.array([[np.nan, 1], [2, -9]])}
    fig = map_grid(panels, names="xy", row_names=["first", "second"], **TITLES)
    assert [trace.type for trace in fig.data] == ["heatmap"] * 2
    assert np.array_equal(np.array(fig.data[0].z), panels["left"])
    assert (list(fig.data[1].x), list(fig.data[1].y)) == (["x", "y"], ["first", "second"])
    assert ends(fig) == (-9, 3)
    assert fig.layout.yaxis.range == fig.layout.yaxis2.range == (1.5, -0.5)
    assert fig.layout.yaxis2.categoryarray == ("first", "second")  # also where all is NaN
    assert [note.text for note in fig.layout.annotations] == ["left", "right"]
    assert ends(map_grid(panels, diverging=True, **TITLES)) == (-9, 9)
    assert (fig.layout.yaxis.title.text, fig.layout.yaxis2.title.text) == ("true digit", None)


def test_stairs_are_drawn_from_the_top_digit_in_the_order_of_writing():
    shares = [[0.9, 0.1], [0.2, 0.7], [0.0, 0.5]]  # A0, A1, A2 on pairs 0 and 1
    fig = stair_maps({"base add": shares, "carry": np.array(shares)})
    assert [note.text for note in fig.layout.annotations] == ["base add", "carry"]
    for trace in fig.data:
        assert (list(trace.x), list(trace.y)) == (["1", "0"], ["A2", "A1", "A0"])
        assert np.allclose(np.array(trace.z), [[0.5, 0.0], [0.7, 0.2], [0.1, 0.9]])
    assert ends(fig) == (0, 1)
    assert stair_maps({}) is None


def test_shares_are_written_in_per_cent():
    fig = heat_map([[0.25, 1.0]], "ab", "c", **TITLES | dict(z_title="attention (%)"))
    assert fig.data[0].texttemplate == "%{z:.0%}"
    assert "attention: %{z:.1%}" in fig.data[0].hovertemplate
    bar = fig.layout.coloraxis.colorbar
    assert (bar.title.text, bar.tickformat) == ("attention", "~%")


def test_maps_that_would_mislead_are_refused():
    for panels, titles, complaint in (
        ({"a": np.zeros((2, 2)), "b": np.zeros((3, 3))}, TITLES, r"b has shape \(3, 3\)"),
        ({"a": np.array([[np.inf, 0]])}, TITLES, "a must be finite"),
    ):
        with pytest.raises(ValueError, match=complaint):
            map_grid(panels, **titles)
    with pytest.raises(ValueError, match=r"make \(1, 2\)"):
        heat_map([[1.0, 2.0, 3.0]], "ab", "c", **TITLES)


@pytest.fixture
def frames():
    return np.random.default_rng(0).random((4, 2, 3))


def film(frames, names=STEPS, **changes):
    titles = TITLES | dict(slider_title="step")
    return heat_map_film(frames, names, range(3), range(2), **titles | changes)


def test_each_frame_has_its_values_and_its_slider_step(frames):
    frames[2, 1, 0] = np.nan
    fig = film(frames, first=1)
    (slider,) = fig.layout.sliders
    assert (
        [frame.name for frame in fig.frames]
        == [step.label for step in slider.steps]
        == ["0", "250", "500", "750"]
    )
    assert [list(step.args[0]) for step in slider.steps] == [
        [name] for name in ("0", "250", "500", "750")
    ]
    assert all(step.method == "animate" for step in slider.steps)
    assert slider.active == 1
    assert slider.currentvalue.prefix == "step: "
    for frame, values in zip(fig.frames, frames, strict=True):
        assert np.allclose(
            np.array(frame.data[0].z, dtype=float), values, atol=5e-4, equal_nan=True
        )
    assert np.array_equal(np.array(fig.data[0].z), np.array(fig.frames[1].data[0].z))
    play, pause = fig.layout.updatemenus[0].buttons
    assert play.args[0] is None
    # plotly redraws heat maps only if told to
    assert play.args[1]["frame"] == dict(duration=500, redraw=True)
    assert all(step.args[1]["frame"] == dict(duration=0, redraw=True) for step in slider.steps)
    assert list(pause.args[0]) == [None]


def test_one_scale_holds_for_all_frames_and_the_look_is_that_of_a_heat_map(frames):
    fig = film(frames)
    still = heat_map(frames[0], range(3), range(2), x_title="x", y_title="y", z_title="z (share)")
    assert ends(fig) == (frames.min(), frames.max())
    assert fig.layout.coloraxis.colorscale == still.layout.coloraxis.colorscale
    assert fig.layout.template == still.layout.template
    assert fig.layout.yaxis.autorange == "reversed"
    assert ends(film(frames, z_range=(0, 2))) == (0, 2)


def test_an_empty_first_frame_is_drawn_empty(frames):
    frames[0] = np.nan
    assert np.isnan(np.array(film(frames).data[0].z, dtype=float)).all()


def test_a_browser_without_network_plays_the_film(frames, browser, tmp_path):
    page = browser.new_page(viewport=dict(width=600, height=600), offline=True)
    film(frames).write_html(tmp_path / "film.html", include_plotlyjs=True, auto_play=False)
    page.goto((tmp_path / "film.html").as_uri())
    shown = "() => { const div = document.querySelector('.js-plotly-plot'); return %s }"
    page.wait_for_function("() => document.querySelector('.updatemenu-button')")
    assert page.evaluate(shown % "div._fullLayout.sliders[0].active") == 0
    page.locator(".updatemenu-button").first.click()
    page.wait_for_function(shown % "div._fullLayout.sliders[0].active === 3")
    assert page.evaluate(shown % "div.data[0].z[0][1]") == pytest.approx(frames[3, 0, 1], abs=5e-4)
    page.locator(".slider-rail-touch-rect").click(position=dict(x=2, y=5))
    page.wait_for_function(shown % "div._fullLayout.sliders[0].active === 0")
    page.wait_for_function(shown % f"Math.abs(div.data[0].z[0][1] - {frames[0, 0, 1]}) < 5e-4")
    page.close()
