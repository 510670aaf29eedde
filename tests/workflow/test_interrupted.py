"""A first build that is interrupted, or can't keep its weights: a sentence, and the next run goes on.

Chapters that are interrupted are in test_execution.py (kill -9) and test_endings.py (Ctrl-C).
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from addlib.models.addition import ModelConfig
from addlib.tasks.addition import AdditionTask
from addlib.training.addition import TrainConfig
from addlib.training.runs import load_or_train
from runs import FULL
from throwaway_book import Book
from workflow import browser, run_graph

pytestmark = pytest.mark.depends_on("workflow/**/*")

IN_FULL = pytest.mark.skipif(not FULL, reason="in `make test-full`")

TINY = TrainConfig(
    task=AdditionTask(2), model=ModelConfig(width=12), steps=20, snapshot_every=10, batch_size=16
)

SLOW_TRAINING = """
import pathlib, sys, time
root = pathlib.Path({root!r})
steps = root / "steps"
steps.touch()
while len(steps.read_text()) < 40:
    if len(steps.read_text()) < 20 or (root / "gate").exists():
        with steps.open("a") as file:
            file.write("x")
    time.sleep(0.1)
pathlib.Path(sys.argv[-1]).write_text("{{}}")
"""
"""A training's stand-in: 40 steps, each kept and none taken twice, the last 20 where a gate is open."""


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """A book whose second chapter waits for a training that does not end before it goes on."""
    book = Book(tmp_path)
    book.chapter("01_first", "print(steps)")
    book.chapter("02_second", "print(steps)")
    book.append("workflow/chapters.yml", "  weights: [main]\n")
    book.write("addlib/training/runs.py", SLOW_TRAINING.format(root=str(book.root)))
    return book


def started(condition: Callable[[], bool], book: Book) -> subprocess.Popen[str]:
    """A run of the graph in which this has come about."""
    process = book.start("-m", "workflow.run_graph")
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def in_training(book: Book) -> bool:
    return (book.root / "steps").is_file() and len((book.root / "steps").read_text()) > 5


def in_early_site(book: Book) -> bool:
    """Whether Jupyter Book writes pages of the early site."""
    return any((book.root / "_build").glob(".html-*/_build/html/*"))


