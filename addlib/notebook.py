"""What a notebook needs at its top, and how it shows figures, tables and readings."""

from __future__ import annotations

import base64
import html
import math
import os
import string
import sys
import textwrap
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import display

from addlib.figures.page import Renderer, figure_bundle, plot_div, plotly_bundle, titled
from addlib.figures.palette import template

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler


def setup() -> None:
    """Make figures appear wherever the notebook runs, and print one line on what runs here.

    Registers the plotly renderer ``addlib`` and the book's template, and makes them plotly's
    defaults, so that a bare ``fig.show()`` appears too: in Jupyter, VS Code, Colab, papermill and
    the book. Called before torch is loaded, it makes torch's threads wait without spinning, which
    is several times faster where other programs run. Safe to call again.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
    import torch

    pio.templates["addlib"] = template()
    pio.templates.default = "addlib"
    pio.renderers["addlib"] = Renderer()
    pio.renderers.default = "addlib"
    machine = f"CPU, {torch.get_num_threads()} threads"
    # Only counted: to ask for names starts CUDA, in chapters that run on the CPU, too.
    gpus = torch.cuda.device_count()
    if gpus:
        machine += f", GPUs: {gpus}"
    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "transformer_lens")]
    print(f"addlib {sys.modules['addlib'].__version__} on {machine}; {', '.join(libraries)}")


def show(fig: go.Figure, *, number: str, caption: str, alt: str, name: str) -> None:
    """Show a numbered, captioned figure that draws offline wherever the page has plotly.js.

    The caption gains what the drawing did to the data (gaps filled). JupyterLab and VS Code, which
    draw plotly's own format, get number and caption as the figure's title.

    Args:
        fig: the figure.
        number: chapter and figure: ``"2.1"``.
        caption: what to see, in plain text.
        alt: what the picture shows, for those who cannot see it.
        name: unique on the page, lower case with hyphens; the anchor is ``fig-<name>``, downloads
            have that name.

    Raises:
        ValueError: a number or name of another form, or an empty text.
    """
    # a chart that fills gaps says so in its meta
    caption = " ".join([caption, *(fig.layout.meta or {}).get("notes", [])])
    download = f'<button class="addlib-svg" id="plot-{name}-svg" hidden>Download SVG</button>'
    picture = plot_div(fig.to_dict(), name, alt)
    bundle = figure_bundle(picture, number, caption, alt, name, download)
    display(bundle | plotly_bundle(titled(fig, number, caption).to_dict()), raw=True)


def show_svg(svg: str, *, number: str, caption: str, alt: str, name: str) -> None:
    """Show a hand-drawn SVG the way `show` shows a plotly figure.

    Raises:
        ValueError: as `show`.
    """
    link = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    download = f'<a class="addlib-svg" download="{name}.svg" href="{link}">Download SVG</a>'
    picture = f'<div role="img" aria-label="{html.escape(alt)}">{svg}</div>'
    display(figure_bundle(picture, number, caption, alt, name, download), raw=True)


def table(rows: Any, columns: list[str] | None = None) -> Styler:
    """A table without row numbers, as the last line of a cell shows it.

    Args:
        rows: a data frame, or what pandas makes one of: a list of rows, a dict of columns.
        columns: their names, where the rows do not have them.

    Returns:
        pandas' ``Styler``; its ``format`` sets how numbers are written.
    """
    return pd.DataFrame(rows, columns=columns).style.hide(axis="index")


def reading(text: str, **values: object) -> None:
    """Show Markdown with the run's numbers filled in, so that text and figure cannot disagree.

    ``reading("The loss falls to {loss:.3f} nats.", loss=run.final_loss)``. Braces of formulas are
    doubled.

    Raises:
        ValueError: naming a field without a value, a value without a field, or a value that is
            None, NaN or infinite.
    """
    text = textwrap.dedent(text).strip()
    formatter = string.Formatter()
    used = set()
    for _, field, _, _ in formatter.parse(text):
        if field is None:
            continue
        try:
            value, name = formatter.get_field(field, (), values)
        except LookupError as error:
            hint = "braces of a formula are doubled: {{ }}"
            raise ValueError(f"reading: no value for {{{field}}} ({hint})") from error
        if value is None or (hasattr(value, "__float__") and not math.isfinite(value)):
            raise ValueError(f"reading: {field} = {value}: the run gave no number for it")
        used.add(name)
    if unused := sorted(set(values) - used):
        raise ValueError(f"reading: the text has no field for {', '.join(unused)}")
    filled = text.format(**values)
    display({"text/markdown": filled, "text/plain": filled}, raw=True)
