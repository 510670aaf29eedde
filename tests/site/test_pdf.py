"""The printed book: pages in order, figures on paper, links that stay inside the document."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from pypdf import PdfReader

from runs import run_script
from smoke import SITE_FILES
from workflow import pdf
from workflow.chapters import WorkflowError

pytestmark = pytest.mark.depends_on(*SITE_FILES)

PAGES = ["book/index", "notebooks/01_setup", "book/claims"]


def printed(site: Path, output: Path, *options: str) -> CompletedProcess[str]:
    """In a process of its own: this one has a browser already, and playwright drives one at a time."""
    return run_script("-m", "workflow.pdf", "--site", site, "--output", output, "--pages", *options)


def test_the_table_of_contents_gives_the_order() -> None:
    names = [name for name, _ in pdf.contents()]
    assert names[0] == "book/index"
    assert (
        names.index("notebooks/02_training")
        < names.index("notebooks/03_loss_shelves")
        < names.index("book/claims")
    )
    assert dict(pdf.contents())["book/claims"] == "Reference"


def test_pages_figures_and_links_come_onto_paper(smoke_site: Path, tmp_path: Path) -> None:
    done = printed(smoke_site, tmp_path / "book.pdf", *PAGES)
    document = PdfReader(tmp_path / "book.pdf")
    assert f"({len(document.pages)} sheets, " in done.stdout

    outline = [
        item.title if not isinstance(item, list) else [inner.title for inner in item]
        for item in document.outline
    ]
    assert outline[0] == "How transformers do arithmetic"
    assert outline[1:] == [
        "The addition model",
        ["01 · Why is adding from the left hard?"],
        "Reference",
        ["Claims"],
    ]
    text = " ".join(page.extract_text() for page in document.pages)
    page = (smoke_site / "notebooks" / "01_setup.html").read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption><b>(Figure [\d.]+)</b>", page)
    assert captions
    assert all(caption in text for caption in captions)
    assert "digit" in text, "text inside a static figure"

    annotations = [
        mark.get_object() for sheet in document.pages for mark in sheet.get("/Annots", [])
    ]
    addresses = [str(mark["/A"].get("/URI", "")) for mark in annotations if "/A" in mark]
    assert not [address for address in addresses if "127.0.0.1" in address]
    inside = [mark["/Dest"] for mark in annotations if "/Dest" in mark]
    claims = next(
        number
        for number, sheet in enumerate(document.pages)
        if sheet.extract_text().startswith("Claims")
    )
    assert document.pages[claims].indirect_reference in [
        place[0] for place in inside if isinstance(place, list)
    ]


def test_a_figure_that_is_not_drawn_stops_the_printing(smoke_site: Path, tmp_path: Path) -> None:
    shutil.copytree(
        smoke_site, tmp_path / "site", ignore=shutil.ignore_patterns("*.ipynb", "circuitsvis.js")
    )
    page = tmp_path / "site" / "notebooks" / "01_setup.html"
    text = page.read_text(encoding="utf-8")
    assert "Plotly.newPlot(" in text
    page.write_text(text.replace("Plotly.newPlot(", "Plotly.validate("), encoding="utf-8")
    done = printed(
        tmp_path / "site", tmp_path / "book.pdf", "notebooks/01_setup", "--patience", "8"
    )
    assert done.returncode == 1
    assert "error: notebooks/01_setup: not drawn: fig-" in done.stdout
    assert not (tmp_path / "book.pdf").exists()


def test_what_cannot_be_printed_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="no page book/nowhere; pages: book/index"):
        pdf.make(tmp_path, tmp_path / "book.pdf", ["book/nowhere"])
    with pytest.raises(WorkflowError, match="has no book/claims: run 'make book' first"):
        pdf.make(tmp_path, tmp_path / "book.pdf", ["book/claims"])
