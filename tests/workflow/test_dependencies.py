"""Dependencies: what code imports and reads is found, and a change runs what uses it, no more."""

from __future__ import annotations

import shutil
from modulefinder import ModuleFinder
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from throwaway_book import Book
from workflow import dependencies
from workflow.chapters import ROOT, chapters
from workflow.dependencies import chapter_files, claims_digest, module_files, notebook_code

CHAPTERS = chapters()


@pytest.fixture(scope="module")
def untyped(tmp_path_factory) -> Path:
    """A copy of the package without what only a type checker imports."""
    folder = tmp_path_factory.mktemp("untyped")
    shutil.copytree(ROOT / "addlib", folder / "addlib")
    for path in (folder / "addlib").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("if TYPE_CHECKING:", "if False:"), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", CHAPTERS)
def test_modules_are_those_that_the_standard_library_finds(name: str, untyped: Path) -> None:
    """Python's own finder reads byte code; here it knows the package and nothing else."""
    cells = nbformat.read(CHAPTERS[name].notebook, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    script = untyped / "script.py"
    script.write_text("\n".join(source for source in code if source[0] != "%"), encoding="utf-8")
    finder = ModuleFinder(path=[str(untyped)])
    finder.run_script(str(script))
    files = [module.__file__ for module in finder.modules.values() if module.__file__]
    expected = {str(Path(file).relative_to(untyped)) for file in files if file != str(script)}
    assert "addlib/notebook.py" in expected
    assert {file for file in chapter_files(CHAPTERS[name]) if file.endswith(".py")} == expected


def test_chapters_depend_on_what_they_read() -> None:
    data = {
        name: {Path(file).stem for file in chapter_files(chapter) if file.endswith(".json")}
        for name, chapter in CHAPTERS.items()
    }
    assert data["04_us9_cascades"] == {"question_suites", "seeds", "two_layers", "variants"}
    assert "grokking" in data["11_grokking"]
    assert data["02_training"] == {"question_suites", "seeds", "small_models"}
    assert data["01_setup"] == {"question_suites"}, "no record has its claims"


def test_the_site_is_laid_out_without_the_code_that_trains() -> None:
    files = module_files("workflow.stage_site", "workflow.build_site")
    assert "workflow/claims_page.py" in files
    assert {"addlib/data/seeds.json", "addlib/data/grokking.json"} <= {*files}
    assert not [file for file in files if file.startswith("addlib/training/")]


PACKAGE = {
    "addlib/__init__.py": "",
    "addlib/rooms/__init__.py": "WALL = 1\n",
    "addlib/rooms/kitchen.py": "from . import cellar\nfrom ..tools import saw\n",
    "addlib/rooms/cellar.py": "def deep():\n    import addlib.shed\n",
    "addlib/shed.py": "from addlib.rooms import WALL\n",
    "addlib/tools.py": (
        "from typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n    from addlib import garden\nelse:\n    from addlib import tree\n"
    ),
    "addlib/garden.py": "",
    "addlib/tree.py": "from addlib.claims import stored\n\nplan = stored.read('plan')\n",
    "addlib/claims/__init__.py": "",
    "addlib/claims/stored.py": "",
    "addlib/broken.py": "def (:\n",
    "addlib/reader.py": "FILE = 'table.json'\nNAME = 'plan'\n",
    "addlib/data/plan.json": "{}",
    "addlib/data/table.json": "{}",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package in a repository of its own."""
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(dependencies, "ROOT", tmp_path)
    monkeypatch.setattr(dependencies, "DATA", tmp_path / "addlib" / "data")
    monkeypatch.setattr(dependencies, "CLAIMS", tmp_path / "claims.yml")
    return tmp_path


TREE = ["addlib/claims/__init__.py", "addlib/claims/stored.py", "addlib/data/plan.json"]

FOUND = {
    "addlib.shed": ["addlib/rooms/__init__.py", "addlib/shed.py"],
    "addlib.rooms.WALL": ["addlib/rooms/__init__.py"],
    "addlib.rooms.cellar": [
        "addlib/rooms/__init__.py",
        "addlib/rooms/cellar.py",
        "addlib/shed.py",
    ],
    "addlib.rooms.kitchen": [
        *TREE,
        "addlib/rooms/__init__.py",
        "addlib/rooms/cellar.py",
        "addlib/rooms/kitchen.py",
        "addlib/shed.py",
        "addlib/tools.py",
        "addlib/tree.py",
    ],
    "addlib.broken": ["addlib/broken.py"],
    "addlib.reader": ["addlib/data/table.json", "addlib/reader.py"],
    "addlib.nowhere": [],
}


@pytest.mark.parametrize("module", FOUND)
def test_names_lead_to_files(module: str, package: Path) -> None:
    assert module_files(module) == ["addlib/__init__.py", *FOUND[module]]


def test_a_notebook_is_read_with_its_magics(tmp_path: Path) -> None:
    sources = [
        "%matplotlib inline\nfrom addlib import one",
        "%%time\nimport addlib.two",
        "%%reading\n**From here** import nothing: {x:.2f}",
        "files = !ls\nimport addlib.three",
        "import addlib.four\n1 +",
    ]
    cells = [new_markdown_cell("import addlib.text"), *map(new_code_cell, sources)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "01_x.ipynb")
    ours = {
        name for name in notebook_code(tmp_path / "01_x.ipynb").imports if name.startswith("addlib")
    }
    assert ours == {"addlib", "addlib.one", "addlib.two", "addlib.three"}


def test_a_chapter_depends_on_its_own_claims(package: Path) -> None:
    setup = CHAPTERS["01_setup"]
    training = CHAPTERS["02_training"]
    assert claims_digest(setup) == ""
    file = package / "claims.yml"
    file.write_text("01_setup: {01.a: 1}\n02_training: {02.a: 1}\n")
    before = claims_digest(setup)
    untouched = claims_digest(training)
    file.write_text("01_setup: {01.a: 2}\n02_training: {02.a: 1}\n")
    assert claims_digest(setup) not in ("", before)
    assert claims_digest(training) == untouched


def test_a_changed_module_runs_the_chapter_that_uses_it(tmp_path: Path) -> None:
    """Snakemake's summary after each change says what would run."""
    book = Book(tmp_path)
    book.chapter("01_first", "from addlib import stats")
    book.chapter("02_second", "def unused():\n    from addlib.tasks import pairs")
    assert book.run("-m", "workflow.run_graph", "chapters").status == 0

    def would_run() -> set[str]:
        done = book.run("-m", "snakemake", "chapters", "--summary")
        assert done.status == 0, done.text
        pending = [line for line in done.lines if line.endswith("update pending")]
        return {Path(line.split("\t")[0]).stem for line in pending}

    assert would_run() == set()
    book.write("book/claims.yml", "02_second: {02.a: 1}\n")
    assert would_run() == {"02_second"}
    book.write("book/claims.yml", "{}\n")
    book.append("addlib/figures/charts.py", "# a change\n")
    assert would_run() == set()
    book.append("addlib/stats.py", "# a change\n")
    assert would_run() == {"01_first"}
    book.append("addlib/tasks/pairs.py", "# a change\n")
    assert would_run() == {"01_first", "02_second"}


def test_files_that_come_back_as_they_were_run_nothing(tmp_path: Path) -> None:
    """As by git, which gives each file that it brings back the time of today."""
    book = Book(tmp_path)
    book.chapter("01_first", "from addlib import stats")
    book.append("workflow/chapters.yml", "  weights: [main]\n")
    book.write("book/large.svg", " " * 2_000_000)
    book.append("addlib/training/runs.py", f"open({str(tmp_path / 'trained')!r}, 'a').write('x')\n")
    assert book.run("-m", "workflow.run_graph").status == 0
    site = tmp_path / "_build" / "html" / ".complete"
    built = site.stat().st_mtime_ns

    folders = ("addlib", "workflow", "book", "notebooks", "results")
    files = [path for folder in folders for path in (tmp_path / folder).rglob("*.*")]
    files += [path for path in tmp_path.glob("*.*") if path.is_file()]
    contents = {path: path.read_bytes() for path in files if path.is_file()}
    for path in contents:
        path.write_text("another branch")
    for path, content in contents.items():
        path.write_bytes(content)
    again = book.run("-m", "workflow.run_graph")
    assert again.lines == ["The book is up to date: _build/html/index.html"]
    assert book.runs("01_first") == 1
    assert (tmp_path / "trained").read_text() == "x"
    assert site.stat().st_mtime_ns == built
