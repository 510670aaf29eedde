"""How a figure gets into a page: the HTML that draws it, and the forms that notebooks read."""

from __future__ import annotations

import html
import json
import os
import re
import textwrap
from hashlib import blake2s

import plotly.graph_objects as go
from plotly.io.base_renderers import MimetypeRenderer
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs_version

PLOTLY_MIME = "application/vnd.plotly.v1+json"

HEIGHT = 380
"""CSS pixels of a figure that has no height of its own."""

# Draws when plotly.js is there, whenever a page loads it: the page's first figure at once, those near
# the page's anchor next, the others when there is time; and follows its container's width. All
# figures wait for the same two promises, so those in view come first however slow the machine is.
# On the book's site a theme script (book/_assets/theme.js) loads plotly.js, chooses colours and
# breaks long titles.
DRAW = """
(() => {
  const div = document.getElementById("%(id)s"), spec = %(spec)s;
  let width = 0;
  const parsed = window.addlibParsed ??= new Promise((done) => {
    if (document.readyState !== "loading") done();
    else document.addEventListener("DOMContentLoaded", done);
  });
  const library = window.addlibLibrary ??= new Promise((done) => {
    let waits = 0;
    const look = () => (window.Plotly || waits++ >= 600 ? done() : setTimeout(look, 50));
    look();
  });
  const inView = () => {
    const place = div.getBoundingClientRect();
    const target = scrollY ? null : document.getElementById(location.hash.slice(1));
    const top = target ? target.getBoundingClientRect().top : 0;  // where the page is about to stand
    return place.top - top < 1.5 * innerHeight && place.bottom - top > 0;
  };
  const first = () => !location.hash &&
    div.closest(".addlib-figure") === document.querySelector(".addlib-figure");
  const idle = () => new Promise((done) => (window.requestIdleCallback ?? setTimeout)(done));
  const draw = async () => {
    if (!first()) await parsed;
    await library;
    if (div.data) return;
    if (!window.Plotly)
      return div.append("This figure needs plotly.js, which did not load. " + div.ariaLabel);
    if (!first() && !inView()) await idle();
    if (matchMedia("(pointer: coarse)").matches) spec.layout.dragmode = false;
    window.addlibPaint?.(spec, div.offsetWidth);
    await Plotly.newPlot(div, spec);
    width = div.offsetWidth;
    new ResizeObserver(() => {
      if (!div.offsetWidth || div.offsetWidth === width) return;
      width = div.offsetWidth;
      Plotly.Plots.resize(div);
    }).observe(div);
    const button = document.getElementById("%(id)s-svg");
    if (!button) return;
    button.hidden = false;
    const options = spec.config.toImageButtonOptions;
    button.onclick = () => Plotly.downloadImage(div, {...options, width, height: %(height)d});
  };
  window.addlibLoad?.("plotly.min.js");
  draw();
})();
"""


def in_colab() -> bool:
    """Whether this is Google Colab's page, which shows each output in a sandbox of its own.

    VS Code can use Colab's machines, too, where it shows plotly's own format and loads no scripts
    from elsewhere; the machine then has no notebook's id. plotly tells the two apart in this way.
    """
    return "COLAB_NOTEBOOK_ID" in os.environ


class Renderer(MimetypeRenderer):
    """Plotly's way to show a bare figure, the book's way."""

    def to_mimebundle(self, fig_dict: dict) -> dict[str, object]:
        """Representations of the figure by MIME type; its id comes from its content."""
        name = blake2s(to_json_plotly(fig_dict).encode(), digest_size=6).hexdigest()
        picture = plot_div(fig_dict, name, alt="figure without a description")
        page = f'<div class="addlib-figure">{picture}</div>'
        return plotly_bundle(fig_dict) | {"text/html": page}


def figure_bundle(
    picture: str, number: str, caption: str, alt: str, name: str, download: str = ""
) -> dict[str, object]:
    """The HTML and the plain text of a captioned figure, by MIME type.

    Args:
        picture: HTML of the figure itself. download: HTML of the link or button that saves it.
        number: chapter and figure: ``"2.1"``, with a letter where it is folded: ``"2.1a"``.
        caption: what to see, in plain text.
        alt: what the picture shows, for those who cannot see it.
        name: unique on the page, lower case with hyphens; the anchor is ``fig-<name>``, downloads
            have that name.

    Raises:
        ValueError: a number or name of another form, or an empty text.
    """
    any_text = r"(?s).*\S.*"
    for key, value, form in (
        ("number", number, r"\d+\.\d+[a-z]?"),
        ("name", name, r"[a-z0-9]+(-[a-z0-9]+)*"),
        ("caption", caption, any_text),
        ("alt", alt, any_text),
    ):
        if not re.fullmatch(form, value):
            raise ValueError(f"figure {name!r}: {key} = {value!r}: must match {form}")
    page = (
        f'<figure class="addlib-figure" id="fig-{name}" role="group" aria-label="Figure {number}" '
        f'style="margin:1em 0">{picture}<figcaption><b>Figure {number}.</b> '
        f"{html.escape(caption)} {download}</figcaption></figure>"
    )
    return {"text/html": page, "text/plain": f"Figure {number}: {caption}"}


def plot_div(fig_dict: dict, name: str, alt: str) -> str:
    """The division that a plotly figure is drawn in, and the script that draws it."""
    height = int(fig_dict["layout"].get("height") or HEIGHT)
    script = DRAW % dict(id=f"plot-{name}", spec=_spec(fig_dict, name), height=height)
    library = ""
    if in_colab():
        source = f"https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js"
        library = f'<script src="{source}" charset="utf-8"></script>'
    return (
        f'{library}<div id="plot-{name}" class="plotly-graph-div" role="img" '
        f'aria-label="{html.escape(alt)}" style="width:100%;height:{height}px"></div>'
        f"<script>{script}</script>"
    )


def plotly_bundle(fig_dict: dict) -> dict[str, object]:
    """Plotly's own format by its MIME type, for JupyterLab and VS Code; none in Colab."""
    if in_colab():
        return {}
    return {PLOTLY_MIME: json.loads(_spec(fig_dict, "figure", responsive=True))}


def _spec(fig_dict: dict, name: str, **config: object) -> str:
    """What plotly.js draws, as JSON; downloads are called `name`."""
    config |= dict(
        displaylogo=False,
        showSendToCloud=False,  # plotly.js offers to upload the chart unless told not to
        modeBarButtonsToRemove=["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
        toImageButtonOptions=dict(format="svg", filename=name),
    )
    return to_json_plotly(fig_dict | dict(config=config))


def titled(fig: go.Figure, number: str, caption: str) -> go.Figure:
    """A copy whose title is the figure's number and caption, below a title of its own."""
    wrapped = textwrap.wrap(f"Figure {number}. {caption}", width=95)
    lines = [html.escape(line, quote=False) for line in wrapped]
    if fig.layout.title.text:
        lines.insert(0, fig.layout.title.text)
    buttons = any(menu.yanchor == "bottom" for menu in fig.layout.updatemenus)
    space = 24 + 18 * len(lines) + (40 if buttons else 0)
    title = dict(text="<br>".join(lines), font_size=13, yanchor="top", y=0.98)
    height = (fig.layout.height or HEIGHT) + space
    return go.Figure(fig).update_layout(title=title, margin_t=space, height=height)
