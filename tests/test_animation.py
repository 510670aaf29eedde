"""Films of heat maps: frames and slider steps, what the page stores, refusals."""

import json

import numpy as np
import pytest

from addlib.figures import heatmaps
from addlib.figures.heatmaps import heat_map_film

TITLES = dict(
    x_title="predicted digit",
    y_title="true digit",
    z_title="probability (share)",
    slider_title="step (count)",
)
STEPS = [0, 250, 500, 750]


@pytest.fixture
def frames():
    return np.random.default_rng(0).random((4, 2, 3))


def film(frames, names=STEPS, **changes):
    return heat_map_film(frames, names, range(3), range(2), **TITLES | changes)


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
    assert slider.currentvalue.prefix == "step (count): "
    for frame, values in zip(fig.frames, frames, strict=True):
        assert np.allclose(
            np.array(frame.data[0].z, dtype=float), values, atol=5e-4, equal_nan=True
        )
    assert np.array_equal(np.array(fig.data[0].z), np.array(fig.frames[1].data[0].z))
    play, pause = fig.layout.updatemenus[0].buttons
    assert play.args[0] is None
    assert play.args[1]["frame"] == dict(
        duration=500, redraw=True
    )  # plotly redraws heat maps only if told to
    assert all(step.args[1]["frame"] == dict(duration=0, redraw=True) for step in slider.steps)
    assert list(pause.args[0]) == [None]


def test_one_scale_holds_for_all_frames_and_the_look_is_that_of_a_heat_map(frames):
    fig = film(frames)
    still = heatmaps.heat_map(
        frames[0], range(3), range(2), x_title="x", y_title="y", z_title="z (share)"
    )
    assert (fig.data[0].zmin, fig.data[0].zmax) == (frames.min(), frames.max())
    assert fig.data[0].colorscale == still.data[0].colorscale
    assert fig.layout.template == still.layout.template
    assert fig.layout.yaxis.autorange == "reversed"
    fig = film(-2 * frames, diverging=True)
    assert (fig.data[0].zmin, fig.data[0].zmax) == (-2 * frames.max(), 2 * frames.max())
    fig = film(frames, z_range=(0, 2))
    assert (fig.data[0].zmin, fig.data[0].zmax) == (0, 2)


def test_an_empty_first_frame_is_drawn_empty(frames):
    frames[0] = np.nan
    assert np.isnan(np.array(film(frames).data[0].z, dtype=float)).all()


def test_the_largest_film_stays_small_on_the_page():
    frames = np.random.default_rng(1).random((heatmaps.MOST_NUMBERS // 100, 10, 10))
    fig = heat_map_film(frames, range(len(frames)), range(10), range(10), **TITLES)
    text = fig.to_json()
    assert json.loads(text)["frames"][0]["name"] == "0"
    assert len(text) < 600_000
    with pytest.raises(ValueError, match="leave out some frames"):
        heat_map_film(
            np.concatenate([frames, frames[:1]]),
            range(len(frames) + 1),
            range(10),
            range(10),
            **TITLES,
        )


def test_bad_input_is_refused(frames):
    for shape in ((4, 3, 2), (3, 2, 3), (0, 2, 3), (2, 3)):
        with pytest.raises(ValueError, match=r"its names make \(4, 2, 3\)"):
            film(np.zeros(shape))
    with pytest.raises(ValueError, match="name of its own"):
        film(frames, names=[0, 1, 1, 2])
    for first in (-1, 4):
        with pytest.raises(ValueError, match="frames 0 to 3"):
            film(frames, first=first)
    for title in ("slider_title", "z_title"):
        with pytest.raises(ValueError, match=f"{title} = 'step': needs its unit"):
            film(frames, **{title: "step"})
    with pytest.raises(ValueError, match="finite"):
        film(np.full((4, 2, 3), np.nan))
    frames[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="finite"):
        film(frames)


def test_a_browser_without_network_plays_the_film(frames, browser, tmp_path):
    page = browser.new_page(viewport=dict(width=600, height=600), offline=True)
    film(frames, frame_ms=50).write_html(
        tmp_path / "film.html", include_plotlyjs=True, auto_play=False
    )
    page.goto((tmp_path / "film.html").as_uri())
    shown = "() => { const div = document.querySelector('.js-plotly-plot'); return %s }"
    page.wait_for_function("() => document.querySelector('.updatemenu-button')")
    assert page.evaluate(shown % "div._fullLayout.sliders[0].active") == 0
    page.locator(".updatemenu-button").first.click()
    page.wait_for_function(shown % "div._fullLayout.sliders[0].active === 3")
    assert page.evaluate(shown % "div.data[0].z[0][1]") == pytest.approx(frames[3, 0, 1], abs=5e-4)
    page.locator(".slider-rail-touch-rect").click(position=dict(x=2, y=5))
    page.wait_for_function(shown % "div._fullLayout.sliders[0].active === 0")
    assert page.evaluate(shown % "div.data[0].z[0][1]") == pytest.approx(frames[0, 0, 1], abs=5e-4)
    page.close()
