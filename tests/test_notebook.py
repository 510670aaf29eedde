"""Notebook: figures draw wherever they are shown; readings never print a hole."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from plotly.offline import get_plotlyjs

from addlib import notebook
from addlib.claims.claim import declared
from addlib.claims.ledger import Ledger
from addlib.figures import charts
from addlib.figures.heatmaps import heat_map_film
from addlib.figures.page import PLOTLY_MIME, plot_div
from addlib.figures.static import NoBrowserError
from addlib.notebook import (
    figure_magic,
    opening_magic,
    prediction_magic,
    reading_magic,
    setup,
    table,
)

ROOT = str(Path(notebook.__file__).parents[1])

LABELS = dict(
    number="2.1", caption="Units <first>.", alt='Two lines, "falling".', name="total-loss"
)

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>'


@pytest.fixture
def shown(monkeypatch):
    """What was displayed."""
    things = []
    monkeypatch.setattr(notebook, "display", lambda bundle, raw: things.append(bundle))
    return things


@pytest.fixture
def show(monkeypatch, shown):
    """Shows a figure through the magic, with these labels."""

    def through_the_magic(fig, number, caption, alt, name):
        names = {"fig": fig}
        monkeypatch.setattr(notebook, "get_ipython", lambda: SimpleNamespace(user_ns=names))
        figure_magic(f"fig {number} {name}", f"{caption}\n\nAlt: {alt}")

    return through_the_magic


@pytest.fixture
def defaults():
    """Plotly's global settings, put back afterwards."""
    before = pio.renderers.default, pio.templates.default
    yield
    pio.renderers.default, pio.templates.default = before


def figure():
    x = np.arange(3000)
    y = np.exp(-x / 500)
    return charts.line_family(x, {"BA": y, "UC1": 2 - y}, x_title="step", y_title="loss (nats)")


def page_of(shown):
    return shown[-1]["text/html"]


# ----------------------------------------------------------------------------------------------- figures
def test_a_figure_is_shown_in_every_format_that_something_reads(shown, show):
    show(figure(), **LABELS)
    (bundle,) = shown
    assert bundle["text/plain"] == "Figure 2.1: Units <first>."
    assert len(bundle[PLOTLY_MIME]["data"]) == 2
    assert "Figure 2.1. Units &lt;first&gt;." in bundle[PLOTLY_MIME]["layout"]["title"]["text"]
    json.dumps(bundle)
    page = bundle["text/html"]
    assert (
        '<figure class="addlib-figure" id="fig-total-loss" role="group" aria-label="Figure 2.1"'
        in page
    )
    assert '<div id="plot-total-loss" class="plotly-graph-div" role="img"' in page
    assert 'aria-label="Two lines, &quot;falling&quot;."' in page
    assert "<figcaption><b>Figure 2.1.</b> Units &lt;first&gt;." in page


def test_the_page_is_small_and_the_same_each_time_and_fetches_nothing(shown, show):
    show(figure(), **LABELS)
    show(figure(), **LABELS)
    page = page_of(shown)
    assert page == shown[0]["text/html"]
    assert len(page) < 50_000, "the plotly library must not be inside"
    assert "http" not in page.replace("http://www.w3.org/", "")
    assert "require" not in page


def test_captions_say_that_gaps_were_filled(shown, show):
    gaps = charts.line_family(
        [1, 2, 3], {"BA": [1, np.nan, 2]}, x_title="step", y_title="loss (nats)"
    )
    show(gaps, **LABELS)
    assert shown[0]["text/plain"] == f"Figure 2.1: Units <first>. {charts.CARRIED}"
    assert charts.CARRIED in page_of(shown)


def test_plotly_s_offer_to_upload_the_chart_is_off(shown, show):
    show(figure(), **LABELS)
    assert '"showSendToCloud":false' in page_of(shown)
    assert shown[0][PLOTLY_MIME]["config"]["showSendToCloud"] is False


