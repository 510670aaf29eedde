"""What a notebook needs at its top, and how it shows figures, tables and readings."""

from __future__ import annotations

import base64
import html
import os
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from IPython import get_ipython
from IPython.display import DisplayHandle, display

from addlib.figures.attention import attention_bundle, save_attention
from addlib.figures.page import Renderer, figure_bundle, plot_div, plotly_bundle, titled
from addlib.figures.palette import template
from addlib.figures.static import NoBrowserError, save
from addlib.files import write_whole
from addlib.reading import chosen, filled, value_of
from addlib.unknown import leave_out, leaves_out, note, reason_of

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

    from addlib.training.opened import FileConfig, PairFileConfig


def setup(save_figures: str | None = None, titles: bool = True, released: str = "") -> None:
    """Make figures appear wherever the notebook runs, and print one line on what runs here.

    Registers the plotly renderer ``addlib`` and the book's template, and makes them plotly's
    defaults, so that a bare ``fig.show()`` appears too: in Jupyter, VS Code, Colab, papermill and
    the book. From then on a cell may begin with ``%%reading``, ``%%figure``, ``%%opening``,
    ``%%prediction`` or ``%%summary``. Called before torch
    is loaded, it makes torch's threads wait without spinning, which is several times faster where
    other programs run. Safe to call again.

    Args:
        save_figures: keeps each figure in a file of its name, too: ``"figures/*.pdf"``, svg or png.
            Default: ``ADDLIB_FIGURES`` of the environment, or none. Drawings become SVG and
            attention views HTML, whatever the ending.
        titles: whether these files, and figures in Jupyter, have number and caption.
        released: address of a folder from which finished trainings are fetched by name where the
            cache lacks them. Default: ``ADDLIB_RELEASED`` of the environment, or none.
    """
    if released:
        os.environ.setdefault("ADDLIB_RELEASED", released)
    pattern = save_figures or os.environ.get("ADDLIB_FIGURES", "")
    _files.update(pattern=pattern, titles=titles, no_browser=False)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
    import torch

    pio.templates["addlib"] = template()
    pio.templates.default = "addlib"
    pio.renderers["addlib"] = Renderer()
    pio.renderers.default = "addlib"
    _register_magics()
    machine = f"CPU, {torch.get_num_threads()} threads"
    # Only counted: to ask for names starts CUDA, in chapters that run on the CPU, too.
    gpus = torch.cuda.device_count()
    if gpus:
        machine += f", GPUs: {gpus}"
    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "transformer_lens")]
    print(f"addlib {sys.modules['addlib'].__version__} on {machine}; {', '.join(libraries)}")


def table(rows: Any, columns: list[str] | None = None) -> Styler:
    """A table without row numbers, as the last line of a cell shows it.

    Args:
        rows: a data frame, or what pandas makes one of: a list of rows, a dict of columns.
        columns: their names, where the rows do not have them.

    Returns:
        pandas' ``Styler``; its ``format`` sets how numbers are written.
    """
    return pd.DataFrame(rows, columns=columns).style.hide(axis="index")


def own_model(
    weights_file: str, seed: int, kind: str = "sums digit by digit"
) -> FileConfig | PairFileConfig | None:
    """A chapter on somebody's own model: open its file, and say on the page whose model it is.

    Without a file nothing happens. With one, the notebook's parameters that say what the model is
    become the model's, and cells below that need what the file does not have are left out, with a
    word.

    Args:
        weights_file: a file or a run's folder, as :func:`addlib.training.opened.open_model` reads
            it; empty for the book's own model.
        seed: of the chapter's questions.
        kind: what a model must answer for this chapter: ``"sums digit by digit"``, ``"sums modulo
            p"`` or ``"sums of two numbers"``.

    Raises:
        ModelFileError: the file is not read, or its model answers something else; one sentence
            says why.
    """
    if not weights_file:
        return None
    from addlib.models.state_dicts import ModelFileError
    from addlib.training.opened import open_model

    config = open_model(weights_file, seed)
    if config.kind != kind:
        raise ModelFileError(
            f"{weights_file} holds a model that answers {config.kind}, and this chapter takes "
            f"models that answer {kind}"
        )
    source = config.source
    text = (
        f"**Your model.** `{source.path.name}` (SHA-256 `{source.sha256[:12]}`): {source.words}. "
        "Figures and numbers below are of this model, beside the book's own thresholds; nothing of it "
        "goes into the book's record. What the file does not tell is left out with a word. Sentences "
        "without a number were written about the book's model."
    )
    display(_markdown(text), raw=True)
    get_ipython().user_ns.update(config.parameters)
    leave_out()
    return config


