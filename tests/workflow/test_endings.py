"""How a chapter's run begins and ends: its kernel starts, and every end leaves a record of it."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

from runs import run_script
from throwaway_book import Book
from workflow import execute, kernel
from workflow.chapters import Results, chapters

pytestmark = pytest.mark.depends_on("workflow/**/*")

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}

ADDRESS = """\
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance()
print(app.transport, app.ip)
"""

DIES_AT_FIRST = """\
import os, pathlib, sys
starts = pathlib.Path({starts!r})
if "ipykernel_launcher" in sys.orig_argv:
    with starts.open("a") as file:
        file.write("x")
    if starts.stat().st_size <= {deaths}:
        os._exit(1)
"""
"""A sitecustomize.py: the first kernels die as they start."""


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A notebook of one cell that prints where its kernel is reached."""
    path = tmp_path / "notebook.ipynb"
    cells = [new_code_cell(ADDRESS)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


def execute_here(notebook: Path, target: Path) -> str:
    """What the notebook's cell prints."""
    kernel.execute_notebook(notebook, str(target), {}, notebook.stem, progress_bar=False)
    (cell,) = nbformat.read(target, as_version=4).cells
    return cell.outputs[0].text.strip()


# ------------------------------------------------------------------------------- start
def test_nine_kernels_start_at_once_each_with_sockets_of_its_own(notebook, capfd):
    targets = [notebook.with_name(f"{number}.ipynb") for number in range(9)]
    addresses = []
    with ThreadPoolExecutor(len(targets)) as pool:
        for _ in range(3):
            addresses += pool.map(execute_here, [notebook] * len(targets), targets)
    assert len(set(addresses)) == len(addresses) == 27
    folders = [Path(address.removeprefix("ipc ")).parent for address in addresses]
    assert all(address.startswith("ipc /") for address in addresses)
    assert not any(folder.exists() for folder in folders)
    assert capfd.readouterr().err == ""


def test_sockets_lie_in_a_short_folder_where_the_usual_one_is_long(notebook, monkeypatch, tmp_path):
    """A path to a socket may have about 100 characters."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert execute_here(notebook, notebook.with_name("executed.ipynb")).startswith("ipc /tmp/")


@pytest.fixture
def kernels_die(tmp_path, monkeypatch):
    """Lets the first kernels die; the file has a letter for each kernel."""
    starts = tmp_path / "starts"

    def first(deaths: int) -> Path:
        source = DIES_AT_FIRST.format(starts=str(starts), deaths=deaths)
        (tmp_path / "sitecustomize.py").write_text(source)
        path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
        monkeypatch.setenv("PYTHONPATH", path)
        return starts

    return first


def test_a_kernel_that_dies_before_its_first_answer_is_started_again(notebook, kernels_die, capfd):
    starts = kernels_die(2)
    execute_here(notebook, notebook.with_name("executed.ipynb"))
    assert starts.read_text() == "xxx"
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("notebook:")]
    assert said == 2 * [
        "notebook: the kernel gave no answer (Kernel died before replying to kernel_info); it is "
        "started again."
    ]


def test_after_three_starts_the_chapter_has_failed_before_its_first_cell(tmp_path, kernels_die):
    book = Book(tmp_path / "book")
    book.chapter("01_first", "print(steps)")
    starts = kernels_die(3)
    done = book.run("-m", "workflow.run_graph")
    assert starts.read_text() == "xxx"
    fault = (
        "01_first failed before its first cell: the kernel could not be started, 3 times: Kernel "
        "died before replying to kernel_info"
    )
    assert fault in done.lines
    assert book.results.record("01_first")["status"] == "failed"
    assert "failed before its first cell" in book.page("notebooks/01_first")


# --------------------------------------------------------------------------------- end
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            DeadKernelError("Kernel died"),
            "the kernel died; most often the machine was out of memory",
        ),
        (
            CellTimeoutError("A cell timed out\nIts source"),
            "the cell's output did not arrive within 120 seconds",
        ),
        (RuntimeError(), "RuntimeError: no message"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "No space left on device; free some space",
        ),
        (MemoryError("\n"), "MemoryError: no message"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt("SIGTERM"), "it was stopped by SIGTERM"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_ends_a_run_its_record_says_so(tmp_path, monkeypatch, error, reason):
    def ends(*_, **__):
        raise error

    monkeypatch.setattr(execute, "execute_notebook", ends)
    monkeypatch.setattr(execute, "_set_environment", lambda *_: None)
    results = Results(tmp_path)
    chapter = chapters()["01_setup"]
    if isinstance(error, Exception):
        execute.execute(chapter, {}, results)
    else:
        with pytest.raises(type(error)):
            execute.execute(chapter, {}, results)
    record = results.record("01_setup")
    assert record["status"] == "failed"
    assert record["failure"]["error"].startswith(reason)
    assert results.fault("01_setup").startswith("01_setup failed before its first cell: " + reason)
    assert not results.is_running("01_setup")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_run_with_a_record_and_its_kernel(tmp_path, number):
    book = Book(tmp_path)
    pid = book.root / "pid"
    book.chapter(
        "01_first",
        f"import os, pathlib, time\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)",
    )
    process = book.start("-m", "workflow.execute", "01_first")
    deadline = time.monotonic() + 60
    while not (pid.is_file() and pid.read_text()):
        assert time.monotonic() < deadline, "the slow cell was never reached"
        time.sleep(0.1)
    assert book.results.fault("01_first") == "01_first is being run by another process"
    process.send_signal(number)
    text, _ = process.communicate()
    assert process.returncode == 1
    assert text.strip().splitlines()[-1] == f"01_first: stopped by {number.name}."
    assert book.results.fault("01_first") == (
        f"01_first failed in cell 3 (`import os, pathlib, time`): it was stopped by {number.name}"
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.fixture
def book(tmp_path):
    """A book whose one chapter has run."""
    book = Book(tmp_path)
    book.chapter("01_first", "print(steps)")
    assert book.run("-m", "workflow.execute", "01_first").status == 0
    return book


def test_a_notebook_with_the_marks_of_a_merge_is_refused_in_a_sentence(book):
    path = book.root / "notebooks" / "01_first.ipynb"
    path.write_text("<<<<<<< ours\n" + path.read_text())
    for command in (["workflow.execute", "01_first"], ["workflow.run_graph", "chapters"]):
        done = book.run("-m", *command)
        assert done.status == 2
        assert done.lines[-1].startswith("error: notebooks/01_first.ipynb is no notebook (")
        assert done.lines[-1].endswith("look for the marks of a merge in it")
        assert "Traceback" not in done.text


def test_what_goes_wrong_before_the_first_cell_is_in_the_record_too(book):
    book.results.partial("01_first").mkdir(parents=True)
    done = book.run("-m", "workflow.execute", "01_first")
    assert done.status == 1
    assert "Traceback" not in done.text
    fault = book.results.fault("01_first")
    assert fault.startswith("01_first failed before its first cell: ")
    assert str(book.results.partial("01_first")) in fault
    assert fault in done.text


def test_foreign_files_among_the_claims_stop_nothing(book):
    claims = book.results.folder / "claims"
    claims.mkdir(exist_ok=True)
    (claims / "other.json").write_bytes(b"\xff\xfe")
    assert book.run("-m", "workflow.execute", "01_first").status == 0
    assert (claims / "other.json").is_file()


def test_a_place_that_is_no_folder_is_named(book):
    (book.root / "file").write_text("")
    done = book.run("-m", "workflow.execute", "01_first", "--results", "file/results")
    assert done.status == 1
    assert re.fullmatch(
        r"error: 01_first stopped: Not a directory: \S*file/results\S*", done.lines[-1]
    )


def test_the_last_record_is_written_whatever_comes_meanwhile(tmp_path, monkeypatch):
    def killed_meanwhile():
        signal.raise_signal(signal.SIGTERM)
        return {}

    monkeypatch.setattr(execute, "execute_notebook", lambda *_, **__: Path(partial).touch())
    monkeypatch.setattr(execute, "_set_environment", lambda *_: None)
    monkeypatch.setattr(execute, "used", killed_meanwhile)
    results = Results(tmp_path)
    partial = results.partial("01_setup")
    before = {number: signal.getsignal(number) for number in execute._ending_signals()}
    execute._stop_on_signals()
    try:
        record = execute.execute(chapters()["01_setup"], {}, results)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert record["status"] == results.record("01_setup")["status"] == "done"


def test_a_record_names_the_device_that_the_claims_name(tmp_path, monkeypatch):
    """The kernel may take another one than the runner has kept for it."""

    def measures(*_, **__):
        partial.touch()
        claim = {"chapter": "01_setup", "device": "GPU One"}
        path = results.folder / "claims" / "01.a.json"
        path.parent.mkdir()
        path.write_text(json.dumps(claim))

    monkeypatch.setattr(execute, "execute_notebook", measures)
    monkeypatch.setattr(execute, "_set_environment", lambda *_: None)
    results = Results(tmp_path)
    partial = results.partial("01_setup")
    assert execute.execute(chapters()["01_setup"], {}, results)["device"] == "GPU One"


def test_an_interrupted_book_says_how_it_goes_on(tmp_path):
    book = Book(tmp_path)
    started = book.root / "started"
    book.chapter(
        "01_first",
        f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(600)",
    )
    process = book.start("-m", "workflow.run_graph", "chapters")
    deadline = time.monotonic() + 120
    while not started.is_file():
        assert time.monotonic() < deadline, "the slow cell was never reached"
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate()
    assert process.returncode == 130
    assert "Stopped; run it again, and it goes on where it was." in text
    assert "Traceback" not in text


# ---------------------------------------------------------------------------- trainings
def test_a_training_that_can_not_begin_says_why_in_a_line():
    training = ("addlib.training.runs", "main", "--device", "cuda:9")
    for command in (training, ("workflow.gpus", "1", *training)):
        done = run_script("-m", *command)
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1].startswith(
            "error: main was not trained: device = 'cuda:9'"
        )
        assert "Traceback" not in done.stdout
