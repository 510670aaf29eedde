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