def reading_magic(line: str, cell: str) -> None:
    """Show a cell's Markdown with its fields filled in: the cell magic ``%%reading``.

    So text and figure can't disagree. ``%%reading if share > 0.9`` names the condition that the
    text rests on; where a run violates it, the page says so in the text's place, or shows what
    stands below a line ``%%else``. Nothing below that line: the cell shows nothing then.

    Raises:
        ValueError: as :func:`addlib.reading.chosen`; text after ``%%reading`` that is no condition.
    """
    word, _, condition = line.strip().partition(" ")
    if word not in ("", "if"):
        raise ValueError(f"%%reading {line}: write %%reading, or %%reading if <condition>")
    text = chosen(condition.strip(), cell, get_ipython().user_ns)
    if text:
        display(_markdown(text), raw=True)


def figure_magic(line: str, cell: str) -> None:
    """Show a figure with the cell as its caption: ``%%figure fig 5.6 share-by-class``.

    The line gives the figure (plotly's, a drawing's SVG or a list of attention views; an expression
    without spaces), its number and its name, which is unique on the page, in lower case with
    hyphens (the anchor is ``fig-<name>``); and where the caption rests on a condition, ``if`` and
    that condition. The cell is the caption, with fields and ``%%else`` as in a reading, and then,
    in a paragraph that begins with ``Alt:``, what the picture shows, for those who cannot see it.
    If the figure is None the cell shows nothing: a record may lack what would be drawn.

    The figure draws offline wherever the page has plotly.js. JupyterLab and VS Code, which draw
    plotly's own format, get number and caption as the figure's title. The caption gains what the
    drawing did to the data (gaps filled).

    Raises:
        ValueError: a line or a cell of another form; a number or name of another form, or an empty
            text.
    """
    bundle = _captioned(line, cell, get_ipython().user_ns)
    if bundle:
        display(bundle, raw=True)


def opening_magic(line: str, cell: str) -> None:
    """Show a chapter's answer at its top: ``%%opening fig 5.6 share-by-class``.

    Text with fields and ``%%else`` as in a reading, which may rest on a condition (``%%opening fig
    5.6 share if share > 0.9``); where the line names a figure as ``%%figure`` does, then a
    paragraph ``Caption:`` and one ``Alt:`` for it. The numbers come from cells that run later, so
    text and figure appear when the chapter comes to its ``%%summary``.

    Raises:
        ValueError: a line or a cell of another form.
    """
    text, *labels = re.split(r"^Caption:", cell, flags=re.MULTILINE)
    figure, _, condition = f" {line} ".partition(" if ")
    if bool(figure.strip()) != (len(labels) == 1):
        raise ValueError(
            "write %%opening <figure> <number> <name>, then the text, then a paragraph that begins "
            "with Caption: and one that begins with Alt:; or %%opening and the text alone"
        )
    _later(lambda names: _markdown(chosen(condition.strip(), text, names)))
    if labels:
        _later(lambda names: _captioned(line, labels[0], names))


def prediction_magic(line: str, cell: str) -> None:
    """Show a prediction, and below it what became of it: ``%%prediction 02.ends-first``.

    The line gives the ids of the claims that test it; their verdicts, from the notebook's ledger
    ``claims``, appear when the chapter comes to its ``%%summary``. The cell may have fields that
    the notebook knows already.

    Raises:
        ValueError: no id, or one that the ledger does not have; a field that can't be filled in.
    """
    ids = line.split()
    if not ids:
        raise ValueError("write %%prediction and the ids of the claims that test it")
    names = get_ipython().user_ns
    ledger = value_of("claims", names)
    text = filled(f"**Prediction.** {cell.strip()}", names)
    for id in ids:
        ledger[id]  # refuses an id that is not declared
    _later(
        lambda names: _markdown(_quoted(text, *(ledger.outcome(id) for id in ids))),
        before=_markdown(_quoted(text)),
    )


def summary_magic(line: str, cell: str) -> None:
    """Show a chapter's last words, a reading, and fill in what waits above for its numbers.

    A claim that the chapter has not measured by then counts as not borne out
    (:meth:`addlib.claims.ledger.Ledger.close`).

    Raises:
        ValueError: as :func:`reading_magic`; for a field of the opening, too.
    """
    names = get_ipython().user_ns
    if "claims" in names:
        names["claims"].close()
    for spot, bundle in _waiting:
        try:
            shown = bundle(names)
        except Exception as error:
            if not leaves_out():
                raise
            shown = note(reason_of(error))
        spot.update(shown, raw=True)
    reading_magic(line, cell)


