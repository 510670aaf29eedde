"""Prints the built site as one PDF, in the order of the table of contents: `make pdf`.

    python -m workflow.pdf                              _build/html -> _build/book.pdf
    python -m workflow.pdf --site S --output O.pdf --pages book/index notebooks/01_setup

Figures are drawn anew on white, by the same exporter as every static file of the book. A figure
that is not drawn, or a page that is missing, stops the printing: there is no PDF with holes.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from tqdm import tqdm

from addlib.figures.static import save
from addlib.files import write_whole
from workflow.browser import ADVICE, find_browser
from workflow.chapters import ROOT, WorkflowError, shown
from workflow.http_server import serving
from workflow.site import SITE

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from pypdf import PageObject, PdfWriter

PRINTED = Path(__file__).with_name("pdf_page.js").read_text(encoding="utf-8")
"""Defines `addlibPrint`: what a page needs before it goes on paper."""

FIGURE_WIDTH = 680  # CSS pixels: the width of the text on the paper

PATIENCE = 120  # seconds that a page may take to draw its figures


@dataclass(frozen=True)
class Printed:
    """One page of the site on paper."""

    name: str  # as in _toc.yml
    title: str
    part: str  # caption of its part of the table of contents
    pdf: bytes
    figures: list[str]  # anchors of its figures


def contents() -> list[tuple[str, str]]:
    """Name of each page and caption of its part, in the order of the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    entries = [
        (entry["file"], part["caption"]) for part in toc["parts"] for entry in part["chapters"]
    ]
    return [(toc["root"], ""), *entries]


def make(
    site: Path, output: Path, names: Sequence[str] | None = None, patience: float = PATIENCE
) -> int:
    """Print the site and return the number of sheets; the file appears whole or not at all.

    Args:
        site: the built site. output: the PDF. names: pages as in ``_toc.yml``; default all.
        patience: seconds that a page may take to draw its figures.

    Raises:
        WorkflowError: no browser, no such page, or a figure that is not drawn; the message names
            it.
    """
    wanted = [(name, part) for name, part in contents() if names is None or name in names]
    if unknown := sorted(set(names or ()) - {name for name, _ in wanted}):
        raise WorkflowError(
            f"no page {', '.join(unknown)}; pages: {', '.join(name for name, _ in contents())}"
        )
    if absent := [name for name, _ in wanted if not (site / f"{name}.html").is_file()]:
        raise WorkflowError(f"{shown(site)} has no {', '.join(absent)}: run 'make book' first")
    printed = list(_print_pages(site, wanted, patience * 1000))
    document = _bind(printed)
    content = io.BytesIO()
    document.write(content)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, content.getvalue())
    return len(document.pages)


