"""The workflow on a throw-away book: what is refused, what survives, what runs again."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from runs import run_script
from throwaway_book import CLAIM_CELL, Book
from workflow import execute
from workflow.chapters import Results
from workflow.notebook_cells import COMPARED
from workflow.parameters import declared_range
from workflow.site import COMPLETE
from workflow.store_outputs import committed_form

pytestmark = pytest.mark.depends_on("workflow/**/*")


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
    done = book.run("-m", "workflow.execute", "01_first", "-p", *parameter)
    assert done.status == 2
    assert message in done.text
    assert not book.results.folder.exists()


def test_an_unknown_chapter_is_refused_with_the_list_of_chapters(book: Book) -> None:
    book.chapter("01_first", "print(steps)")
    done = book.run("-m", "workflow.execute", "01_frist")
    assert done.status == 2
    assert "there is no chapter '01_frist'; chapters: 01_first" in done.text


ON_WINDOWS = """
import importlib, sys
import filelock  # has a way of its own on Windows
sys.modules.update(fcntl=None, resource=None)
del sys.argv[0]
module = importlib.import_module(sys.argv[0])
sys.platform = "win32"
sys.exit(module.main())
"""
"""Runs a module's command where Python lacks what it lacks on Windows."""


@pytest.mark.parametrize(
    "command",
    [
        ("workflow.execute", "01_setup"),
        ("workflow.run_graph",),
        ("workflow.store_outputs",),
        ("workflow.sweep.grid", "workflow/sweep/grids/seeds.yml"),
    ],
    ids=lambda command: command[0],
)
def test_windows_is_refused_in_one_sentence(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run_script("-c", ON_WINDOWS, *command, ADDLIB_RESULTS=str(tmp_path))
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "error: the workflow runs on Linux and macOS: on Windows, run it in WSL"
    ]


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
    done = book.run("-m", "workflow.execute", "01_first", "--smoke")
    assert done.status == 0, done.text
    assert not book.results.executed("01_first").exists()
    smoke = Results(book.results.folder / "smoke")
    assert smoke.record("01_first")["parameters"] == {"steps": 1}
    assert [(record["value"], record["smoke"]) for record in smoke.claims(smoke=True)] == [
        (1, True)
    ]
    assert smoke.claims() == []


def test_a_failing_chapter_stops_nothing_else_and_the_last_lines_name_its_cell(book: Book) -> None:
    """Then the mended chapter runs alone, nothing to do is nothing done, a changed one runs alone."""
    book.chapter("01_first", CLAIM_CELL)
    book.chapter("02_second", "# not yet\nassert steps == 11, 'not eleven'")

    failed = book.run("-m", "workflow.run_graph")
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
    mended = book.run("-m", "workflow.run_graph")
    assert mended.status == 0, mended.text
    assert (book.runs("01_first"), book.runs("02_second")) == (1, 1)
    assert not book.results.partial("02_second").exists()
    assert "failed in cell" not in book.page("notebooks/02_second")

    started = time.monotonic()
    idle = book.run("-m", "workflow.run_graph")
    assert idle.status == 0
    assert idle.lines == ["The book is up to date: _build/html/index.html"]
    assert time.monotonic() - started < 20
    assert (book.runs("01_first"), book.runs("02_second")) == (1, 1)

    book.chapter("01_first", CLAIM_CELL.replace("01.steps", "01.strides"))
    changed = book.run("-m", "workflow.run_graph")
    assert changed.status == 0, changed.text
    assert (book.runs("01_first"), book.runs("02_second")) == (2, 1)
    assert [record["id"] for record in book.results.claims()] == ["01.strides"]


BROKEN_SOLVER = """
from types import SimpleNamespace
apis = SimpleNamespace(LpSolverDefault=SimpleNamespace(name="CBC"))
def listSolvers(onlyAvailable=False):
    return []
def getSolver(name):
    return SimpleNamespace(available=lambda: True)
def __getattr__(name):
    raise OSError("cbc: Exec format error")
"""


