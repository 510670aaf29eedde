"""The workflow on a throw-away book: what is refused, what survives, what runs again and what does
not.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import execute
from cells import COMPARED
from chapters import ROOT, Results
from parameters import declared_range
from refresh import refreshed

CLAIMS = """
import json, os, pathlib
folder = pathlib.Path(os.environ.get("ADDLIB_RESULTS", "results"))
folder.mkdir(exist_ok=True)
records = [json.loads(path.read_text()) for path in sorted((folder / "claims").glob("*.json"))]
(folder / "claims.json").write_text(json.dumps(records))
"""

CLAIM_CELL = """
import json, os, pathlib
smoke = os.environ.get("ADDLIB_SMOKE") == "1"
folder = pathlib.Path(os.environ["ADDLIB_RESULTS"]) / "claims" / ("smoke" if smoke else "")
folder.mkdir(parents=True, exist_ok=True)
record = dict(id="01.steps", chapter="01_first", statement="It takes few steps.", source="this chapter",
              threshold="at most 99", value=steps, ci=None, n_seeds=1, verdict="holds",
              device="cpu", revision="r", smoke=smoke)
(folder / "01.steps.json").write_text(json.dumps(record))
"""


def writes(*paths: str) -> str:
    """A script that leaves a JSON file at each of these places."""
    lines = [
        f"for path in map(pathlib.Path, [{', '.join(paths)}]):",
        "    path.parent.mkdir(exist_ok=True)",
    ]
    return "\n".join(["import pathlib, sys", *lines, "    path.write_text('{}')", ""])


class Book:
    """A copy of the workflow with tiny notebooks."""

    def __init__(self, root: Path) -> None:
        self.root, self.results = root, Results(root / "results")
        shutil.copytree(
            ROOT / "workflow", root / "workflow", ignore=shutil.ignore_patterns("__pycache__")
        )
        for folder in ("addlib", "book", "notebooks"):
            (root / folder).mkdir()
        for module in (
            "__init__",
            "batches",
            "bounds",
            "task",
            "sampling",
            "model",
            "fastpath",
            "history",
            "training",
            "pairs",
            "pair_training",
            "checkpoints",
            "files",
            *("onnx_export", "palette", "roles", "suites", "variables"),
        ):
            (root / "addlib" / f"{module}.py").touch()
        self.write("addlib/claims.py", CLAIMS)
        self.write("addlib/runs.py", writes("sys.argv[-1]"))
        self.write(
            "addlib/live_page.py",
            writes("sys.argv[-1] + '/model.onnx'", "sys.argv[-1] + '/page.json'"),
        )
        for scripts in ("site_scripts", "live_scripts"):
            self.write(f"workflow/{scripts}.py", "def write(*folders):\n    pass\n")
        config = 'title: Book\nonly_build_toc_files: true\nexecute:\n  execute_notebooks: "off"\n'
        self.write("_config.yml", config)
        self.write("book/index.md", "# Book\n")
        self.write("book/claims.md", "# Claims\n")
        self.write("workflow/chapters.yml", "")
        self.write(
            "_toc.yml", "format: jb-book\nroot: book/index\nchapters:\n- file: book/claims\n"
        )

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def chapter(self, name: str, *sources: str) -> None:
        """Add or replace a chapter: a title, a parameters cell, these cells, and one that notes
        that the run ended.
        """
        mark = f"open({str(self.root / (name + '.runs'))!r}, 'a').write('x')"
        cells = [
            new_markdown_cell(f"# Is this {name}?\n\nText."),
            new_code_cell("steps = 10  # steps, 1 to 100"),
        ]
        cells[1].metadata["tags"] = ["parameters"]
        cells += [new_code_cell(source) for source in (*sources, mark)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for i, cell in enumerate(cells):
            cell.id = f"cell-{i}"
        notebook = new_notebook(
            cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
        )
        nbformat.write(notebook, self.root / "notebooks" / f"{name}.ipynb")
        if f"{name}:" not in (self.root / "workflow" / "chapters.yml").read_text(encoding="utf-8"):
            with (self.root / "workflow" / "chapters.yml").open("a") as file:
                file.write(f'{name}: {{title: "Is this {name}?", smoke: {{steps: 1}}}}\n')
            with (self.root / "_toc.yml").open("a") as file:
                file.write(f"- file: notebooks/{name}\n")

    def runs(self, name: str) -> int:
        """How often a chapter ran to its end."""
        path = self.root / f"{name}.runs"
        return len(path.read_text()) if path.is_file() else 0

    def start(self, *command: str) -> subprocess.Popen[str]:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("ADDLIB_")
        }
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.root,
            env=environment | {"ADDLIB_CACHE": str(self.root / "weights")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str) -> SimpleNamespace:
        process = self.start(*command)
        text, _ = process.communicate()
        return SimpleNamespace(
            status=process.returncode, text=text, lines=text.strip().splitlines()
        )

    def page(self, name: str) -> str:
        return (self.root / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            ("step", "3"),
            "01_first has no parameter 'step'. Did you mean 'steps'? Declared parameters: steps.",
        ),
        (("steps", "many"), "01_first: steps = 'many': must be of type int, like 10."),
        (("steps", "101"), "01_first: steps = 101: out of range (steps, 1 to 100)."),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_starts(
    book: Book, parameter: tuple[str, str], message: str
) -> None:
    book.chapter("01_first", "print(steps)")
    done = book.run("workflow/execute.py", "01_first", "-p", *parameter)
    assert done.status == 2
    assert message in done.text
    assert not book.results.folder.exists()


def test_an_unknown_chapter_is_refused_with_the_list_of_chapters(book: Book) -> None:
    book.chapter("01_first", "print(steps)")
    done = book.run("workflow/execute.py", "01_frist")
    assert done.status == 2
    assert "there is no chapter '01_frist'; chapters: 01_first" in done.text


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("digits of each operand, 2 to 15", (2, 15)),
        ("questions drawn, at least 1,000", (1000, float("inf"))),
        ("of every random draw, 0 or more", (0, float("inf"))),
        ("learning rate, 1e-6 to 0.1", (1e-6, 0.1)),
        ("share of cells, at most 0.5", (float("-inf"), 0.5)),
        ("learning rate, above 0", (5e-324, float("inf"))),
        ('"auto", "cpu" or "cuda"', (float("-inf"), float("inf"))),
    ],
)
def test_ranges_are_read_from_the_comments(comment: str, expected: tuple[float, float]) -> None:
    assert declared_range(comment) == expected


def test_a_smoke_run_stays_out_of_the_results_and_of_the_ledger(book: Book) -> None:
    book.chapter("01_first", CLAIM_CELL)
    done = book.run("workflow/execute.py", "01_first", "--smoke")
    assert done.status == 0, done.text
    assert not book.results.executed("01_first").exists()
    smoke = Results(book.results.folder / "smoke")
    assert smoke.record("01_first")["parameters"] == {"steps": 1}
    assert [(record["value"], record["smoke"]) for record in smoke.claims(smoke=True)] == [
        (1, True)
    ]
    assert smoke.claims() == []


def test_a_failing_chapter_stops_nothing_else_and_the_last_lines_name_its_cell(book: Book) -> None:
    """Then: the mended chapter runs alone, nothing to do does nothing, a changed one runs alone
    with new claims.
    """
    book.chapter("01_first", CLAIM_CELL)
    book.chapter("02_second", "# not yet\nassert steps == 11, 'not eleven'")

    failed = book.run("workflow/book.py")
    assert failed.status != 0
    assert failed.lines[-2] == (
        "02_second failed in cell 3 (`assert steps == 11, 'not eleven'`): AssertionError: not "
        "eleven"
    )
    assert book.runs("01_first") == 1
    assert book.results.executed("01_first").is_file()
    assert not book.results.executed("02_second").exists()
    assert "not eleven" in book.results.log("02_second").read_text(encoding="utf-8")
    stopped = nbformat.read(book.results.partial("02_second"), as_version=4)
    assert any(
        output.output_type == "error"
        for cell in stopped.cells
        for output in cell.get("outputs", [])
    )
    assert "failed in cell 3" in book.page("notebooks/02_second")
    assert "failed in cell" not in book.page("notebooks/01_first")
    assert "notebooks/01_first.html#claim-01-steps" in book.page("book/claims")

    book.chapter("02_second", "assert steps == 10")
    mended = book.run("workflow/book.py")
    assert mended.status == 0, mended.text
    assert (book.runs("01_first"), book.runs("02_second")) == (1, 1)
    assert not book.results.partial("02_second").exists()
    assert "failed in cell" not in book.page("notebooks/02_second")

    started = time.monotonic()
    idle = book.run("workflow/book.py")
    assert idle.status == 0
    assert idle.lines == ["The book is up to date: _build/html/index.html"]
    assert time.monotonic() - started < 20
    assert (book.runs("01_first"), book.runs("02_second")) == (1, 1)

    book.chapter("01_first", CLAIM_CELL.replace("01.steps", "01.strides"))
    changed = book.run("workflow/book.py")
    assert changed.status == 0, changed.text
    assert (book.runs("01_first"), book.runs("02_second")) == (2, 1)
    assert [record["id"] for record in book.results.claims()] == ["01.strides"]


def test_a_chapter_has_as_many_threads_as_it_can_use(book: Book) -> None:
    for name in ("01_small", "02_large"):
        book.chapter(
            name,
            f"import os\nopen({str(book.root / name)!r}, 'w').write(os.environ['OMP_NUM_THREADS'])",
        )
    listed = (book.root / "workflow" / "chapters.yml").read_text(encoding="utf-8")
    book.write(
        "workflow/chapters.yml",
        listed.replace('"Is this 02_large?",', '"Is this 02_large?", threads: 999,'),
    )
    done = book.run("workflow/book.py", "chapters")
    assert done.status == 0, done.text
    threads = [int((book.root / name).read_text()) for name in ("01_small", "02_large")]
    assert threads == [1, len(os.sched_getaffinity(0))]  # all there are


def test_claims_that_another_chapter_removes_meanwhile_are_no_fault(
    tmp_path: Path, monkeypatch
) -> None:
    own, gone = tmp_path / "01.own.json", tmp_path / "02.gone.json"
    own.write_text('{"chapter": "01_first"}')
    monkeypatch.setattr(Path, "rglob", lambda *_: [gone, own])
    execute._remove_old_claims(Results(tmp_path), "01_first")
    assert not own.exists()


def test_a_number_of_threads_that_means_nothing_is_refused(book: Book) -> None:
    book.write("workflow/chapters.yml", "01_first: {title: One, threads: none}\n")
    done = book.run("workflow/book.py")
    assert done.status == 2
    assert "01_first: threads = 'none': must be a number from 1 on" in done.text


def test_a_killed_run_resumes_and_redoes_only_what_was_unfinished(book: Book) -> None:
    """Everything of the run is killed at once, as by a power cut, while the second chapter is in
    its slow cell.
    """
    book.chapter("01_first", "print(steps)")
    process = book.start(
        "-m", "snakemake", "results/executed/01_first.ipynb", "--cores", "2", "--quiet", "all"
    )
    assert process.wait() == 0
    slow, gate = book.root / "slow", book.root / "gate"
    book.chapter(
        "02_second",
        f"import pathlib, time\npathlib.Path({str(slow)!r}).touch()\n"
        f"while not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.1)",
    )
    process = book.start("workflow/book.py")
    deadline = time.monotonic() + 60
    while not slow.exists():
        assert time.monotonic() < deadline, "the slow cell was never reached"
        time.sleep(0.1)
    second = book.run("workflow/book.py")
    assert second.status == 2
    assert "another run is going on" in second.text
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with (book.root / ".snakemake" / "book.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the last process of the group is gone
    assert book.results.record("02_second")["status"] == "running"
    assert not book.results.executed("02_second").exists()
    assert not (book.root / "_build" / "html").exists()

    gate.touch()
    resumed = book.run("workflow/book.py")
    assert resumed.status == 0, resumed.text
    assert (book.runs("01_first"), book.runs("02_second")) == (1, 1)
    assert "Is this 02_second?" in book.page("notebooks/02_second")


def test_a_site_with_a_warning_does_not_replace_the_old_one(book: Book) -> None:
    assert book.run("workflow/stage.py").status == 0
    assert book.run("workflow/build.py").status == 0
    before = book.page("book/index")
    book.write("book/index.md", "# Book\n\n[nowhere](missing.md)\n")
    assert book.run("workflow/stage.py").status == 0
    refused = book.run("workflow/build.py")
    assert refused.status == 1
    assert "missing.md" in refused.text
    assert book.page("book/index") == before


def test_a_refreshed_notebook_keeps_compared_outputs_only() -> None:
    def cell(source: str, *tags: str) -> nbformat.NotebookNode:
        output = nbformat.v4.new_output("stream", name="stdout", text=f"{source} said\n")
        metadata = {"tags": list(tags), "papermill": {"duration": 1.5}}
        return new_code_cell(source, outputs=[output], execution_count=7, metadata=metadata)

    executed = new_notebook(
        metadata={"papermill": {"duration": 2.0}},
        cells=[
            cell("a", COMPARED),
            cell("b", "injected-parameters"),
            cell("c"),
            new_markdown_cell("text"),
        ],
    )
    committed = refreshed(executed)
    assert [cell.source for cell in committed.cells] == ["a", "c", "text"]
    assert [len(cell.outputs) for cell in committed.cells[:2]] == [1, 0]
    assert [cell.execution_count for cell in committed.cells[:2]] == [1, 2]
    assert "papermill" not in json.dumps(committed)
