"""Figures: every spike survives, colours stay readable and apart, exports are whole."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import numpy as np
import plotly.io as pio
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from addlib.figures import charts, palette, static
from addlib.figures.thin import as_array, compact, decimate
from colours import closest, contrast

ROOT = str(Path(palette.__file__).parents[1])

UNITS = dict(x_title="training step", y_title="loss (nats)")


# ---------------------------------------------------------------------- decimation
def test_a_planted_spike_survives():
    x, y = np.arange(100_000.0), np.zeros(100_000)
    y[31_337], y[77_777] = 9, -5
    kept_x, kept_y = decimate(x, y, max_points=50)
    assert len(kept_x) <= 50
    assert kept_y[kept_x == 31_337] == 9
    assert kept_y[kept_x == 77_777] == -5


@given(st.data())
def test_decimation_keeps_ends_and_the_extremes_of_every_bucket(data):
    n, most = data.draw(st.integers(1, 300)), data.draw(st.integers(4, 60))
    steps = data.draw(st.lists(st.integers(1, 50), min_size=n, max_size=n))
    x = np.cumsum(steps).astype(float)
    y = np.array(data.draw(st.lists(st.integers(-20, 20), min_size=n, max_size=n)), dtype=float)
    kept_x, kept_y = decimate(x, y, most)
    assert len(kept_x) <= most or n <= most
    assert set(zip(kept_x, kept_y, strict=True)) <= set(zip(x, y, strict=True))
    assert (np.diff(kept_x) > 0).all()
    assert (kept_x[0], kept_y[0], kept_x[-1], kept_y[-1]) == (x[0], y[0], x[-1], y[-1])
    if n <= most:
        return
    edges = x[0] + (x[-1] - x[0]) * np.arange((most - 2) // 2 + 1) / ((most - 2) // 2)
    for left, right in itertools.pairwise(edges):
        inside = (x >= left + 1e-6) & (x < right - 1e-6) & (x > x[0]) & (x < x[-1])
        if inside.any():
            stretch = kept_y[(kept_x >= left - 1e-6) & (kept_x <= right + 1e-6)]
            assert stretch.min() <= y[inside].min() and stretch.max() >= y[inside].max()


def test_short_lines_are_kept_whole():
    x, y = np.arange(10.0), np.random.default_rng(0).normal(size=10)
    assert all(np.array_equal(*pair) for pair in zip(decimate(x, y, 10), (x, y), strict=True))


def test_log_buckets_keep_the_early_steps():
    x = np.arange(1.0, 100_001)
    kept, _ = decimate(x, np.sin(x), max_points=200, log_x=True)
    assert (kept < 100).sum() > 40
    assert (decimate(x, np.sin(x), max_points=200)[0] < 100).sum() <= 3


def test_equal_extremes_are_stored_from_the_first_to_the_last():
    x = np.arange(12.0)
    stored, _ = decimate(x, np.minimum(1, x), max_points=4)
    assert list(stored) == [0, 1, 10, 11]


def test_tensors_and_lists_are_arrays_too():
    assert as_array(torch.tensor([1.0, 2.0], requires_grad=True), "x").tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"x has shape \(3,\): its axes or names make \(2,\)"):
        as_array([1, 2, 3], "x", (2,))
    with pytest.raises(ValueError, match="x must be finite"):
        as_array([1, np.inf], "x")


def test_compact_keeps_five_digits_in_a_narrow_type():
    assert compact(np.arange(5000.0)).dtype == np.int16
    assert compact(np.array([0.0, 70_000])).dtype == np.int32
    values = np.array([1.23456789e-7, 0.5, -123456.789, 0.0])
    packed = compact(values)
    assert packed.dtype == np.float32
    np.testing.assert_allclose(packed, values, rtol=5e-5)
    np.testing.assert_array_equal(compact(np.array([1e-60, 2.5])), [1e-60, 2.5])
    assert np.isnan(compact(np.array([[np.nan, 0.5]]))[0, 0])


# ------------------------------------------------------------------------- colours
def test_contrast_of_known_pairs():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("page", ["#ffffff", "#121212"], ids=["light", "dark"])
def test_every_colour_is_readable_on_both_pages(page):
    digits = [colour for n in (1, 6, 11, 16) for colour in palette.digit_colours(n)]
    for colour in {*palette.COLOURS.values(), *palette.CYCLE, *digits, palette.NEUTRAL}:
        assert contrast(colour, page) >= 3, colour


@pytest.mark.parametrize("kind", ["normal", "protan", "deutan", "tritan"])
def test_sub_tasks_and_digits_stay_apart_for_the_colour_blind(kind):
    sub_tasks = ("BA", "UC1", "US9", "MC1", "MS9")
    assert closest([palette.COLOURS[name] for name in sub_tasks], kind) > 10
    assert closest(palette.digit_colours(6), kind) > 4


def test_labels_choose_their_colours():
    known = palette.line_colours(["BA (62 %)", "US9", "A3", "noise"])
    assert known["BA (62 %)"] == palette.COLOURS["BA"]
    assert known["US9"] == palette.COLOURS["US9"]
    assert known["A3"] == palette.line_colours(["A0", "A3"])["A3"] == palette.digit_colours(6)[3]
    assert len(set(known.values())) == 4
    assert len(set(palette.line_colours([f"UC1 seed {i}" for i in range(8)]).values())) == 8
    assert len(set(palette.line_colours([f"run {i}" for i in range(12)]).values())) == 12
    assert palette.line_colours(["UC10"])["UC10"] == palette.CYCLE[0], "only whole names are known"
    assert len(set(palette.line_colours([f"A{i}" for i in range(16)]).values())) == 16


# --------------------------------------------------------------------------- lines
def lines(n=5000, count=6):
    rng = np.random.default_rng(0)
    return np.arange(n), {
        f"A{i}": np.exp(-np.arange(n) / 900) + rng.random(n) for i in range(count)
    }


def drawn(fig):
    return [trace for trace in fig.data if trace.hoverinfo != "skip"]


def test_a_page_of_twenty_figures_is_small():
    x, family = lines()
    fig = charts.line_family(x, family, **UNITS)
    assert sum(len(trace.x) for trace in fig.data) <= 6000
    panels = {f"column {c}": {f"line {i}": family["A0"] for i in range(3)} for c in range(6)}
    grid = charts.panel_grid(x, panels, **UNITS)
    assert sum(len(trace.x) for trace in grid.data) <= 9000
    assert 10 * len(pio.to_json(fig)) + 10 * len(pio.to_json(grid)) < 2_000_000


def test_ticks_and_dots_stand_in_their_rows():
    rows = {
        "A1": {"own pair": (0.7, [0.8, 0.9]), "nothing": (2.3, [])},
        "A0": {"nothing": (2.3, [2.4])},
    }
    fig = charts.ticks_and_dots(rows, x_title="loss (nats)", log_x=True)
    marks = [(t.name, t.marker.symbol, list(t.y), list(t.x), t.showlegend) for t in fig.data]
    assert marks == [
        ("nothing", "line-ns-open", ["A1", "A0"], [2.3, 2.3], None),
        ("nothing", None, ["A0"], [2.4], False),
        ("own pair", "line-ns-open", ["A1"], [0.7], None),
        ("own pair", None, ["A1", "A1"], [0.8, 0.9], False),
    ]
    assert list(fig.layout.yaxis.categoryarray) == ["A0", "A1"]


def test_verdicts_stand_in_their_rows_and_what_is_far_at_the_edge():
    rows = {
        "first": ("refuted", -3.0, (-4.0, -2.5)),
        "second": ("borne out", 40.0, (39.0, 41.0)),
        "third": ("refuted", -1.0, (-2.0, 0.0)),
    }
    hues = {"borne out": palette.CYCLE[0], "refuted": palette.CYCLE[1], "open": palette.NEUTRAL}
    fig = charts.verdict_rows(rows, x_title="half-widths", colours=hues)
    assert [(t.name, list(t.y), list(t.x)) for t in fig.data] == [
        ("borne out", ["second"], [6]),
        ("refuted", ["first", "third"], [-3, -1]),
    ]
    assert list(fig.data[1].error_x.array) == [0.5, 1]
    assert list(fig.data[1].error_x.arrayminus) == [1, 1]
    assert list(fig.layout.yaxis.categoryarray) == ["third", "second", "first"]


def test_a_spike_survives_into_the_figure():
    x, family = lines()
    family["A2"][3333] = 77.125
    fig = charts.line_family(x, family, max_points=100, **UNITS)
    line = next(trace for trace in fig.data if trace.name == "A2")
    assert len(line.x) <= 100
    assert line.y[list(line.x).index(3333)] == 77.125


def test_gaps_carry_the_last_value_and_say_so():
    y = np.array([np.nan, 2.0, np.nan, 4.0, np.nan])
    fig = charts.line_family(np.arange(5), {"US9": y}, **UNITS)
    grid = charts.panel_grid(np.arange(5), {"a": {"US9": y}}, **UNITS)
    assert (list(fig.data[0].x), list(fig.data[0].y)) == ([1, 2, 3], [2, 2, 4])
    assert fig.layout.meta == grid.layout.meta == dict(notes=[charts.CARRIED])
    for whole in (np.arange(5), np.array([np.nan, 1.0, 2.0, np.nan, np.nan])):
        fig = charts.line_family(np.arange(5), {"US9": whole}, **UNITS)
        assert fig.layout.meta is None


def test_x_range_stores_only_what_it_shows_at_full_detail():
    x, family = lines()
    fig = charts.line_family(x, {"A0": family["A0"]}, x_range=(100.5, 750), **UNITS)
    np.testing.assert_array_equal(fig.data[0].x, np.arange(100, 751))
    assert fig.layout.xaxis.range == (100.5, 750)


def test_log_axes_take_ranges_in_the_data_s_units():
    x = np.arange(1, 101)
    fig = charts.line_family(
        x, {"total": 1.0 / x}, log_x=True, log_y=True, y_range=(0.001, 10), **UNITS
    )
    assert (fig.layout.yaxis.type, fig.layout.xaxis.type) == ("log", "log")
    np.testing.assert_allclose(fig.layout.yaxis.range, (-3, 1))
    assert fig.layout.yaxis.dtick == 1


@pytest.mark.parametrize(("top", "dtick"), [(0.02, None), (0.15, "D2"), (2.0, 1), (1e7, 2)])
def test_numbers_on_a_logarithmic_axis_are_as_many_as_fit(top, dtick):
    lines = {"a": np.geomspace(0.01, top, 5)}
    fig = charts.line_family(np.arange(5), lines, log_y=True, **UNITS)
    assert fig.layout.yaxis.dtick == dtick


@pytest.mark.parametrize(("low", "form", "exponents"), [(1e-7, None, "power"), (1e-4, "~g", None)])
def test_small_numbers_on_a_logarithmic_axis_are_powers_of_ten(low, form, exponents):
    """Else some would be 1e-7 and others 0.000001."""
    fig = charts.line_family(np.array([low, 1]), {"a": np.ones(2)}, log_x=True, **UNITS)
    assert (fig.layout.xaxis.tickformat, fig.layout.xaxis.exponentformat) == (form, exponents)


def test_a_band_is_shaded_around_its_line_in_its_colour():
    x = np.array([0, 1, 3])
    y = np.array([1.0, 2.0, 4.0])
    bands = {"total": (y - 0.5, torch.tensor(y + 3))}
    fig = charts.line_family(x, {"total": y, "BA": y / 2}, bands=bands, **UNITS)
    band = fig.data[0]
    assert (band.fill, band.showlegend) == ("toself", False)
    assert list(band.x) == [0, 1, 3, 3, 1, 0]
    assert list(band.y) == [4, 5, 7, 3.5, 1.5, 0.5]
    assert band.fillcolor == palette.tinted(palette.COLOURS["total"], 0.25)
    assert [trace.name for trace in fig.data[1:]] == ["total", "BA"], "lines are above the band"
    with pytest.raises(ValueError, match="band has shape"):
        charts.line_family(x, {"total": y}, bands={"total": (y[:2], y)}, **UNITS)


def test_levels_are_labelled_dashed_lines_that_the_axis_reaches():
    x = np.arange(1, 101)
    for log_y, at in ((False, 10), (True, 1)):
        fig = charts.line_family(
            x, {"total": 1.0 / x}, levels={"ln 10": 10, "near": 10.001}, log_y=log_y, **UNITS
        )
        assert [(shape.y0, shape.line.dash) for shape in fig.layout.shapes] == [
            (10, "dash"),
            (10.001, "dash"),
        ]
        labels = {note.text: note for note in fig.layout.annotations}
        assert labels["ln 10"].y == pytest.approx(at)
        assert labels["ln 10"].xanchor != labels["near"].xanchor, (
            "labels that would touch stand apart"
        )
        assert [10, 10] in [list(trace.y) for trace in fig.data], (
            "nothing widens the axis to the level"
        )


def test_few_lines_are_labelled_at_their_ends_others_in_a_legend_below():
    x = np.arange(50)
    apart = charts.line_family(x, {"BA": x, "UC1": 2 * x}, **UNITS)
    assert {note.text: note.font.color for note in apart.layout.annotations} == {
        "<b>BA</b>": palette.COLOURS["BA"],
        "<b>UC1</b>": palette.COLOURS["UC1"],
    }
    assert apart.layout.showlegend is False
    for family in (
        {"BA": x, "UC1": x[::-1] + 49},
        {"a label too long for a margin": x, "UC1": 2 * x},
    ):
        fig = charts.line_family(x, family, **UNITS)
        assert fig.layout.showlegend is True and not fig.layout.annotations
        assert (fig.layout.legend.orientation, fig.layout.legend.yref, fig.layout.legend.y) == (
            "h",
            "container",
            0,
        )


def test_panels_share_axes_and_legend():
    x = np.arange(50)
    panels = {f"column {c}": {"BA": x + c, "UC1": 2.0 * x} for c in range(5)}
    fig = charts.panel_grid(x, panels, x_title="time (epochs)", y_title="loss (nats)")
    assert [trace.name for trace in fig.data if trace.showlegend] == ["BA", "UC1"]
    assert {trace.line.color for trace in fig.data if trace.name == "BA"} == {palette.COLOURS["BA"]}
    assert [note.text for note in fig.layout.annotations] == list(panels)
    assert {
        (fig.layout[f"xaxis{i}"].matches, fig.layout[f"yaxis{i}"].matches) for i in range(2, 6)
    } == {("x", "y")}
    two_lines = "time<br>(epochs)"
    assert [fig.layout[f"xaxis{i}"].title.text for i in (3, 4, 5)] == ["", two_lines, two_lines]
    single = charts.panel_grid(x, panels, columns=1, **UNITS)
    assert {trace.xaxis for trace in single.data} == {"x", "x2", "x3", "x4", "x5"}
    assert single.layout.xaxis.domain == (0, 1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (dict(lines={"A0": [1, 2]}), "'A0' has shape"),
        (dict(lines={"A0": [np.nan] * 3}), "'A0' has no value"),
        (dict(lines={"A0": [1, 0, 2]}, log_y=True), "'A0' is 0: must be positive"),
    ],
)
def test_lines_that_would_mislead_are_refused(change, complaint):
    arguments = dict(x=[1, 2, 3], lines={"A0": [3, 2, 1]}, **UNITS) | change
    with pytest.raises(ValueError, match=complaint):
        charts.line_family(**arguments)
    arguments["panels"] = {"panel": arguments.pop("lines")}
    with pytest.raises(ValueError, match=complaint.replace("'A0'", r"\('panel', 'A0'\)")):
        charts.panel_grid(**arguments)


@pytest.mark.parametrize("log_y", [False, True])
def test_shares_are_written_in_per_cent(log_y):
    titles = dict(x_title="training step", y_title="right (%)")
    line = charts.line_family([1, 2], {"A0": [0.5, 0.9]}, log_y=log_y, **titles)
    panels = charts.panel_grid([1, 2], {"a": {"A0": [0.5, 0.9]}}, log_y=log_y, **titles)
    for fig in (line, panels):
        axis = fig.layout.yaxis
        assert (axis.title.text, axis.tickformat) == ("right", "~%")
        assert fig.data[0].hovertemplate == "%{y:.1%}"
    bar = charts.bars(["0"], {"model": [0.9]}, **titles)
    assert (bar.layout.yaxis.title.text, bar.layout.yaxis.tickformat) == ("right", "~%")


# ---------------------------------------------------------------------------- bars
def test_bars_have_whiskers_to_the_ends_of_their_intervals():
    fig = charts.bars(
        ["0", "1"],
        {"model": [0.9, 0.5], "baseline": [0.1, np.nan]},
        x_title="cascade length",
        y_title="accuracy (share)",
        intervals={"model": ([0.8, 0.3], [0.95, 0.6])},
        levels={"chance": 0.1},
    )
    whiskers = fig.data[0].error_y
    np.testing.assert_allclose(whiskers.array, [0.05, 0.1])
    np.testing.assert_allclose(whiskers.arrayminus, [0.1, 0.2])
    assert fig.data[1].marker.line.color == palette.COLOURS["baseline"]
    assert fig.layout.showlegend is True


def test_bars_that_would_mislead_are_refused():
    with pytest.raises(ValueError, match=r"model has shape \(1,\)"):
        charts.bars(["0", "1"], {"model": [0.9]}, x_title="length", y_title="accuracy (share)")


# ------------------------------------------------------------------------- exports
def test_exports_are_real_files_in_each_format(tmp_path):
    fig = charts.line_family(*lines(300, 2), **UNITS)
    before = fig.to_json()
    heads = dict(svg=b"<svg", pdf=b"%PDF", png=b"\x89PNG")
    for kind, head in heads.items():
        path = static.save(fig, tmp_path / "new" / f"loss.{kind}")
        assert path.read_bytes().startswith(head)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "loss.pdf",
        "loss.png",
        "loss.svg",
    ]
    root = ElementTree.parse(tmp_path / "new" / "loss.svg").getroot()
    assert sum("js-line" in (node.get("class") or "") for node in root.iter()) == 2
    assert {"training step", "loss (nats)", "A0", "A1"} <= {
        text.strip() for text in root.itertext()
    }
    assert fig.to_json() == before, "saving must not change the figure"


def test_a_missing_browser_is_named_with_its_remedy(tmp_path):
    script = (
        "import sys, plotly.graph_objects as go; from addlib.figures import static\n"
        "try: static.save(go.Figure(), sys.argv[1])\n"
        "except static.NoBrowserError as error: print(error)\n"
    )
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    (tmp_path / "text").write_text("no program")
    for browser in (tmp_path / "nowhere", broken, tmp_path / "text"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "figure.svg")],
            env=dict(
                PATH="",
                BROWSER_PATH=str(browser),
                PYTHONPATH=ROOT,
                HOME=str(tmp_path),
            ),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "apt-get install chromium" in done.stdout, done.stdout + done.stderr
        assert not (tmp_path / "figure.svg").exists()


def test_the_export_browser_ends_with_its_process(tmp_path):
    """Without a word, also where its library reports a message that was cut off as it closed."""
    script = (
        "import atexit, logging, sys, plotly.graph_objects as go; from addlib.figures import static\n"
        "pipe = lambda: logging.getLogger('choreographer.channels.pipe')\n"
        "atexit.register(lambda: pipe().error('half a message'))\n"
        "static.save(go.Figure(), sys.argv[1]); static.save(go.Figure(), sys.argv[1])\n"
        "print(static._browser.cache_info().misses)"
    )
    # the browser's sockets lie here: pytest's longer path would not do
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "figure.svg")],
            env=dict(PATH=os.environ["PATH"], PYTHONPATH=ROOT, TMPDIR=folder, HOME=str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1", "")
        assert not list(Path(folder).iterdir()), "the browser left its folder behind"


# -------------------------------------------------------------------- linear or log
def test_buttons_make_every_panel_linear_or_logarithmic(browser, tmp_path):
    x = np.arange(1.0, 101)
    panels = {"a": {"total": 3 / x}, "b": {"total": 1 / x}}
    fig = charts.panel_grid(x, panels, log_y=True, buttons="xy", **UNITS)
    labels = [[button.label for button in menu.buttons] for menu in fig.layout.updatemenus]
    assert labels == [["x linear", "x log"], ["y linear", "y log"]]
    page = browser.new_page(offline=True)
    fig.write_html(tmp_path / "fig.html", include_plotlyjs=True)
    page.goto((tmp_path / "fig.html").as_uri())
    page.wait_for_function("() => document.querySelector('.updatemenu-button')")
    types = "() => ['xaxis2', 'yaxis', 'yaxis2'].map((name) => "
    types += "document.querySelector('.js-plotly-plot')._fullLayout[name].type)"
    assert page.evaluate(types) == ["linear", "log", "log"]
    for label, kinds in (("x log", ["log"] * 3), ("y linear", ["log", "linear", "linear"])):
        page.locator(".updatemenu-button", has_text=label).click()
        page.wait_for_function(f"() => ({types})().join() === '{','.join(kinds)}'")
    page.close()


def test_levels_stay_at_their_values_when_an_axis_changes(browser, tmp_path):
    x = np.arange(1.0, 101)
    fig = charts.line_family(
        x, {"total": 9 / x}, levels={"ln 10": 2.3}, buttons="y", log_y=True, **UNITS
    )
    page = browser.new_page(offline=True)
    fig.write_html(tmp_path / "fig.html", include_plotlyjs=True)
    page.goto((tmp_path / "fig.html").as_uri())
    page.locator(".updatemenu-button", has_text="y linear").click()
    label = "() => document.querySelector('.js-plotly-plot').layout.annotations[0].y"
    page.wait_for_function(f"() => Math.abs(({label})() - 2.3) < 1e-6")
    page.close()


def test_what_a_logarithmic_axis_cannot_show_gets_no_button():
    with pytest.raises(ValueError, match="y has 0: must be positive on a log axis"):
        charts.line_family(np.arange(3), {"total": np.arange(3.0)}, buttons="y", **UNITS)