@pytest.mark.parametrize(
    "change",
    [
        dict(number="2"),
        dict(number="two"),
        dict(name="Total-loss"),
        dict(caption=" "),
        dict(alt=""),
    ],
)
def test_incomplete_labels_are_refused(shown, show, change):
    for picture in (figure(), SVG):
        with pytest.raises(ValueError, match=next(iter(change))):
            show(picture, **LABELS | change)
    assert not shown


def test_colab_gets_html_that_brings_its_own_library(shown, show, monkeypatch):
    monkeypatch.setenv("COLAB_NOTEBOOK_ID", "a-notebook")
    show(figure(), **LABELS)
    assert set(shown[0]) == {"text/html", "text/plain"}
    assert re.search(r'<script src="https://cdn\.plot\.ly/plotly-[\d.]+\.min\.js"', page_of(shown))


def test_vs_code_on_a_machine_of_colab_gets_plotlys_own_format(shown, show, monkeypatch):
    """It loads no scripts from elsewhere, so Colab's HTML alone would be blank there."""
    colab = ModuleType("google.colab")
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.delenv("COLAB_NOTEBOOK_ID", raising=False)
    show(figure(), **LABELS)
    assert "application/vnd.plotly.v1+json" in shown[0]
    assert "cdn.plot.ly" not in page_of(shown)


def test_a_drawing_is_shown_like_a_figure(shown, show):
    show(SVG, **LABELS)
    page = page_of(shown)
    assert SVG in page
    assert 'role="img" aria-label="Two lines, &quot;falling&quot;."' in page
    assert 'download="total-loss.svg"' in page


def test_a_table_has_no_row_numbers():
    html = table([["BA", 1]], columns=["class", "cases"]).to_html()
    assert re.findall(r"<t[hd] [^>]*>([^<]*)</t", html) == ["class", "cases", "BA", "1"]


# ----------------------------------------------------------------------------------------------- in a browser
def opened(
    browser, tmp_path, body, script='<script defer src="plotly.min.js"></script>', width=800
):
    """A page with that body, and the list of what went wrong on it."""
    (tmp_path / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    head = f'<!doctype html><html><head><meta charset="utf-8">{script}</head>'
    (tmp_path / "page.html").write_text(f"{head}<body>{body}</body></html>", encoding="utf-8")
    page, wrong = browser.new_page(viewport=dict(width=width, height=700)), []
    page.set_default_timeout(60_000)  # a busy machine
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith("file:") else wrong.append(request.url),
    )
    page.goto((tmp_path / "page.html").as_uri())
    return page, wrong


DRAWN = "document.querySelector('.js-plotly-plot .js-line')"
BOTH_LINES = """[...document.querySelectorAll('#plot-total-loss .js-line')]
    .filter((line) => (line.getAttribute('d') || '').length > 200).length === 2"""

LATE = """<script>setTimeout(() => {
  document.head.append(Object.assign(document.createElement("script"), {src: "plotly.min.js"}));
}, 500)</script>"""


@pytest.mark.parametrize(
    "script", ['<script defer src="plotly.min.js"></script>', LATE], ids=["deferred", "late"]
)
def test_a_figure_draws_whenever_plotly_comes(browser, tmp_path, shown, show, script):
    show(figure(), **LABELS)
    page, wrong = opened(browser, tmp_path, page_of(shown), script)
    page.wait_for_function(BOTH_LINES)
    assert page.locator("#plot-total-loss .js-line").count() == 2
    assert page.locator("[data-title*=Share]").count() == 0
    with page.expect_download() as download:
        page.get_by_role("button", name="Download SVG").press("Enter")
    assert download.value.suggested_filename == "total-loss.svg"
    assert download.value.path().read_text().startswith("<svg")
    assert wrong == []
    page.close()