def test_jobs_are_chosen_without_a_solver(book: Book, tmp_path: Path, monkeypatch) -> None:
    """On arm64 PuLP may bring a solver that can't be run there."""
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in" / "pulp.py").write_text(BROKEN_SOLVER)
    path = filter(None, [str(tmp_path / "stand-in"), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    book.chapter("01_first")
    done = book.run("-m", "workflow.run_graph", "chapters")
    assert done.status == 0, done.text


def test_outputs_of_the_named_chapters_are_stored_and_no_other_runs(book: Book) -> None:
    """Neither one that would fail nor one that has run is touched."""
    for name, source in (("01_first", "1"), ("02_second", "print(steps)"), ("03_third", "1 / 0")):
        book.chapter(name, source)
    paths = {path.stem: path for path in (book.root / "notebooks").glob("*.ipynb")}
    compared = nbformat.read(paths["02_second"], as_version=4)
    compared.cells[2].metadata["tags"] = ["nbval-check-output"]
    nbformat.write(compared, paths["02_second"])
    before = {name: path.read_bytes() for name, path in paths.items()}
    unknown = book.run("-m", "workflow.store_outputs", "01_frist")
    assert unknown.status == 2
    assert "no chapter '01_frist'; chapters: 01_first, 02_second, 03_third" in unknown.text
    done = book.run("-m", "workflow.store_outputs", "02_second")
    assert done.status == 0, done.text
    assert done.text.splitlines()[-1] == "notebooks/02_second.ipynb: changed"
    assert nbformat.read(paths["02_second"], as_version=4).cells[2].outputs[0].text == "10\n"
    assert not (book.root / "results" / "executed" / "01_first.ipynb").exists()
    assert all(paths[name].read_bytes() == before[name] for name in ("01_first", "03_third"))
    stored = paths["02_second"].read_bytes()
    failed = book.run("-m", "workflow.store_outputs", "03_third", "02_second")
    assert failed.status == 1
    assert "03_third failed in cell" in failed.text
    assert "No notebook was changed." in failed.text
    assert "01_first" not in failed.text.partition("03_third failed")[2]
    assert paths["02_second"].read_bytes() == stored


def test_claims_that_another_chapter_removes_meanwhile_are_no_fault(
    tmp_path: Path, monkeypatch
) -> None:
    own, gone = tmp_path / "01.own.json", tmp_path / "02.gone.json"
    own.write_text('{"chapter": "01_first"}')
    monkeypatch.setattr(Path, "rglob", lambda *_: [gone, own])
    execute._remove_old_claims(Results(tmp_path), "01_first")
    assert not own.exists()


def test_a_number_of_threads_that_means_nothing_is_refused(book: Book) -> None:
    book.chapter("01_first", "print(steps)")
    book.append("workflow/chapters.yml", "  threads: none\n")
    done = book.run("-m", "workflow.run_graph")
    assert done.status == 2
    assert "01_first: threads = 'none': must be a number from 1 on" in done.text


def test_a_killed_run_resumes_and_redoes_only_what_was_unfinished(book: Book) -> None:
    """The run is killed at once, as by a power cut, in the second chapter's slow cell."""
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
    process = book.start("-m", "workflow.run_graph")
    deadline = time.monotonic() + 60
    while not slow.exists():
        assert time.monotonic() < deadline, "the slow cell was never reached"
        time.sleep(0.1)
    second = book.run("-m", "workflow.run_graph")
    assert second.status == 2
    assert "another run is going on" in second.text
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with (book.root / ".snakemake" / "book.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the last process of the group is gone
    deadline = time.monotonic() + 60
    while book.results.is_running("02_second"):  # it may still be closing its other files
        assert time.monotonic() < deadline, "the killed run holds its lock"
        time.sleep(0.1)
    assert book.results.record("02_second")["status"] == "running"
    assert book.results.fault("02_second") == (
        "02_second was cut off: its process was killed, or the machine stopped"
    )
    assert not book.results.executed("02_second").exists()
    assert not (book.root / "_build" / "html" / COMPLETE).exists()

    gate.touch()
    resumed = book.run("-m", "workflow.run_graph")
    assert resumed.status == 0, resumed.text
    assert "02_second: its last run was cut off; it starts again." in resumed.lines
    assert (book.runs("01_first"), book.runs("02_second")) == (1, 1)
    assert "Is this 02_second?" in book.page("notebooks/02_second")


def test_a_site_with_a_warning_does_not_replace_the_old_one(book: Book) -> None:
    book.chapter("01_first")
    assert book.run("-m", "workflow.stage_site").status == 0
    assert book.run("-m", "workflow.build_site").status == 0
    before = book.page("book/index")
    book.write("book/index.md", "# Book\n\n[nowhere](missing.md)\n")
    assert book.run("-m", "workflow.stage_site").status == 0
    refused = book.run("-m", "workflow.build_site")
    assert refused.status == 1
    assert "missing.md" in refused.text
    assert book.page("book/index") == before


def test_a_committed_notebook_keeps_compared_outputs_only() -> None:
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
    committed = committed_form(executed)
    assert [cell.source for cell in committed.cells] == ["a", "c", "text"]
    assert [len(cell.outputs) for cell in committed.cells[:2]] == [1, 0]
    assert [cell.execution_count for cell in committed.cells[:2]] == [1, 2]
    assert "papermill" not in json.dumps(committed)