def goes_on(book: Book) -> str:
    """What the next run prints, which ends in a complete site and takes no step twice."""
    (book.root / "gate").touch()
    with (book.root / ".snakemake" / "book.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the last process of the run before is gone
    done = book.run("-m", "workflow.run_graph")
    assert done.status == 0, done.text
    assert done.lines[-1] == "The book is up to date: _build/html/index.html"
    assert (book.root / "steps").read_text() == "x" * 40
    assert (book.runs("01_first"), book.runs("02_second")) == (1, 1)
    assert "Is this 02_second?" in book.page("notebooks/02_second")
    assert not list((book.root / "_build").glob(".html-*"))
    return done.text


@pytest.mark.parametrize("moment", [in_training, pytest.param(in_early_site, marks=IN_FULL)])
def test_after_ctrl_c_a_sentence_says_so_and_the_next_run_goes_on(book: Book, moment) -> None:
    process = started(lambda: moment(book), book)
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate()
    assert process.returncode == 130
    assert "Stopped; run it again, and it goes on where it was." in text.splitlines()
    goes_on(book)


@pytest.mark.parametrize("moment", [pytest.param(in_training, marks=IN_FULL), in_early_site])
def test_after_a_power_cut_the_next_run_goes_on(book: Book, moment) -> None:
    process = started(lambda: moment(book), book)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    goes_on(book)


def test_where_the_runner_alone_is_killed_nothing_is_built_over(book: Book) -> None:
    """Its graph and its early site go on to their ends; a run meanwhile is refused."""
    process = started(lambda: in_early_site(book), book)
    process.kill()
    meanwhile = book.run("-m", "workflow.run_graph")
    assert meanwhile.status == 2
    assert meanwhile.lines == [
        "error: another run is going on in this folder; wait for its end",
    ]
    (book.root / "gate").touch()
    text, _ = process.communicate()
    assert "Traceback" not in text
    assert "can be read now" not in goes_on(book)


# ------------------------------------------------------------------------ real trainings
STOPPED = """
import os, signal, sys
sys.path[:0] = ["tests/helpers", "tests/workflow"]
from addlib.training import runs
from addlib.training.addition import Trainer
from test_interrupted import TINY
step = Trainer.train_step
def stopped(self):
    if self.step == 15:
        os.kill(os.getpid(), signal.SIGINT)
    step(self)
Trainer.train_step = stopped
runs.RUNS["main"] = TINY
sys.argv[1:] = ["main", "--device", "cpu"]
runs.main()
"""


def test_a_training_that_is_stopped_says_so_and_goes_on_from_its_last_step(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", STOPPED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "main: stopped; its training goes on from its last saved step."
    )
    assert "Traceback" not in done.stderr
    resumed = load_or_train(TINY, "cpu", progress=False)
    assert resumed.record["sessions"][-1]["from_step"] == 10


# -------------------------------------------------------------------- read-only weights
def test_weights_that_can_not_be_kept_are_named_first_and_last(book: Book) -> None:
    """The folder is a file here, which even root can't write into."""
    book.write("weights", "")
    book.write("addlib/training/runs.py", "import sys\nsys.exit('error: main was not trained')")
    done = book.run("-m", "workflow.run_graph")
    assert done.status == 1
    fault = (
        f"The weights folder {book.root / 'weights'} can't be written (File exists): what is in it "
        "is used, and for what is not, set ADDLIB_CACHE to another folder."
    )
    assert done.lines[0] == fault
    assert done.lines[-4:] == [
        "02_second did not run: no trained weights main",
        "the model was not exported for the live page",
        fault,
        "The book is not complete.",
    ]
    assert "Is this 01_first?" in book.page("notebooks/01_first")
    (book.root / "weights").unlink()
    book.write("addlib/training/runs.py", SLOW_TRAINING.format(root=str(book.root)))
    assert "weights folder" not in goes_on(book)


@pytest.fixture
def disk(tmp_path: Path):
    """A disk that can be made read-only; only root can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a disk here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_what_is_on_a_read_only_disk_is_used_and_the_rest_is_refused(disk, monkeypatch):
    monkeypatch.setenv("ADDLIB_CACHE", str(disk))
    load_or_train(TINY, "cpu", progress=False)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert "(Read-only file system)" in run_graph.weights_fault()
    assert load_or_train(TINY, "cpu", progress=False).steps == 20
    other = TrainConfig(task=AdditionTask(2), model=ModelConfig(width=12), steps=30)
    with pytest.raises(OSError) as refused:
        load_or_train(other, "cpu", progress=False)
    assert str(refused.value).endswith(
        f"{other.folder.path} can't be written: Read-only file system; set ADDLIB_CACHE to a "
        "folder that can be written, then run again"
    )


# ---------------------------------------------------------------------------- no browser
def test_a_browser_that_is_not_there_is_a_sentence(monkeypatch, capsys) -> None:
    monkeypatch.setattr(browser, "find_browser", lambda: None)
    monkeypatch.setattr(browser, "install_browser", lambda: None)
    monkeypatch.setattr(sys, "argv", ["browser"])
    assert browser.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {browser.ADVICE}"
    assert "set BROWSER_PATH to its program" in line


def test_the_book_needs_no_browser(book: Book, monkeypatch) -> None:
    """What `make book` imports doesn't even look for one."""
    script = "import sys, workflow.run_graph, workflow.stage_site, workflow.build_site\n"
    script += "assert not {'workflow.browser', 'playwright'} & set(sys.modules)"
    assert book.run("-c", script).status == 0
