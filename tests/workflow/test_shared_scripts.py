"""The choice of plotly.js: the smaller one where it draws every figure of the book."""

from __future__ import annotations

import re

import plotly.graph_objects as go
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from addlib.figures.page import PLOTLY_MIME
from workflow import npm_files, shared_scripts
from workflow.notebook_cells import trace_kinds


@pytest.fixture(scope="module")
def smaller():
    """The folder with the smaller plotly.js."""
    return npm_files.fetch(npm_files.PLOTLY_CARTESIAN)


def script(folder):
    return (folder / "plotly.min.js").read_text(encoding="utf-8")


def test_the_smaller_script_is_of_the_version_that_plotly_brings_and_draws_what_it_is_said_to(
    smaller,
):
    text = (smaller / "plotly-cartesian.min.js").read_text(encoding="utf-8")
    assert npm_files.PLOTLY_CARTESIAN.version == get_plotlyjs_version()
    assert f"v{get_plotlyjs_version()}" in text[:200]
    assert set(re.findall(r'moduleType:"trace",name:"(\w+)"', text)) == shared_scripts.CARTESIAN


def test_the_smaller_script_is_taken_where_it_draws_all(smaller, tmp_path):
    small = script(shared_scripts.write(tmp_path / "some", {"scatter", "heatmap"}))
    assert small == (smaller / "plotly-cartesian.min.js").read_text(encoding="utf-8")
    assert (
        script(shared_scripts.write(tmp_path / "solid", {"scatter", "scatter3d"})) == get_plotlyjs()
    )
    assert (
        script(shared_scripts.write(tmp_path / "none", {"scatter"}, cartesian=tmp_path / "no"))
        == get_plotlyjs()
    )


def test_the_kinds_of_trace_are_read_from_the_figures_on_show():
    figure = go.Figure([go.Scatter(y=[1]), go.Bar(y=[1]), go.Scatter3d(x=[1], y=[1], z=[1])])
    data = {PLOTLY_MIME: figure.to_plotly_json(), "text/plain": "figure"}
    cells = [
        new_code_cell("1"),
        new_code_cell("2", outputs=[new_output("display_data", data=data)]),
    ]
    assert trace_kinds(new_notebook(cells=cells)) == {"scatter", "bar", "scatter3d"}
    assert trace_kinds(new_notebook()) == set()
