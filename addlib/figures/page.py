"""What a notebook needs at its top, and how it shows things: captioned figures and readings filled
from the run.
"""

from __future__ import annotations

import html
import importlib.util
import json
import re
import sys
import textwrap
from dataclasses import dataclass
from hashlib import blake2s

import plotly.graph_objects as go
from plotly.io.base_renderers import MimetypeRenderer
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs_version

PLOTLY_MIME = "application/vnd.plotly.v1+json"


SVG_ROOT = "{http://www.w3.org/2000/svg}svg"


# Draws when plotly.js is there, whenever a page loads it: the page's first figure at once, those in
# view as soon as the page stands at its anchor, the others when there is time; and follows its
# container's width. On the book's site a theme script (book/_assets/theme.js) loads plotly.js,
# chooses colours and breaks long titles.
DRAW = """
(() => {
  const div = document.getElementById("%(id)s"), spec = %(spec)s;
  let waits = 0, width = 0, queued = false;
  const inView = () => div.getBoundingClientRect().top < 1.5 * innerHeight && div.getBoundingClientRect().bottom > 0;
  const first = () => !location.hash && div.closest(".addlib-figure") === document.querySelector(".addlib-figure");
  const draw = async () => {
    if (div.data) return;
    if (!window.Plotly && waits++ < 600) return setTimeout(draw, 50);
    if (!window.Plotly) return div.append("This figure needs plotly.js, which did not load. " + div.ariaLabel);
    if (document.readyState === "loading" && !first()) return setTimeout(draw, 50);
    if (!queued && !first() && !inView()) return (queued = true), (window.requestIdleCallback ?? setTimeout)(draw);
    if (matchMedia("(pointer: coarse)").matches) spec.layout.dragmode = false;
    window.addlibPaint?.(spec, div.offsetWidth);
    await Plotly.newPlot(div, spec);
    width = div.offsetWidth;
    new ResizeObserver(() => {
      if (div.offsetWidth && div.offsetWidth !== width) { width = div.offsetWidth; Plotly.Plots.resize(div); }
    }).observe(div);
    const button = document.getElementById("%(id)s-svg");
    if (button) {
      button.hidden = false;
      const options = spec.config.toImageButtonOptions;
      button.onclick = () => Plotly.downloadImage(div, {...options, width, height: %(height)d});
    }
  };
  window.addlibLoad?.("plotly.min.js");
  draw();
})();
"""


def in_colab() -> bool:
    """Whether this is Google Colab, which shows each output in a sandbox of its own."""
    if "google.colab" in sys.modules:
        return True
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:
        return False


# ------------------------------------------------------------------------- figures
@dataclass(frozen=True)
class Shown:
    """Something on display: its representations by MIME type, and a plain text that is the same in
    every run.
    """

    text: str
    bundle: dict[str, object]

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        return self.bundle | {"text/plain": self.text}

    def __repr__(self) -> str:
        return self.text


class Renderer(MimetypeRenderer):
    """Plotly's way to show a bare figure, the book's way; the page's id comes from the figure's
    content.
    """

    def to_mimebundle(self, fig_dict: dict) -> dict[str, object]:
        """Representations of the figure by MIME type."""
        digest = blake2s(to_json_plotly(fig_dict).encode(), digest_size=6).hexdigest()
        div = _plot_div(fig_dict, name=digest, alt="figure without a description")
        return _bundle(fig_dict, f'<div class="addlib-figure">{div}</div>')


def figure_page(picture: str, number: str, caption: str, alt: str, name: str, download: str) -> str:
    """The HTML of a captioned figure."""
    for key, value, form in (
        ("number", number, r"\d+\.\d+[a-z]?"),
        ("name", name, r"[a-z0-9]+(-[a-z0-9]+)*"),
        ("caption", caption.strip(), r"(?s).+"),
        ("alt", alt.strip(), r"(?s).+"),
    ):
        if not re.fullmatch(form, value):
            raise ValueError(f"figure {name!r}: {key} = {value!r}: must match {form}")
    return (
        f'<figure class="addlib-figure" id="fig-{name}" role="group" aria-label="Figure {number}" style="margin:1em 0">'
        f"{picture}<figcaption><b>Figure {number}.</b> {html.escape(caption)} "
        f"{download}</figcaption></figure>"
    )


def _plot_div(fig_dict: dict, name: str, alt: str) -> str:
    """The division that a plotly figure is drawn in, and the script that draws it."""
    height = int(fig_dict["layout"].get("height") or 380)
    spec = dict(_drawn(fig_dict), config=_config(name))
    script = DRAW % dict(id=f"plot-{name}", spec=to_json_plotly(spec), height=height)
    library = ""
    if in_colab():
        library = f'<script src="https://cdn.plot.ly/plotly-{get_plotlyjs_version()}.min.js" charset="utf-8"></script>'
    return (
        f'{library}<div id="plot-{name}" class="plotly-graph-div" role="img" aria-label="{html.escape(alt)}" '
        f'style="width:100%;height:{height}px"></div><script>{script}</script>'
    )


def _drawn(fig_dict: dict) -> dict:
    """What plotly.js draws of a figure; a film has frames."""
    return {key: fig_dict[key] for key in ("data", "layout", "frames") if key in fig_dict}


def _config(name: str) -> dict:
    return dict(
        displaylogo=False,
        showSendToCloud=False,  # plotly.js offers to upload the chart unless told not to
        modeBarButtonsToRemove=["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
        toImageButtonOptions=dict(format="svg", filename=name),
    )


def _bundle(fig_dict: dict, page: str) -> dict[str, object]:
    """HTML for the book, and plotly's own format for JupyterLab and VS Code; Colab draws only the
    first.
    """
    if in_colab():
        return {"text/html": page}
    config = dict(_config("figure"), responsive=True)
    spec = dict(_drawn(fig_dict), config=config)
    return {PLOTLY_MIME: json.loads(to_json_plotly(spec)), "text/html": page}


def _titled(fig: go.Figure, number: str, caption: str) -> go.Figure:
    """A copy whose title is the figure's caption."""
    lines = [
        html.escape(line, quote=False)
        for line in textwrap.wrap(f"Figure {number}. {caption}", width=95)
    ]
    own = [fig.layout.title.text] if fig.layout.title.text else []
    space = 24 + 18 * len(own + lines)
    titled = go.Figure(fig).update_layout(
        title=dict(text="<br>".join(own + lines), font_size=13, yanchor="top", y=0.98)
    )
    return titled.update_layout(margin_t=space, height=(fig.layout.height or 380) + space)


def display_shown(shown: Shown) -> None:
    """Show in a notebook; print where there is none."""
    try:
        from IPython.display import display
    except ImportError:
        display = print
    display(shown)
