"""Small multiples of maps: what is drawn is what came in."""

import numpy as np
import pytest

from addlib.figures.heatmaps import map_grid

TITLES = dict(x_title="b", y_title="a", z_title="attention (share)")


def test_every_panel_is_drawn_on_one_scale_with_the_first_row_on_top():
    one, two = np.arange(6.0).reshape(2, 3), np.full((2, 3), np.nan)
    two[1, 2] = -9
    with pytest.raises(ValueError, match="3 names for 2 rows"):
        map_grid({"one": one, "two": two}, names=["x", "y", "z"], **TITLES)
    square, other = np.arange(4.0).reshape(2, 2), np.array([[np.nan, 1], [2, -9]])
    fig = map_grid({"one": square, "two": other}, names=["x", "y"], number_format=".0f", **TITLES)
    assert [trace.type for trace in fig.data] == ["heatmap"] * 2
    assert np.array_equal(np.array(fig.data[0].z), square)
    assert list(fig.data[1].y) == ["x", "y"]
    assert (fig.layout.coloraxis.cmin, fig.layout.coloraxis.cmax) == (-9, 3)
    assert fig.layout.yaxis.autorange == fig.layout.yaxis2.autorange == "reversed"
    assert [note.text for note in fig.layout.annotations] == ["one", "two"]
    around_zero = map_grid({"one": square, "two": other}, diverging=True, **TITLES)
    assert (around_zero.layout.coloraxis.cmin, around_zero.layout.coloraxis.cmax) == (-9, 9)
    tall = map_grid({"one": one}, names=["x", "y", "z"], row_names=["first", "second"], **TITLES)
    assert (list(tall.data[0].x), list(tall.data[0].y)) == (["x", "y", "z"], ["first", "second"])
    assert fig.layout.yaxis.title.text == "a"
    assert fig.layout.yaxis2.title.text is None


def test_maps_that_do_not_fit_are_refused():
    for panels in (
        {"one": np.zeros((2, 2)), "two": np.zeros((3, 3))},
        {"one": np.full((2, 2), np.nan)},
        {"one": np.array([[np.inf, 0]])},
        {"one": np.zeros(3)},
    ):
        with pytest.raises(ValueError, match="finite and of one shape"):
            map_grid(panels, **TITLES)
    with pytest.raises(ValueError, match="unit"):
        map_grid({"one": np.zeros((2, 2))}, **TITLES | dict(z_title="attention"))
    with pytest.raises(ValueError, match="at least one panel"):
        map_grid({}, **TITLES)
