"""The form of the committed notebooks: executed, compared, small, and set up alike."""

from __future__ import annotations

import re

import nbformat
import papermill
import pytest

from addlib.notebook import MAGICS
from workflow.chapters import chapters
from workflow.notebook_cells import COMPARED, has_tag
from workflow.stamp_address import setup_source

CHAPTERS = chapters()

MAX_BYTES = 200_000


@pytest.fixture(scope="module", params=CHAPTERS)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(CHAPTERS[request.param].notebook, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_code_cell_was_executed(notebook: nbformat.NotebookNode) -> None:
    """nbval skips a cell whose stored count is null, and then compares nothing."""
    never = [cell.source for cell in code_cells(notebook) if cell.execution_count is None]
    assert not never


def test_outputs_are_stored_in_compared_cells_only(notebook: nbformat.NotebookNode) -> None:
    compared = [cell for cell in code_cells(notebook) if has_tag(cell, COMPARED)]
    assert len(compared) >= 2
    assert not [cell.source for cell in compared if not cell.outputs], (
        "compared cells without an output"
    )
    others = [cell for cell in code_cells(notebook) if not has_tag(cell, COMPARED)]
    assert not [cell.source for cell in others if cell.outputs], "outputs that nothing compares"


def test_stored_outputs_are_small_texts(notebook: nbformat.NotebookNode) -> None:
    """No pictures, no figures' JSON, no progress bars, no errors."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "stream":
                assert output.name == "stdout", cell.source
            else:
                assert output.output_type in ("display_data", "execute_result"), cell.source
                assert set(output.data) <= {"text/plain", "text/markdown"}, cell.source


def test_setup_cells_are_the_same_everywhere() -> None:
    notebooks = [nbformat.read(chapter.notebook, as_version=4) for chapter in CHAPTERS.values()]
    cells = [
        [cell for cell in code_cells(notebook) if has_tag(cell, "setup")] for notebook in notebooks
    ]
    assert [len(found) for found in cells] == [1] * len(CHAPTERS)
    assert {tuple(found[0].metadata.tags) for found in cells} == {("setup", "remove-cell")}
    assert {found[0].source for found in cells} == {setup_source()}, "`make stamp` writes them anew"


@pytest.mark.parametrize("name", CHAPTERS)
def test_committed_notebooks_are_small(name: str) -> None:
    assert CHAPTERS[name].notebook.stat().st_size < MAX_BYTES


PROSE = tuple(f"%%{name}" for name in MAGICS)


def test_prose_shows_its_text_alone(notebook: nbformat.NotebookNode) -> None:
    """On the page and in Jupyter it looks like any other text: its source is hidden."""
    prose = [cell for cell in code_cells(notebook) if cell.source.startswith(PROSE)]
    assert prose
    for cell in prose:
        assert has_tag(cell, "remove-input"), cell.source
        assert cell.metadata.get("jupyter", {}).get("source_hidden"), cell.source


def test_lists_are_lists(notebook: nbformat.NotebookNode) -> None:
    """Markdown joins the lines of a paragraph, so a list wrapped like one ends up inside it."""
    inside = re.compile(r"(?m)^(?![-*|]).*(?:[.:;]|\*\*) - \S")
    assert not [
        cell.source
        for cell in notebook.cells
        if (cell.cell_type == "markdown" or cell.source.startswith(PROSE))
        and inside.search(cell.source)
    ]


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_parameter_says_what_it_is(name: str) -> None:
    """papermill reads a comment only behind a value that stands on the same line."""
    declared = papermill.inspect_notebook(CHAPTERS[name].notebook)
    assert declared
    assert not [name for name, parameter in declared.items() if not parameter["help"].strip()]
