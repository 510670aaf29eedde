"""Interactive attention views, drawn by circuitsvis's script: on a page of the book, in a notebook,
in a file.

circuitsvis's own Python side asks the network whether it is there and then loads its script from
another host, and without a network it writes the whole script (1.3 MB) into every view. Its package
brings the script along, so the views here take it from there: the book's pages load one copy,
notebooks and files carry it once in each figure.
"""

from __future__ import annotations

import html
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from addlib.figures.page import Shown, display_shown, figure_page
from addlib.figures.palette import line_colours
from addlib.files import write_whole

COLOUR = "#0d68c8"
"""Colour of full attention; none is white."""


STYLE = """
<style>
  .addlib-attention { background: #fff; color: #1f1f1f; border-radius: 6px; padding: 0.4rem 0.8rem; overflow-x: auto; }
  .addlib-attention summary { cursor: pointer; font-family: ui-monospace, monospace; padding: 0.3rem 0; }
  .addlib-attention [id^="circuits-vis"] { max-width: 34rem; }
  .addlib-attention [id^="circuits-vis"] h2 { display: none; }
  .addlib-attention [id^="circuits-vis"] :is(h3, h4) { font-size: 0.85rem; font-weight: 600; margin: 2px 0; }
  .addlib-attention [id^="circuits-vis"] h3 { color: #1f1f1f; }
  .addlib-attention [id^="circuits-vis"] h4 { position: static !important; }
  .addlib-attention div:has(> h4) { border-color: #7b7b7b !important; }
  .addlib-attention div[style*="box-shadow"]:has(> h4) { box-shadow: 0 0 4px 3px #7b7b7b !important; }
  .addlib-attention div[style*="width: initial"] { width: 100% !important; }
  .addlib-attention div:has(> div > div > h4) { flex: 0 0 8.5rem !important; max-width: 33% !important; }
</style>
"""
"""Heads' names above their small maps, in the book's colours, and on white in both themes, as
circuitsvis draws.

The large map fills its place: left to itself it becomes narrower with its window, but never wider
again.
"""


KEY = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 210 18" style="width:210px;display:block" font-size="11">'
    f'<defs><linearGradient id="%s-key"><stop offset="0" stop-color="#fff"/><stop offset="1" stop-color="{COLOUR}"/>'
    '</linearGradient></defs><text x="0" y="13" fill="#1f1f1f">attention 0</text>'
    '<rect x="68" y="3" width="120" height="12" fill="url(#%s-key)" stroke="#7b7b7b"/>'
    '<text x="194" y="13" fill="#1f1f1f">1</text></svg>'
)


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
        pattern: attention of each head from each position (rows) to each position.

    Raises:
        ValueError: the pattern's shape does not fit the names, or it holds something that is no
            share.
    """

    heading: str
    tokens: Sequence[str]
    heads: Sequence[str]
    pattern: Float[Tensor, "heads n_ctx n_ctx"]

    def __post_init__(self) -> None:
        expected = (len(self.heads), len(self.tokens), len(self.tokens))
        if tuple(self.pattern.shape) != expected or 0 in expected:
            raise ValueError(
                f"pattern has shape {tuple(self.pattern.shape)}: its names make {expected}"
            )
        if not ((self.pattern >= 0) & (self.pattern <= 1 + 1e-4)).all():
            raise ValueError("pattern holds values outside [0, 1], or NaN: attention is a share")

    @property
    def props(self) -> dict[str, object]:
        """What circuitsvis's ``AttentionHeads`` takes; shares to four decimals."""
        shares = (self.pattern.double() * 1e4).round() / 1e4
        return {
            "attention": shares.tolist(),
            "attentionHeadNames": list(self.heads),
            "tokens": list(self.tokens),
            "maxValue": 1,
            "minValue": -1,
            "positiveColor": COLOUR,
        }


def show_attention(
    views: Sequence[AttentionView], *, number: str, name: str, caption: str, alt: str
) -> None:
    """Show views as one numbered, captioned figure; the first is open, the others unfold.

    On a page of the book (run by ``workflow.execute``, which sets ``ADDLIB_RESULTS``) the page
    brings the script; elsewhere the figure carries it.

    Raises:
        ValueError: no view; also as `addlib.notebook.show`. FileNotFoundError: circuitsvis is not
            installed.
    """
    script = "" if "ADDLIB_RESULTS" in os.environ else _script_tag()
    picture = f'<div role="group" aria-label="{html.escape(alt)}">{_views(views, name)}</div>'
    spoken = f'<span role="img" aria-label="{html.escape(alt)}"></span>'
    page = figure_page(spoken + script + picture, number, caption, alt, name, "")
    display_shown(Shown(f"Figure {number}: {caption}", {"text/html": page}))


def save_attention(
    path: str | Path, views: Sequence[AttentionView], title: str = "Attention"
) -> Path:
    """Write views as one HTML file that needs nothing else: no server, no network. Returns its
    path.

    Raises:
        ValueError: no view, or another ending than ``.html``. FileNotFoundError: circuitsvis is not
            installed.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise ValueError(f"path = {str(path)!r}: must end in .html")
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width">{_script_tag()}</head>'
        f'<body style="font-family:system-ui,sans-serif"><h1>{html.escape(title)}</h1>'
        f"{_views(views, 'saved')}</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page.encode())
    return path


def _views(views: Sequence[AttentionView], name: str) -> str:
    """Style, colour key, one place for each view, and the script that fills them."""
    if not views:
        raise ValueError("there must be at least one view")
    ids = [f"circuits-vis-{name}-{i}" for i in range(len(views))]
    places = "".join(
        f"<details{' open' if i == 0 else ''}><summary>{html.escape(view.heading)}</summary>"
        f'<div id="{ids[i]}"></div></details>'
        for i, view in enumerate(views)
    )
    # "<" could end the script element
    props = json.dumps({key: view.props for key, view in zip(ids, views, strict=True)}).replace(
        "<", "\\u003c"
    )
    rules = "".join(
        f"#{key} div:has(> div > div > h4):nth-child({i}) h4 {{ background: {colour} !important; }}"
        for key, view in zip(ids, views, strict=True)
        for i, colour in enumerate(line_colours(list(view.heads)).values(), 1)
    )
    key = KEY % (name, name)
    body = f'<div class="addlib-attention">{key}{places}</div>'
    return f"{STYLE}<style>{rules}</style>{body}<script>{DRAW % props}</script>"


def circuitsvis_script() -> str:
    """circuitsvis's script, as its package brings it; FileNotFoundError where it is not installed."""
    found = importlib.util.find_spec("circuitsvis")
    path = (
        Path(found.origin).parent / "dist/cdn/iife.js"
        if found and found.origin
        else Path("circuitsvis")
    )
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: pip install circuitsvis")
    # a browser's tools would look for the map beside the page
    return re.sub(r"//# sourceMappingURL=.*", "", path.read_text(encoding="utf-8"))


def _script_tag() -> str:
    script = circuitsvis_script().replace("</script", "<\\/script")
    return f"<script>{script}</script>"
