"""A test is skipped only where nothing that it depends on has changed since it passed here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from throwaway_book import CLAIM_CELL, Book
from workflow.chapters import ROOT

pytestmark = pytest.mark.depends_on("workflow/**/*")

SETTINGS = """\
[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = [".", "tests/helpers"]
addopts = "-v --strict-markers -p no:cacheprovider"
"""

OF_CHAPTERS = """
import pytest
@pytest.mark.depends_on("notebooks/{name}.ipynb")
@pytest.mark.parametrize("name", ["01_first", "02_second"])
def test_chapter(name):
    pass
"""

MARKED = """
import pytest
{0}
@pytest.mark.depends_on({1})
def test_{2}():
    {3}
"""

UNMARKED = "def test_always():\n    pass\n"

CLAIM = "02_second:\n  02.late:\n    statement: Late\n"

ALL = {"chapter[01_first]", "chapter[02_second]", "helper", "module", "named"}


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """A book with tests that depend on various things, run once."""
    book = Book(tmp_path)
    book.chapter("01_first", "import addlib.stats")
    book.chapter("02_second", CLAIM_CELL)
    book.write("book/claims.yml", CLAIM)
    book.write("pyproject.toml", SETTINGS)
    for folder in ("tests/helpers", "tests/room/parts"):
        (book.root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "helpers" / "unchanged.py", book.root / "tests" / "helpers")
    book.write("tests/conftest.py", 'pytest_plugins = ["unchanged"]\n')
    book.write("tests/helpers/helper.py", "from room.parts.deep import DEEP\n")
    book.write("tests/room/parts/deep.py", "DEEP = 1\n")
    book.write("tests/room/test_chapters.py", OF_CHAPTERS)
    book.write("tests/test_helper.py", MARKED.format("import helper", "", "helper", "pass"))
    book.write("tests/test_module.py", MARKED.format("", "", "module", "'workflow.http_server'"))
    book.write("tests/test_named.py", MARKED.format("", "'book/*.md'", "named", "pass"))
    book.write("tests/test_always.py", UNMARKED)
    assert ran(book) == {*ALL, "always"}
    return book


def ran(book: Book, **environment: str) -> set[str]:
    """Names of the tests that ran and passed."""
    done = book.run("-m", "pytest", **environment)
    assert done.status == 0, done.text
    return set(re.findall(r"::test_(\S+) PASSED", done.text))


def test_a_skipped_test_says_why_and_a_variable_skips_nothing(book: Book) -> None:
    done = book.run("-m", "pytest", "-rs", COLUMNS="200")
    assert re.findall(r"::test_(\S+) PASSED", done.text) == ["always"]
    reason = (
        r"SKIPPED \[\d\].*: unchanged since it passed here on 20\S+; ADDLIB_TEST=all skips nothing"
    )
    assert len(re.findall(reason, done.text)) == 4, done.text
    for wanted in ("all", "full"):
        assert ran(book, ADDLIB_TEST=wanted) == {*ALL, "always"}


CHANGES: dict[str, tuple[Callable[[Book], None], set[str]]] = {
    "a notebook": (
        lambda book: book.chapter("01_first", "import addlib.stats", "1 + 1"),
        {"chapter[01_first]"},
    ),
    "a module that a notebook imports, a file that a mark names": (
        lambda book: append(book, "addlib/stats.py", "book/index.md"),
        {"chapter[01_first]", "named"},
    ),
    "a chapter's entry, a helper's helper": (
        lambda book: append(book, "tests/room/parts/deep.py", "workflow/chapters.yml"),
        {"chapter[02_second]", "helper"},
    ),
    "a claim, a module that a test names": (
        lambda book: append(book, "workflow/http_server.py", "book/claims.yml"),
        {"chapter[02_second]", "module"},
    ),
    "a test's file": (lambda book: append(book, "tests/test_named.py"), {"named"}),
    "the packages": (lambda book: append(book, "requirements.txt"), ALL),
    "the settings of the tests": (lambda book: append(book, "tests/conftest.py"), ALL),
}

ADDED = {
    "workflow/chapters.yml": "  check: {steps: 2}\n",
    "book/claims.yml": "    source: this chapter\n",
}


def append(book: Book, *names: str) -> None:
    for name in names:
        book.append(name, ADDED.get(name, "# changed\n"))


def test_a_test_runs_again_where_what_it_depends_on_has_changed(book: Book) -> None:
    for what, (change, expected) in CHANGES.items():
        change(book)
        assert ran(book) == {*expected, "always"}, what


FAILING = "assert not __import__('pathlib').Path('broken').exists()"

CHANGES_ITSELF = "__import__('pathlib').Path('book/index.md').write_text('changed')"

FAILS_AFTERWARDS = """
import pytest
@pytest.fixture
def broken():
    yield
    assert False
@pytest.mark.depends_on()
def test_afterwards(broken):
    pass
"""


def test_only_what_passed_to_its_end_and_unchanged_is_noted(book: Book) -> None:
    book.write("tests/test_failing.py", MARKED.format("", "", "failing", FAILING))
    book.write("tests/test_named.py", MARKED.format("", "'book/*.md'", "named", CHANGES_ITSELF))
    book.write("tests/test_afterwards.py", FAILS_AFTERWARDS)
    book.write("broken", "")
    for _ in range(2):
        done = book.run("-m", "pytest")
        assert "test_failing FAILED" in done.text
        assert "test_afterwards ERROR" in done.text
        assert "test_named PASSED" in done.text
        book.write("book/index.md", "# Book\n")
    (book.root / "broken").unlink()
    (book.root / "tests" / "test_afterwards.py").unlink()
    assert ran(book) == {"failing", "named", "always"}
    book.write("book/index.md", "changed")
    assert ran(book) == {"named", "always"}


def test_a_pattern_that_fits_no_file_is_refused(book: Book) -> None:
    book.write("tests/test_named.py", MARKED.format("", "'book/*.rst'", "named", "pass"))
    done = book.run("-m", "pytest")
    assert done.status != 0
    assert "ValueError: a test depends on book/*.rst, and there is no such file" in done.text


def test_ci_keeps_no_notes() -> None:
    """From one run to the next it keeps the environment and trained weights alone."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())["jobs"]
    kept = [
        step["with"]["path"]
        for job in jobs.values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/cache")
    ]
    assert kept
    assert set(kept) <= {"weights", ".venv"}
