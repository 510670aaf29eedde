"""Interactive attention views, drawn by circuitsvis's script in pages, notebooks and files.

circuitsvis's own Python side asks the network whether it is there and then loads its script from
another host, and without a network it writes the whole script (1.3 MB) into every view. Its package
brings the script along, so the views here take it from there: the book's pages load one copy,
notebooks and files carry it once in each figure.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float

from addlib.figures.page import figure_bundle
from addlib.figures.palette import CYCLE, line_colours
from addlib.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

COLOUR = CYCLE[0]
"""Colour of full attention; none is white."""

# Heads' names above their small maps, in the book's colours, and on white in both themes, as
# circuitsvis draws. The large map fills its place: left to itself it becomes narrower with its
# window, but never wider again.
STYLE = """
<style>
  .addlib-attention {
    background: #fff; color: #1f1f1f; border-radius: 6px; padding: 0.4rem 0.8rem; overflow-x: auto;
    & summary { cursor: pointer; font-family: ui-monospace, monospace; padding: 0.3rem 0; }
    & [id^="circuits-vis"] {
      max-width: 34rem;
      & h2 { display: none; }
      & :is(h3, h4) { font-size: 0.85rem; font-weight: 600; margin: 2px 0; }
      & h3 { color: #1f1f1f; }
      & h4 { position: static !important; }
    }
    & div:has(> h4) { border-color: #7b7b7b !important; }
    & div[style*="box-shadow"]:has(> h4) { box-shadow: 0 0 4px 3px #7b7b7b !important; }
    & div[style*="width: initial"] { width: 100% !important; }
    & div:has(> div > div > h4) { flex: 0 0 8.5rem !important; max-width: 33% !important; }
  }
</style>
"""

KEY = f"""
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 210 18" style="width:210px;display:block"
  font-size="11">
  <defs><linearGradient id="%(id)s">
    <stop offset="0" stop-color="#fff"/><stop offset="1" stop-color="{COLOUR}"/>
  </linearGradient></defs>
  <text x="0" y="13" fill="#1f1f1f">attention 0</text>
  <rect x="68" y="3" width="120" height="12" fill="url(#%(id)s)" stroke="#7b7b7b"/>
  <text x="194" y="13" fill="#1f1f1f">1</text>
</svg>
"""

# Draws as soon as the script is there, whoever loads it; a page of the book does
# (book/_assets/theme.js).
DRAW = """
(() => {
  const views = %s;
  let waits = 0;
  const draw = () => {
    if (!window.CircuitsVis && waits++ < 600) return setTimeout(draw, 50);
    for (const [id, props] of Object.entries(views)) {
      const div = document.getElementById(id);
      if (window.CircuitsVis) CircuitsVis.render(id, CircuitsVis.AttentionHeads, props);
      else div.append("This view needs circuitsvis.js, which did not load.");
    }
  };
  window.addlibLoad?.("circuitsvis.js");
  draw();
})();
"""


@dataclass(frozen=True)
class AttentionView:
    """What one view shows: the attention of several heads on one question.

    Args:
        heading: the line above the view, e.g. the question.
        tokens: names of the positions.
        heads: names of the heads.
        pattern: attention of each head from each position (rows) to each position, as shares.
    """

    heading: str
    tokens: Sequence[str]
    heads: Sequence[str]
    pattern: Float[Tensor, "heads n_ctx n_ctx"]

    @property
    def props(self) -> dict[str, object]:
        """What circuitsvis's ``AttentionHeads`` takes; shares to four decimals."""
        return {
            "attention": self.pattern.double().round(decimals=4).tolist(),
            "attentionHeadNames": list(self.heads),
            "tokens": list(self.tokens),
            "maxValue": 1,
            "minValue": -1,
            "positiveColor": COLOUR,
        }


def attention_bundle(
    views: Sequence[AttentionView], number: str, caption: str, alt: str, name: str
) -> dict[str, object]:
    """Views as one numbered, captioned figure to display; the first is open, the others unfold.

    On a page of the book (run by ``workflow.execute``, which sets ``ADDLIB_RESULTS``) the page
    brings the script; elsewhere the figure carries it.

    Raises:
        ValueError: as :func:`addlib.figures.page.figure_bundle`.
    """
    script = "" if "ADDLIB_RESULTS" in os.environ else _script_element()
    picture = f'<div role="group" aria-label="{html.escape(alt)}">{_views(views, name)}</div>'
    spoken = f'<span role="img" aria-label="{html.escape(alt)}"></span>'
    return figure_bundle(spoken + script + picture, number, caption, alt, name)


def save_attention(
    path: str | Path, views: Sequence[AttentionView], title: str = "Attention"
) -> Path:
    """Write views as one HTML file that needs no server and no network; returns its path."""
    title = html.escape(title)
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">{_script_element()}</head>
<body style="font-family:system-ui,sans-serif"><h1>{title}</h1>
{_views(views, "saved")}</body></html>
"""
    write_whole(Path(path), page.encode())
    return Path(path)


def _views(views: Sequence[AttentionView], name: str) -> str:
    """Style, colour key, one place for each view, and the script that fills them."""
    places = ""
    rules = ""
    props = {}
    for i, view in enumerate(views):
        key = f"circuits-vis-{name}-{i}"
        places += f"<details{'' if i else ' open'}><summary>{html.escape(view.heading)}</summary>"
        places += f'<div id="{key}"></div></details>'
        props[key] = view.props
        colours = line_colours(list(view.heads))
        for place, head in enumerate(view.heads, 1):
            heading = f"#{key} div:has(> div > div > h4):nth-child({place}) h4"
            rules += f"{heading} {{ background: {colours[head]} !important; }}"
    body = f'<div class="addlib-attention">{KEY % dict(id=f"{name}-key")}{places}</div>'
    script = DRAW % json.dumps(props).replace("<", "\\u003c")  # "<" could end the script element
    return f"{STYLE}<style>{rules}</style>{body}<script>{script}</script>"


def circuitsvis_script() -> str:
    """circuitsvis's script, as its package brings it."""
    path = Path(str(distribution("circuitsvis").locate_file("circuitsvis/dist/cdn/iife.js")))
    # a browser's tools would look for the map beside the page
    return re.sub(r"//# sourceMappingURL=.*", "", path.read_text(encoding="utf-8"))


def _script_element() -> str:
    script = circuitsvis_script().replace("</script", "<\\/script")
    return f"<script>{script}</script>"