# ------------------------------------------------------------------------ printing
def _print_pages(
    site: Path, wanted: Sequence[tuple[str, str]], timeout: float
) -> Iterator[Printed]:
    from playwright.sync_api import sync_playwright

    if not (program := find_browser()):
        raise WorkflowError(ADVICE)
    with (
        sync_playwright() as playwright,
        serving(site) as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(viewport={"width": FIGURE_WIDTH, "height": 900})
        context.add_init_script(
            "localStorage.setItem('mode', 'light'); localStorage.setItem('theme', 'light')"
        )
        for name, part in tqdm(wanted, unit="page", desc="printing"):
            page = context.new_page()
            page.set_default_timeout(timeout)
            page.goto(f"{url}{name}.html")
            yield _printed(page, name, part, Path(folder))
            page.close()
        browser.close()


def _printed(page: Page, name: str, part: str, folder: Path) -> Printed:
    """Put static figures in the place of live ones, then print."""
    page.add_script_tag(content=PRINTED)
    _wait_until_drawn(page)
    figures = page.evaluate("addlibPrint.figures()")
    if undrawn := [figure["name"] for figure in figures if not figure["drawn"]]:
        raise WorkflowError(f"{name}: not drawn: {', '.join(undrawn)}")
    for figure in figures:
        if figure["spec"]:
            page.evaluate(
                "([name, svg]) => addlibPrint.replace(name, svg)",
                [figure["name"], _static(figure, folder)],
            )
    page.evaluate("addlibPrint.arrange()")
    title = page.locator("h1").first.inner_text().removesuffix("#").strip()
    footer = (
        '<div style="width: 100%; margin: 0 18mm; font: 8px sans-serif; color: #666; display: flex; '
        f'justify-content: space-between"><span>{title}</span><span class="pageNumber"></span></div>'
    )
    pdf = page.pdf(
        format="A4",
        margin={"top": "16mm", "bottom": "18mm", "left": "18mm", "right": "18mm"},
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=footer,
    )
    return Printed(name, title, part, pdf, [figure["name"] for figure in figures])


def _wait_until_drawn(page: Page) -> None:
    """Wait for figures and formulas; what never comes is named by what follows."""
    from playwright.sync_api import TimeoutError as NotDrawn

    with suppress(NotDrawn):
        page.wait_for_function("addlibPrint.ready()")


def _static(figure: dict[str, Any], folder: Path) -> str:
    """The figure as SVG text."""
    import plotly.graph_objects as go

    spec = json.loads(figure["spec"])
    drawing = go.Figure(data=spec["data"], layout=spec["layout"], skip_invalid=True)
    path = save(
        drawing, folder / f"{figure['name']}.svg", width=FIGURE_WIDTH, height=figure["height"]
    )
    return path.read_text(encoding="utf-8")


# ------------------------------------------------------------------------- binding
def _bind(printed: Sequence[Printed]) -> PdfWriter:
    """One document with an outline; a link to a page leads to the sheet where that page begins."""
    from pypdf import PdfReader, PdfWriter

    document = PdfWriter()
    first: dict[str, int] = {}  # sheet of each page
    parts: dict[str, Any] = {}
    for page in printed:
        first[page.name] = len(document.pages)
        document.append(PdfReader(io.BytesIO(page.pdf)), import_outline=False)
    for page in printed:
        if page.part and page.part not in parts:
            parts[page.part] = document.add_outline_item(
                title=page.part, page_number=first[page.name], bold=True
            )
        document.add_outline_item(
            title=page.title, page_number=first[page.name], parent=parts.get(page.part)
        )
    for sheet in document.pages:
        _relink(document, sheet, first)
    document.add_metadata({"/Title": printed[0].title})
    document.compress_identical_objects()
    return document


def _relink(document: PdfWriter, sheet: PageObject, first: dict[str, int]) -> None:
    """Turn links to pages of the local site into links inside the document, or drop them."""
    from pypdf.generic import ArrayObject, NameObject

    annotations = ArrayObject()
    for reference in sheet.get("/Annots", ArrayObject()):
        annotation = reference.get_object()
        address = str(annotation.get("/A", {}).get("/URI", ""))
        if address.startswith("http://127.0.0.1:"):
            name = address.split("/", 3)[3].split("#")[0].split("?")[0].removesuffix(".html")
            if name not in first:
                continue
            del annotation["/A"]
            annotation[NameObject("/Dest")] = ArrayObject(
                [document.pages[first[name]].indirect_reference, NameObject("/Fit")]
            )
        annotations.append(reference)
    if "/Annots" in sheet:
        sheet[NameObject("/Annots")] = annotations


def main() -> int:
    """Command line; the exit status is 1 where nothing was printed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--site", type=Path, default=SITE, help="the built site (default: _build/html)"
    )
    parser.add_argument(
        "--output", type=Path, default=SITE.parent / "book.pdf", help="default: _build/book.pdf"
    )
    parser.add_argument("--pages", nargs="+", help="only these pages, named as in _toc.yml")
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        help="seconds for a page's figures (default: 120)",
    )
    options = parser.parse_args()
    try:
        sheets = make(
            options.site.resolve(), options.output.resolve(), options.pages, options.patience
        )
    except WorkflowError as error:
        print(f"error: {error}")
        return 1
    size = options.output.stat().st_size / 1e6
    print(f"PDF: {shown(options.output.resolve())} ({sheets} sheets, {size:.1f} MB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