_waiting: list[tuple[DisplayHandle, Callable[[dict[str, Any]], dict[str, object]]]] = []
"""Places on the page that the summary fills, and what makes their content of a notebook's names."""


def _later(
    bundle: Callable[[dict[str, Any]], dict[str, object]], before: dict[str, object] | None = None
) -> None:
    """Keep a place on the page for what the summary will show there; until then show `before`."""
    spot = display(before or _markdown(UNTIL_THEN), raw=True, display_id=True)
    _waiting.append((spot, bundle))


def _markdown(text: str) -> dict[str, object]:
    return {"text/markdown": text, "text/plain": text}


def _quoted(*paragraphs: str) -> str:
    """Paragraphs in a Markdown quotation."""
    lines = "\n\n".join(paragraphs).splitlines()
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _figure_bundle(
    fig: go.Figure, number: str, caption: str, alt: str, name: str, title: bool
) -> dict[str, object]:
    download = f'<button class="addlib-svg" id="plot-{name}-svg" {SAVE} hidden>SVG</button>'
    picture = plot_div(fig.to_dict(), name, alt)
    bundle = figure_bundle(picture, number, caption, alt, name, download)
    named = titled(fig, number, caption) if title else fig
    return bundle | plotly_bundle(named.to_dict())


def _svg_bundle(svg: str, number: str, caption: str, alt: str, name: str) -> dict[str, object]:
    link = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    download = f'<a class="addlib-svg" {SAVE} download="{name}.svg" href="{link}">SVG</a>'
    look = 'class="addlib-scroll" style="overflow-x:auto" tabindex="0"'
    picture = f'<div {look} role="img" aria-label="{html.escape(alt)}">{svg}</div>'
    return figure_bundle(picture, number, caption, alt, name, download)


def _captioned(line: str, cell: str, names: dict[str, Any]) -> dict[str, object]:
    """The figure that the line of a ``%%figure`` names, with the cell as its caption.

    Empty if it is None.
    """
    line, _, condition = line.partition(" if ")
    try:
        expression, number, name = line.split()
        caption, alt = re.split(r"^Alt:", cell, flags=re.MULTILINE)
    except ValueError as error:
        raise ValueError(
            "write %%figure <figure> <number> <name>, then the caption, then a paragraph that "
            "begins with Alt: and says what the picture shows"
        ) from error
    figure = value_of(expression, names)
    if figure is None:
        return {}
    labels = {
        "number": number,
        "name": name,
        "caption": " ".join(re.sub("^> |[*`]", "", chosen(condition, caption, names)).split()),
        "alt": " ".join(filled(alt, names).split()),
    }
    title = _files["titles"]
    if isinstance(figure, go.Figure):  # a chart that fills gaps says so in its meta
        notes = (figure.layout.meta or {}).get("notes", [])
        labels["caption"] = " ".join([labels["caption"], *notes])
    if _files["pattern"]:
        _save(figure, Path(_files["pattern"].replace("*", name)), labels, title)
    if isinstance(figure, str):
        return _svg_bundle(figure, **labels)
    if isinstance(figure, list):
        return attention_bundle(figure, **labels)
    return _figure_bundle(figure, **labels, title=title)


def _save(figure: Any, path: Path, labels: dict[str, str], title: bool) -> None:
    """Keep a figure in a file: drawings as SVG and attention views as HTML, whatever its ending."""
    if isinstance(figure, str):
        write_whole(path.with_suffix(".svg"), figure.encode())
    elif isinstance(figure, list):
        heading = f"Figure {labels['number']}. {labels['caption']}" if title else "Attention"
        save_attention(path.with_suffix(".html"), figure, heading)
    elif not _files["no_browser"]:
        try:
            save(titled(figure, labels["number"], labels["caption"]) if title else figure, path)
        except NoBrowserError as error:
            _files["no_browser"] = True
            print(f"Charts are not kept as files: {error}")


def _register_magics() -> None:
    """Let cells begin with ``%%reading`` and the like, where this is a notebook."""
    _waiting.clear()
    shell = get_ipython()
    if shell is not None:
        for name, magic in MAGICS.items():
            shell.register_magic_function(magic, "cell", name)


MAGICS = {
    "reading": reading_magic,
    "figure": figure_magic,
    "opening": opening_magic,
    "prediction": prediction_magic,
    "summary": summary_magic,
}
"""What a cell of prose begins with, behind ``%%``."""

_files: dict[str, Any] = {"pattern": "", "titles": True, "no_browser": False}
"""What `setup` was told of files for figures, and whether charts were found not to be drawn here."""

SAVE = 'title="Download SVG" aria-label="Download SVG"'

UNTIL_THEN = "*What this chapter finds stands here when it has run to its end.*"
