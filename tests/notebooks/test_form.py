"""The form of a chapter: its answer first, few lines of code, few figures, what was found last."""

from __future__ import annotations

import ast
import re
from statistics import mean

import nbformat
import pytest

from addlib.notebook import MAGICS
from workflow.chapters import chapters
from workflow.notebook_cells import has_tag
from workflow.prose import check_prose

CHAPTERS = chapters()

PROSE = tuple(f"%%{name}" for name in MAGICS)

FOLDED = ("hide-cell", "hide-output", "remove-cell", "remove-output")

MOST_LINES = 650

MOST_LINES_ON_AVERAGE = 450

LONG = 15
"""Lines; at most 15% of a chapter's cells of code have more."""

MOST_VISIBLE_LINES = 30

MOST_WIDTH = 88

MOST_FIGURES = 10


def cells_of(name: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(CHAPTERS[name].notebook, as_version=4).cells


def code_lines(cell: nbformat.NotebookNode) -> list[str]:
    """Lines of code, without blank ones and comments; none of prose."""
    if cell.cell_type != "code" or cell.source.startswith(PROSE):
        return []
    lines = cell.source.splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def is_visible(cell: nbformat.NotebookNode) -> bool:
    return not has_tag(cell, "hide-input", "remove-input", "hide-cell", "remove-cell")


def figures_in_sight(name: str) -> int:
    drawn = re.compile(r"%%figure |%%opening \S")
    return sum(
        drawn.match(cell.source) is not None
        for cell in cells_of(name)
        if cell.cell_type == "code" and not has_tag(cell, *FOLDED)
    )


@pytest.fixture(params=CHAPTERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_answer_stands_first_and_what_was_found_last(name: str) -> None:
    cells = cells_of(name)
    kinds = [cell.source.split()[0] for cell in cells if cell.source.startswith(PROSE)]
    assert kinds[0] == "%%opening"
    assert kinds[-1] == "%%summary"
    assert kinds.count("%%opening") == kinds.count("%%summary") == 1
    place = next(i for i, cell in enumerate(cells) if cell.source.startswith("%%opening"))
    assert place <= 2, "title, setup, answer"


def test_the_claims_stand_folded_below_what_was_found(name: str) -> None:
    cells = cells_of(name)
    summary = next(i for i, cell in enumerate(cells) if cell.source.startswith("%%summary"))
    measures = any("claims.measure" in cell.source for cell in cells)
    folded = [i for i, cell in enumerate(cells) if has_tag(cell, "claims")]
    assert folded == ([summary + 1] if measures else [])


def test_a_chapter_has_little_code(name: str) -> None:
    sizes = [len(code_lines(cell)) for cell in cells_of(name)]
    sizes = [size for size in sizes if size]
    assert sum(sizes) <= MOST_LINES
    assert sum(size > LONG for size in sizes) <= 0.15 * len(sizes)


def test_chapters_have_little_code_on_average() -> None:
    sizes = [sum(len(code_lines(cell)) for cell in cells_of(name)) for name in CHAPTERS]
    assert mean(sizes) <= MOST_LINES_ON_AVERAGE


def test_code_in_sight_is_short_and_fits_the_page(name: str) -> None:
    seen = [code_lines(cell) for cell in cells_of(name) if is_visible(cell)]
    assert max(map(len, seen), default=0) <= MOST_VISIBLE_LINES
    assert max((len(line) for lines in seen for line in lines), default=0) <= MOST_WIDTH


def test_a_chapter_has_few_figures_in_sight(name: str) -> None:
    assert figures_in_sight(name) <= MOST_FIGURES


def test_no_text_stands_in_strings(name: str) -> None:
    """Captions and readings are cells of prose."""
    code = "\n".join(line for cell in cells_of(name) for line in code_lines(cell))
    assert not re.search(r"\bcaption=|\bMarkdown\(", code)


def test_prose_can_be_filled_in(name: str) -> None:
    check_prose(CHAPTERS[name])


def test_no_cell_prints_a_claims_record(name: str) -> None:
    for cell in cells_of(name):
        if code_lines(cell) and not cell.source.rstrip().endswith(";"):
            last = ast.parse(cell.source).body[-1]
            shown = ast.unparse(last) if isinstance(last, ast.Expr) else ""
            assert not shown.startswith("claims.measure"), cell.source


def test_figures_have_captions(name: str) -> None:
    """A figure that a cell's last line returns appears without one."""
    for cell in cells_of(name):
        if code_lines(cell) and not cell.source.rstrip().endswith(";"):
            last = ast.parse(cell.source).body[-1]
            shown = ast.unparse(last) if isinstance(last, ast.Expr) else ""
            assert not re.match(r"(\w+\.update_|charts\.|heatmaps\.|scatter\.)", shown), cell.source