FINISHED = """async () => {
  const plots = [...document.querySelectorAll("[id^=plot-]:not(button)")];
  while (!plots.every((div) => div.querySelector(".js-line"))) await new Promise(requestAnimationFrame);
  return window.finished;
}"""
WATCH = """<script>
window.finished = [];
new MutationObserver((changes) => {
  for (const {target} of changes)
    if (target.id?.startsWith("plot-") && !finished.includes(target.id)) finished.push(target.id);
}).observe(document, {attributeFilter: ["class"], subtree: true});
</script>"""


def test_figures_near_the_anchor_are_drawn_first_and_in_order(browser, tmp_path):
    """A page that takes its time to be read must not make figures far from the anchor draw first."""
    picture = figure().to_dict()
    body = "".join(
        f'<figure class="addlib-figure" id="fig-{i}">{plot_div(picture, str(i), "lines")}</figure>'
        "<script>for (let end = performance.now() + 17; performance.now() < end; );</script>"
        for i in range(12)
    )
    page, wrong = opened(browser, tmp_path, body, LATE + WATCH)
    for _ in range(3):
        page.goto("about:blank")
        page.goto((tmp_path / "page.html").as_uri() + "#fig-8")
        assert page.evaluate(FINISHED)[:3] == ["plot-8", "plot-9", "plot-10"]
    assert wrong == []
    page.close()


def test_a_figure_follows_the_width_of_its_container_even_when_it_was_hidden(
    browser, tmp_path, shown, show
):
    show(figure(), **LABELS)
    page, wrong = opened(
        browser, tmp_path, f"<details><summary>more</summary>{page_of(shown)}</details>", width=390
    )
    page.wait_for_function(DRAWN)
    page.click("summary")
    plot = "document.querySelector('#plot-total-loss')"
    fits = f"{plot}.querySelector('.main-svg').getAttribute('width') == {plot}.offsetWidth"
    page.wait_for_function(fits)
    page.set_viewport_size(dict(width=800, height=700))
    page.wait_for_function(f"{plot}.offsetWidth > 700 && {fits}")
    assert wrong == []
    page.close()


def test_a_film_plays(browser, tmp_path, shown, show):
    """Frames belong to the figure: without them a slider is there, and moves nothing."""
    titles = dict(x_title="digit", y_title="digit", z_title="share (%)", slider_title="step")
    film = heat_map_film({"A0": np.arange(12.0).reshape(3, 2, 2)}, [0, 10, 20], **titles)
    show(film, **LABELS)
    assert len(shown[0][PLOTLY_MIME]["frames"]) == 3  # for JupyterLab
    page, wrong = opened(browser, tmp_path, page_of(shown))
    value = "document.querySelector('#plot-total-loss')?._fullData?.[0]?.z?.[0]?.[0]"
    page.wait_for_function(f"{value} === 0")
    page.locator(".updatemenu-button").first.click()
    page.wait_for_function(f"{value} === 8")
    assert wrong == []
    page.close()


def test_a_bare_figure_draws_too(browser, tmp_path):
    bundle = notebook.Renderer().to_mimebundle(go.Figure(go.Scatter(y=[1, 2, 3])).to_dict())
    assert bundle == notebook.Renderer().to_mimebundle(go.Figure(go.Scatter(y=[1, 2, 3])).to_dict())
    page, wrong = opened(browser, tmp_path, bundle["text/html"])
    page.wait_for_function(DRAWN)
    assert page.locator(".js-line").count() == 1
    assert wrong == []
    page.close()


# ----------------------------------------------------------------------------------------------- setup
def test_setup_registers_renderer_and_template_and_prints_one_line(capsys, defaults):
    setup()
    setup()
    assert (pio.renderers.default, pio.templates.default) == ("addlib", "addlib")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"addlib \S+ on .+; torch \S+, transformer_lens \S+", lines[0])


