"""The one list of chapters: what does not agree with it is refused, what is written from it agrees."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest

from throwaway_book import Book
from workflow import chapter_list
from workflow.chapter_list import RUN_TIME, TABLE, set_run_time, table
from workflow.chapters import ROOT, chapters

CHAPTERS = chapters()


def test_the_books_own_lists_are_in_step() -> None:
    chapter_list.check()


def test_readme_and_notebooks_have_what_make_stamp_writes() -> None:
    match = TABLE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert match
    assert table() in match[0]
    for chapter in CHAPTERS.values():
        notebook = nbformat.read(chapter.notebook, as_version=4)
        before = notebook.cells[0].source
        assert set_run_time(notebook, chapter)
        assert notebook.cells[0].source == before, chapter.name


def test_the_run_time_is_one_paragraph() -> None:
    text = "# Title\n\n**Run time**: long,\nand longer.\n\nMore **Run time** talk.\n"
    assert RUN_TIME.sub("X", text) == "# Title\n\nX\n\nMore **Run time** talk.\n"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    book = Book(tmp_path)
    for name in ("01_first", "02_second"):
        book.chapter(name)
    return book


def refused(book: Book) -> list[str]:
    """What `make book` says, which must run nothing."""
    done = book.run("-m", "workflow.run_graph")
    assert done.status == 2, done.text
    assert not book.results.folder.exists()
    return done.text.removeprefix("error: ").splitlines()


def test_a_notebook_that_is_not_listed_is_refused(book: Book) -> None:
    folder = book.root / "notebooks"
    shutil.copy(folder / "01_first.ipynb", folder / "01_zero.ipynb")
    assert refused(book) == [
        "workflow/chapters.yml:6: no entry for notebooks/01_zero.ipynb: add one here, or delete "
        "the notebook"
    ]


def test_an_entry_without_a_notebook_is_refused(book: Book) -> None:
    (book.root / "notebooks" / "02_second.ipynb").unlink()
    assert refused(book) == [
        "workflow/chapters.yml:6: 02_second: there is no notebooks/02_second.ipynb: write it or "
        "delete the entry"
    ]


def test_two_chapters_with_one_number_are_refused(book: Book) -> None:
    book.chapter("02_twin")
    assert refused(book) == [
        "workflow/chapters.yml:11: 02_twin: 02_second has this number: take another one"
    ]


def test_another_title_is_refused(book: Book) -> None:
    path = book.root / "workflow" / "chapters.yml"
    path.write_text(path.read_text().replace("Is this 01_first?", "Was it?"))
    assert refused(book) == [
        "workflow/chapters.yml:1: 01_first: the notebook begins with '01 · Is this 01_first?': it "
        "must be '01 · Was it?'"
    ]


CONTENTS = {
    "missing": (
        "  - file: notebooks/02_second\n",
        "",
        "_toc.yml:7: notebooks/02_second is missing: add '- file: notebooks/02_second' to the "
        "part 'Chapters'",
    ),
    "unknown": (
        "  - file: notebooks/02_second\n",
        "  - file: notebooks/02_second\n  - file: notebooks/03_third\n",
        "_toc.yml:11: notebooks/03_third is no chapter of workflow/chapters.yml: delete this line",
    ),
    "another part": (
        "- caption: Chapters\n  chapters:\n",
        "",
        "_toc.yml:7: notebooks/01_first belongs to the part 'Chapters': move it there",
    ),
    "another order": (
        "  - file: notebooks/01_first\n  - file: notebooks/02_second\n",
        "  - file: notebooks/02_second\n  - file: notebooks/01_first\n",
        "_toc.yml:9: notebooks/02_second stands where notebooks/01_first belongs: bring them into "
        "order",
    ),
}


@pytest.mark.parametrize("fault", CONTENTS)
def test_a_table_of_contents_that_is_out_of_step_is_refused(fault: str, book: Book) -> None:
    old, new, message = CONTENTS[fault]
    path = book.root / "_toc.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert refused(book)[0] == message
