"""The lattice: points by what is written, mistakes as rings, states on the axes."""

import numpy as np

from addlib.figures.lattice import lattice


def test_the_axes_name_the_states_where_the_cells_lie():
    cells = np.arange(9).repeat(2)
    points = np.stack([cells // 3 * 10.0 - 10, cells % 3 * 4.0 - 4], 1)
    more = cells > 4
    wrong = (cells == 4) & (np.arange(18) % 2 == 0)
    drawn = lattice(points, cells, more, wrong, "A4")
    assert drawn.layout.xaxis.tickvals == (-10, 0, 10)
    assert drawn.layout.yaxis.tickvals == (-4, 0, 4)
    assert drawn.layout.xaxis.ticktext == ("below nine", "to nine", "above nine")
    traces = {trace.name: trace for trace in drawn.data}
    assert len(traces["writes one more"].x) == more.sum()
    assert len(traces["wrong"].x) == 1
    assert traces["wrong"].marker.symbol == "circle-open"


def test_states_that_do_not_occur_have_no_name():
    cells = np.array([0, 1, 4])
    drawn = lattice(np.eye(3)[:, :2], cells, cells > 3, cells < 0, "A2")
    assert drawn.layout.xaxis.ticktext == ("below nine", "to nine")


def test_the_cut_lies_where_the_coordinate_has_its_level():
    points = np.array([[-5.0, -3.0], [5.0, 3.0], [0.0, 0.0]])
    cells = np.array([0, 8, 4])
    cut = (np.array([0.8, 0.6]), 1.5)
    drawn = lattice(points, cells, cells > 4, cells < 0, "A4", cut)
    line = drawn.data[-1]
    assert line.name == "threshold"
    assert (min(line.y), max(line.y)) == (-3, 3)
    np.testing.assert_allclose(0.8 * np.array(line.x) + 0.6 * np.array(line.y), 1.5, rtol=1e-6)
