"""Clouds: every point is drawn, in its label's colour, once in the legend; what cannot be drawn is
refused.
"""

import numpy as np
import pytest

from addlib.figures.palette import COLOURS, tinted
from addlib.figures.scatter import cloud_grid

AXES = {"x_title": "first component (a.u.)", "y_title": "second component (a.u.)"}


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


@pytest.mark.parametrize(
    ("panels", "more", "message"),
    [
        ({}, {}, "at least one panel"),
        ({"A": {"BA": np.zeros((3, 3))}}, {}, "A, BA: points must be finite pairs"),
        ({"A": {"BA": np.array([[0.0, np.nan]])}}, {}, "finite"),
        ({"A": {"BA": np.zeros((3, 2))}}, {"columns": 3}, "columns = 3"),
        ({"A": {"BA": np.zeros((3, 2))}}, {"x_title": "no unit"}, "no unit"),
    ],
)
def test_what_cannot_be_drawn_is_refused(panels, more, message):
    with pytest.raises(ValueError, match=message):
        cloud_grid(panels, **AXES | more)