def test_setup_says_how_threads_wait_before_torch_is_loaded():
    """OpenMP reads it only once, when torch brings it; a person's own setting stays."""
    code = (
        "import os, sys; from addlib.notebook import setup; assert 'torch' not in sys.modules;"
        "setup(); assert 'torch' in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    for given, policy in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | given,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split()[-1] == policy


def test_setup_counts_gpus_and_starts_none(capsys, defaults, monkeypatch):
    def starts_cuda(*_):
        raise AssertionError("a chapter that runs on the CPU must not start CUDA")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", starts_cuda)
    setup()
    assert re.search(r" on CPU, \d+ threads, GPUs: 2; torch ", capsys.readouterr().out)


def executed(cells):
    """The outputs of each cell of a notebook that ran in a kernel of its own."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()
    return [cell.outputs for cell in book.cells]


CHAPTER = [
    "from addlib.notebook import setup; setup()",
    "%%opening fig 1.1 two\nThe loss is {loss:.2f}.\n\nCaption: It ends at {loss}.\n\nAlt: A line.",
    "from addlib.claims.ledger import Ledger; claims = Ledger('02_training'); steps = 5000",
    "%%prediction 02.head-start-needs-order 02.ends-first\nAfter {steps:,} steps it is low.",
    "import plotly.graph_objects as go; fig = go.Figure(go.Scatter(y=[1, 2]))",
    "loss = 0.123; record = claims.measure('02.head-start-needs-order', loss)",
    "%%summary\nIt ends at {loss:.3f}.",
]


def test_the_summary_fills_in_opening_and_predictions(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDLIB_RESULTS", str(tmp_path))
    _, (answer, picture), _, (prediction,), _, _, (last,) = executed(CHAPTER)
    assert answer.data["text/markdown"] == "The loss is 0.12."
    assert picture.data["text/plain"] == "Figure 1.1: It ends at 0.123."
    assert PLOTLY_MIME in picture.data
    fails = '> <b class="addlib-verdict fails">✗ fails</b>'
    *lines, of_ends = prediction.data["text/markdown"].splitlines()
    metric = declared()["02.head-start-needs-order"].metric
    assert lines == [
        "> **Prediction.** After 5,000 steps it is low.",
        ">",
        f"{fails} – {metric}: **0.123**; predicted ≥ 0.8; on other models of the same recipe: "
        "holds in 5 of 5 seeds",
        ">",
    ]
    metric = declared()["02.ends-first"].metric
    lacking = f"{fails} – {metric}: **could not be asked**; predicted ≤ 0.5"
    assert of_ends.startswith(f"{lacking}; on other models of the same recipe: ")
    assert last.data["text/markdown"] == "It ends at 0.123."


def test_an_opening_may_rest_on_a_condition(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDLIB_RESULTS", str(tmp_path))
    opening = (
        "%%opening fig 1.1 two if loss > 1\nHigh.\n%%else\nLow.\n\n"
        "Caption: It rises.\n%%else\nIt falls to {loss}.\n\nAlt: A line."
    )
    _, (answer, picture), *_ = executed([CHAPTER[0], opening, *CHAPTER[2:]])
    assert answer.data["text/markdown"] == "Low."
    assert picture.data["text/plain"] == "Figure 1.1: It falls to 0.123."


def test_an_opening_without_another_text_says_what_is_not_so(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDLIB_RESULTS", str(tmp_path))
    cells = [cell.replace("fig 1.1 two\n", "fig 1.1 two if loss > 1\n") for cell in CHAPTER]
    _, (answer, picture), *_ = executed(cells)
    assert "`loss > 1`; here `loss` is 0.123" in answer.data["text/markdown"]
    assert picture.data["text/plain"].startswith("Figure 1.1: Not so in this run. What")


def test_without_its_summary_a_chapter_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDLIB_RESULTS", str(tmp_path))
    _, (answer, picture), _, (prediction,), *_ = executed(CHAPTER[:-1])
    assert answer.data == picture.data
    assert "has run to its end" in answer.data["text/markdown"]
    assert "verdict" not in prediction.data["text/markdown"]


def test_a_summary_refuses_an_opening_that_asks_for_what_the_run_has_not():
    unknown = [cell for cell in CHAPTER if "measure" not in cell]
    with pytest.raises(CellExecutionError, match="no loss"):
        executed(unknown)


def test_a_kernel_shows_figures_and_readings():
    cells = [
        "from addlib.notebook import setup; setup()",
        "import plotly.graph_objects as go; fig = go.Figure(go.Scatter(y=[1, 2])); fig.show()",
        "%%figure fig 1.1 two\nTwo points.\n\nAlt: A line.",
        "loss = 0.123",
        "%%reading if loss < 1\nThe loss is {loss:.2f}.",
        "%%figure fig 1.2 three\nThe loss: {loss}.\n\nAlt: A line.",
        "fig",
    ]
    line, bare, captioned, _, text, magic, last = executed(cells)
    assert [output.output_type for output in line] == ["stream"]
    assert set(captioned[0].data) == {PLOTLY_MIME, "text/html", "text/plain"}
    assert captioned[0].data["text/plain"] == "Figure 1.1: Two points."
    assert text[0].data == {"text/markdown": "The loss is 0.12.", "text/plain": "The loss is 0.12."}
    assert magic[0].data["text/plain"] == "Figure 1.2: The loss: 0.123."
    for outputs in (bare, last):
        assert {PLOTLY_MIME, "text/html"} <= set(outputs[0].data)


# ----------------------------------------------------------------------------------------------- cell magics
@pytest.fixture
def names(monkeypatch):
    """The variables of the notebook whose cells these are."""
    variables = {"loss": 0.0315, "fig": figure(), "svg": SVG}
    monkeypatch.setattr(notebook, "get_ipython", lambda: SimpleNamespace(user_ns=variables))
    return variables


def test_a_reading_is_markdown_with_the_run_s_numbers(shown, names):
    reading_magic("", "The *loss* is {loss:.2f}.\n")
    assert shown == [dict.fromkeys(("text/markdown", "text/plain"), "The *loss* is 0.03.")]


def test_a_reading_may_rest_on_a_condition(shown, names):
    reading_magic(" if loss < 0.1 ", "Low.")
    reading_magic("if loss > 0.1", "High.")
    low, high = shown
    assert low["text/plain"] == "Low."
    assert "`loss > 0.1`; here `loss` is 0.0315" in high["text/markdown"]
    with pytest.raises(ValueError, match="%%reading when"):
        reading_magic("when loss > 0.1", "High.")


def test_where_nothing_is_to_be_said_a_reading_has_no_output(shown, names):
    reading_magic("if loss > 0.1", "High.\n%%else")
    assert not shown


@pytest.mark.parametrize("kind", ["fig", "svg"])
def test_a_cell_is_the_caption_of_a_figure(shown, names, kind):
    figure_magic(
        f"{kind} 2.1 total-loss", "It falls\nto {loss:.2f}.\n\nAlt: Two lines,\nfalling.\n"
    )
    page = page_of(shown)
    assert "<figcaption><b>Figure 2.1.</b> It falls to 0.03." in page
    assert 'aria-label="Two lines, falling."' in page
    assert 'id="fig-total-loss"' in page


def test_a_figure_that_is_none_shows_nothing(shown, names):
    figure_magic("{}.get('lost') 2.1 lost", "It has {no_such_name}.\n\nAlt: Lines.")
    assert not shown


@pytest.mark.parametrize("condition", ["loss < 0.1", "loss > 0.1"])
def test_a_caption_may_rest_on_a_condition(shown, names, condition):
    low, high = ("Low", "High: {1 / 0}") if "<" in condition else ("High: {1 / 0}", "Low")
    figure_magic(f"fig 2.1 one if {condition}", f"{low}.\n%%else\n{high}.\n\nAlt: Lines.")
    assert "<b>Figure 2.1.</b> Low." in page_of(shown)


@pytest.mark.parametrize(
    ("line", "cell"),
    [
        ("fig 2.1", "It falls.\n\nAlt: Lines."),
        ("fig 2.1 total-loss", "It falls."),
        ("fig 2.1 total-loss", "It falls.\nAlt: Lines.\nAlt: More."),
    ],
)
def test_a_figure_without_name_or_alternative_text_is_refused(shown, names, line, cell):
    with pytest.raises(ValueError, match="write %%figure <figure> <number> <name>"):
        figure_magic(line, cell)
    assert not shown


@pytest.mark.parametrize(
    ("line", "cell"),
    [
        ("fig 2.1 total-loss", "It falls."),
        ("", "It falls.\n\nCaption: It falls.\n\nAlt: Lines."),
    ],
)
def test_an_opening_has_a_figure_and_its_caption_or_neither(names, line, cell):
    with pytest.raises(ValueError, match="write %%opening <figure>"):
        opening_magic(line, cell)


@pytest.mark.parametrize(("line", "complaint"), [("", "the ids"), ("02.lost", "not declared")])
def test_a_prediction_names_the_claims_that_test_it(names, line, complaint):
    names["claims"] = Ledger("02_training")
    with pytest.raises(ValueError, match=complaint):
        prediction_magic(line, "It falls.")


# ---------------------------------------------------------------- figures as files
def test_every_figure_is_kept_in_a_file_where_setup_says_so(monkeypatch, tmp_path, shown):
    chart = charts.bars(["a"], {"s": np.array([1.0])}, x_title="x", y_title="y")
    names = {"chart": chart, "drawing": SVG}
    monkeypatch.setattr(notebook, "get_ipython", lambda: SimpleNamespace(user_ns=names))
    monkeypatch.setattr(notebook, "_register_magics", lambda: None)
    monkeypatch.setattr(notebook, "_files", dict(notebook._files))
    monkeypatch.setenv("ADDLIB_FIGURES", str(tmp_path / "new" / "*.svg"))
    texts = []
    for titles in (True, False):
        setup(titles=titles)
        figure_magic("chart 2.1 total", "It falls.\n\nAlt: A bar.")
        figure_magic("drawing 2.2 circle", "Round.\n\nAlt: A circle.")
        texts.append((tmp_path / "new" / "total.svg").read_text())
        title = shown[-2][PLOTLY_MIME]["layout"].get("title", {}).get("text", "")
        assert ("Figure 2.1. It falls." in title) == titles
    assert ["It falls." in text for text in texts] == [True, False]
    assert (tmp_path / "new" / "circle.svg").read_text() == SVG
    assert all("It falls." in bundle["text/html"] for bundle in shown[::2]), "pages keep captions"
    setup(str(tmp_path / "other" / "*.svg"))
    figure_magic("drawing 2.2 circle", "Round.\n\nAlt: A circle.")
    assert (tmp_path / "other" / "circle.svg").is_file()


def test_without_a_browser_charts_are_not_kept_and_the_notebook_goes_on(
    monkeypatch, tmp_path, shown, capsys
):
    chart = charts.bars(["a"], {"s": np.array([1.0])}, x_title="x", y_title="y")
    names = {"chart": chart, "drawing": SVG}
    monkeypatch.setattr(notebook, "get_ipython", lambda: SimpleNamespace(user_ns=names))
    files = {"pattern": str(tmp_path / "*.svg"), "titles": True, "no_browser": False}
    monkeypatch.setattr(notebook, "_files", files)

    def save(*arguments):
        raise NoBrowserError("install one")

    monkeypatch.setattr(notebook, "save", save)
    figure_magic("chart 2.1 total", "It falls.\n\nAlt: A bar.")
    figure_magic("chart 2.2 other", "It falls.\n\nAlt: A bar.")
    figure_magic("drawing 2.3 circle", "Round.\n\nAlt: A circle.")
    assert len(shown) == 3
    assert capsys.readouterr().out == "Charts are not kept as files: install one\n"
    assert [path.name for path in tmp_path.iterdir()] == ["circle.svg"]
