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


def test_no_lines_stand_between_squares_so_small_that_these_would_vanish():
    few, many = (heat_map(np.ones((2, n)), range(n), "ab", **TITLES).data[0] for n in (24, 90))
    assert (few.xgap, few.ygap) == (1, 1)
    assert (many.xgap, many.ygap) == (0, 0)


@pytest.mark.parametrize(("count", "dtick"), [(30, None), (59, 10), (113, 20)])
def test_many_numbers_have_ticks_at_round_ones(count, dtick):
    alone = heat_map(np.ones((2, count)), range(count), "ab", **TITLES)
    several = map_grid({"left": np.ones((count, count))}, **TITLES)
    assert alone.layout.xaxis.dtick == several.layout.xaxis.dtick == dtick
    assert several.layout.yaxis.dtick == dtick
    assert alone.layout.yaxis.dtick is None
    assert heat_map(np.ones((2, 59)), range(1, 60), "ab", **TITLES).layout.xaxis.dtick is None


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
    assert fig.layout.xaxis.dtick == fig.layout.xaxis2.dtick == 1  # no name is left out
    assert ends(map_grid(panels, diverging=True, **TITLES)) == (-9, 9)
    assert (fig.layout.yaxis.title.text, fig.layout.yaxis2.title.text) == ("true digit", None)
    assert (fig.layout.yaxis.showticklabels, fig.layout.yaxis2.showticklabels) == (None, False)
    below = map_grid(panels, columns=1, **TITLES).layout
    assert (below.yaxis.showticklabels, below.yaxis2.showticklabels) == (None, None)


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
def films():
    """Two panels of four frames each, of two rows and three columns."""
    left, right = np.random.default_rng(0).random((2, 4, 2, 3))
    return {"A1": left, "A0": right}


def film(films, names=STEPS, **changes):
    titles = TITLES | dict(slider_title="step")
    return heat_map_film(films, names, **titles | changes)


def numbers(z):
    return np.array(z, dtype=float)


def test_each_frame_has_the_values_of_every_panel_and_its_slider_step(films):
    films["A0"][2, 1, 0] = np.nan
    fig = film(films, first=1)
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
    assert [note.text for note in fig.layout.annotations] == ["A1", "A0"]
    for i, frame in enumerate(fig.frames):
        assert frame.traces == (0, 1)
        for panel, values in zip(frame.data, films.values(), strict=True):
            assert np.allclose(numbers(panel.z), values[i], atol=5e-3, equal_nan=True)
    for trace, moved in zip(fig.data, fig.frames[1].data, strict=True):
        assert np.array_equal(numbers(trace.z), numbers(moved.z))
    play, pause = fig.layout.updatemenus[0].buttons
    assert play.args[0] is None
    # plotly redraws heat maps only if told to
    assert play.args[1]["frame"] == dict(duration=500, redraw=True)
    assert all(step.args[1]["frame"] == dict(duration=0, redraw=True) for step in slider.steps)
    assert list(pause.args[0]) == [None]


def test_one_scale_holds_for_all_frames_and_the_look_is_that_of_a_grid(films):
    films["A0"][3, 0, 0] = 2  # only in the last frame
    fig = film(films)
    still = map_grid({name: frames[0] for name, frames in films.items()}, **TITLES)
    assert ends(fig) == (min(map(np.min, films.values())), 2)
    assert fig.layout.coloraxis.colorscale == still.layout.coloraxis.colorscale
    assert fig.layout.template == still.layout.template
    assert fig.layout.yaxis2.range == (1.5, -0.5)
    assert ends(film(films, z_range=(0, 3))) == (0, 3)


def test_shares_in_a_film_are_whole_per_cent(films):
    """More figures would be a third more bytes, and no colour shows them."""
    (trace, _) = film(films, z_title="probability (%)").data
    assert "probability: %{z:.0%}<" in trace.hovertemplate
    assert numbers(trace.z)[0][0] == round(films["A1"][0, 0, 0], 2)


def test_an_empty_first_frame_is_drawn_empty(films):
    films["A1"][0] = np.nan
    assert np.isnan(numbers(film(films).data[0].z)).all()


def test_panels_of_a_film_have_one_size_and_a_frame_for_each_name(films):
    for changed, names in (
        (films | {"A0": films["A0"][:, :1]}, STEPS),
        (films, STEPS[:3]),
    ):
        with pytest.raises(ValueError, match="has shape"):
            film(changed, names)


def test_a_browser_without_network_plays_the_film(films, browser, tmp_path):
    page = browser.new_page(viewport=dict(width=600, height=600), offline=True)
    film(films).write_html(tmp_path / "film.html", include_plotlyjs=True, auto_play=False)
    page.goto((tmp_path / "film.html").as_uri())
    shown = "() => { const div = document.querySelector('.js-plotly-plot'); return %s }"
    page.wait_for_function("() => document.querySelector('.updatemenu-button')")
    assert page.evaluate(shown % "div._fullLayout.sliders[0].active") == 0
    page.locator(".updatemenu-button").first.click()
    page.wait_for_function(shown % "div._fullLayout.sliders[0].active === 3")
    for i, frames in enumerate(films.values()):
        value = page.evaluate(shown % f"div.data[{i}].z[0][1]")
        assert value == pytest.approx(frames[3, 0, 1], abs=5e-3)
    page.locator(".slider-rail-touch-rect").click(position=dict(x=2, y=5))
    page.wait_for_function(shown % "div._fullLayout.sliders[0].active === 0")
    for i, frames in enumerate(films.values()):
        page.wait_for_function(
            shown % f"Math.abs(div.data[{i}].z[0][1] - {frames[0, 0, 1]}) < 5e-3"
        )
    page.close()


def test_a_films_player_takes_no_room_from_the_maps(films, browser, tmp_path):
    still = map_grid(
        {name: frames[0] for name, frames in films.items()}, panel_height=150, **TITLES
    )
    heights = []
    for name, fig in (("still", still), ("film", film(films))):
        page = browser.new_page(viewport=dict(width=390, height=600), offline=True)
        fig.write_html(tmp_path / f"{name}.html", include_plotlyjs=True, auto_play=False)
        page.goto((tmp_path / f"{name}.html").as_uri())
        page.wait_for_function("() => document.querySelector('.xy')")
        size = "document.querySelector('.js-plotly-plot')._fullLayout._size.h"
        heights.append(page.evaluate(size))
        page.close()
    assert heights[1] == pytest.approx(heights[0], abs=6)
