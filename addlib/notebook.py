"""What a notebook needs at its top, and how it shows things: captioned figures and readings filled
from the run.
"""

from __future__ import annotations

import base64
import html
import math
import string
import sys
import textwrap
from importlib import metadata
from xml.etree import ElementTree

import plotly.graph_objects as go
import plotly.io as pio

from addlib.figures.charts import notes
from addlib.figures.page import (
    SVG_ROOT,
    Renderer,
    Shown,
    _bundle,
    _plot_div,
    _titled,
    display_shown,
    figure_page,
)
from addlib.figures.palette import template


def setup(threads: int | None = None) -> None:
    """Make figures appear in Jupyter, VS Code, Colab, papermill and the book, and print one line on
    what runs here.

    Registers the plotly renderer ``addlib`` and the book's template, and makes them plotly's
    defaults, so that a bare ``fig.show()`` appears too. Safe to call again.

    Args:
        threads: CPU threads for torch, at least 1; None leaves torch's own choice.
    """
    import torch

    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads = {threads}: must be at least 1")
        torch.set_num_threads(threads)
    pio.templates["addlib"] = template()
    pio.templates.default = "addlib"
    pio.renderers["addlib"] = Renderer()
    pio.renderers.default = "addlib"
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    libraries = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "transformer_lens")
    )
    print(f"addlib {sys.modules['addlib'].__version__} on {device}; {libraries}")


def show(fig: go.Figure, *, number: str, caption: str, alt: str, name: str) -> None:
    """Show a numbered, captioned figure that draws offline wherever the page has plotly.js.

    The caption gains what `figures.notes` says. Above the figure JupyterLab and VS Code, which draw
    plotly's own format, get number and caption as its title.

    Args:
        fig: the figure.
        number: chapter and figure: ``"2.1"``.
        caption: what to see, in plain text.
        alt: what the picture shows, for those who cannot see it.
        name: unique on the page, lower case with hyphens; the anchor is ``fig-<name>``, downloads
            have that name.

    Raises:
        ValueError: for a number or name of another form, or an empty text. TypeError: for another
            kind of figure.
    """
    if not isinstance(fig, go.Figure):
        raise TypeError(f"fig is a {type(fig).__name__}: must be a plotly Figure")
    caption = " ".join([caption, *notes(fig)])
    download = f'<button type="button" class="addlib-svg" id="plot-{name}-svg" hidden>Download SVG</button>'
    page = figure_page(_plot_div(fig.to_dict(), name, alt), number, caption, alt, name, download)
    display_shown(
        Shown(f"Figure {number}: {caption}", _bundle(_titled(fig, number, caption).to_dict(), page))
    )


def show_svg(svg: str, *, number: str, caption: str, alt: str, name: str) -> None:
    """Show a hand-drawn SVG the way `show` shows a plotly figure.

    Raises:
        ValueError: as `show`, and for text that is not one well-formed ``<svg
            xmlns="http://www.w3.org/2000/svg">``.
    """
    try:
        root = ElementTree.fromstring(svg).tag
    except ElementTree.ParseError as error:
        raise ValueError(f"figure {name!r}: svg is not well formed: {error}") from error
    if root != SVG_ROOT:
        raise ValueError(f"figure {name!r}: svg must be one {SVG_ROOT} element, not {root}")
    drawing = svg[svg.index("<svg") :]  # without an XML declaration, which HTML does not know
    encoded = base64.b64encode(svg.encode()).decode()
    link = f"data:image/svg+xml;base64,{encoded}"
    download = f'<a class="addlib-svg" download="{name}.svg" href="{link}">Download SVG</a>'
    picture = f'<div role="img" aria-label="{html.escape(alt)}">{drawing}</div>'
    page = figure_page(picture, number, caption, alt, name, download)
    display_shown(Shown(f"Figure {number}: {caption}", {"text/html": page}))


# ------------------------------------------------------------------------ readings
def reading(text: str, **values: object) -> None:
    """Show Markdown with the run's numbers filled in, so that text and figure cannot disagree.

    ``reading("The loss falls to {loss:.3f} nats.", loss=run.final_loss)``. Braces of formulas are
    doubled.

    Raises:
        ValueError: naming a field without a value, a value without a field, or a value that is
            None, NaN or infinite.
    """
    filled = _Filler().vformat(textwrap.dedent(text).strip(), (), values)
    display_shown(Shown(filled, {"text/markdown": filled}))


class _Filler(string.Formatter):
    """`str.format` that refuses what would print a hole."""

    def get_value(self, key: int | str, args: object, kwargs: dict[str, object]) -> object:
        if key not in kwargs:
            raise ValueError(
                f"reading: no value for {{{key}}} (braces of a formula are doubled: {{{{ }}}})"
            )
        return kwargs[key]

    def get_field(
        self, field_name: str, args: object, kwargs: dict[str, object]
    ) -> tuple[object, int | str]:
        value, key = super().get_field(field_name, args, kwargs)
        number = (
            value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        )
        if number is None or (isinstance(number, float) and not math.isfinite(number)):
            raise ValueError(f"reading: {field_name} = {number}: the run gave no number for it")
        return number, key

    def check_unused_args(self, used_args: set, args: object, kwargs: dict[str, object]) -> None:
        if unused := sorted(set(kwargs) - used_args):
            raise ValueError(f"reading: the text has no field for {', '.join(unused)}")
