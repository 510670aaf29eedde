"""Jobs on GPUs that aren't there: which one each job gets, and who waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from runs import run_script
from throwaway_book import Book
from workflow import execute, gpus
from workflow.chapters import ROOT, Results, WorkflowError, chapters
from workflow.gpus import Gpu

pytestmark = pytest.mark.depends_on("workflow/**/*")

pytestmark = pytest.mark.timeout(300)  # a job that waits for ever is what some would see

SMALL = Gpu(0, "GPU-a", "Small", 4)

LARGE = Gpu(1, "GPU-b", "Large", 8)


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch) -> None:
    """A folder of locks for this test alone, also for the processes that it starts."""
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(gpus, "POLL_SECONDS", 0.01)
    monkeypatch.delenv(gpus.CUDA_VISIBLE_DEVICES, raising=False)


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Puts an nvidia-smi on PATH that says what it is told to."""

    def install(says: str, status: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


def pretend(monkeypatch, *there: Gpu) -> None:
    monkeypatch.setattr(gpus, "usable", lambda: list(there))


# ------------------------------------------------------------------------------- which
@pytest.mark.parametrize(
    ("says", "status"),
    [("No devices were found", 0), ("GPU 0: NVIDIA H200 (UUID: GPU-1)", 0), ("driver too old", 9)],
)
def test_a_gpu_counts_where_torch_can_use_it_whatever_nvidia_smi_says(driver, says, status):
    """The torch that the book's tests run with has no CUDA, or there is no GPU."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    driver(says, status)
    assert gpus.usable() == []


def test_a_torch_that_fails_is_no_machine_without_gpus(driver, monkeypatch, tmp_path, capfd):
    driver("GPU 0")
    (tmp_path / "torch.py").write_text("raise RuntimeError('a broken driver')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(WorkflowError, match="torch could not look for GPUs"):
        gpus.usable()
    assert "a broken driver" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("device", "there", "name", "visible"),
    [
        ("auto", [], "cpu", None),
        ("cpu", [SMALL, LARGE], "cpu", None),
        ("cuda", [], None, None),
        ("auto", [SMALL], "Small", "0"),
        ("auto", [SMALL, LARGE], "Large", "1"),
        ("cuda", [SMALL, LARGE], "Large", "1"),
        ("cuda:0", [SMALL, LARGE], "Small", None),  # a person's choice: the numbers stay
        ("cuda:1", [SMALL, LARGE], "Large", None),
        ("cuda:2", [SMALL, LARGE], None, None),
        ("mps", [SMALL, LARGE], None, None),
    ],
)
def test_a_job_sees_the_gpu_that_it_is_said_to_run_on(monkeypatch, device, there, name, visible):
    pretend(monkeypatch, *there)
    with gpus.device_for(device, 1, "job") as chosen:
        assert chosen == name
        assert os.environ.get(gpus.CUDA_VISIBLE_DEVICES) == visible
    assert gpus.CUDA_VISIBLE_DEVICES not in os.environ


def test_gpus_that_a_person_has_hidden_stay_hidden(monkeypatch):
    """CUDA counts the visible ones from 0 on: here torch's GPU 1 is called 7."""
    monkeypatch.setenv(gpus.CUDA_VISIBLE_DEVICES, "3,7")
    pretend(monkeypatch, SMALL, LARGE)
    with gpus.device_for("auto", 1, "job"):
        assert os.environ[gpus.CUDA_VISIBLE_DEVICES] == "7"
    assert os.environ[gpus.CUDA_VISIBLE_DEVICES] == "3,7"


def test_a_record_names_the_device_of_the_notebook_s_parameter(tmp_path, monkeypatch):
    """Its own default is "auto"."""
    monkeypatch.setattr(execute, "execute_notebook", lambda *_, **__: Path(target).touch())
    monkeypatch.setattr(execute, "_set_environment", lambda *_: None)
    pretend(monkeypatch, SMALL, LARGE)
    results = Results(tmp_path)
    target = results.partial("01_setup")
    for given, name in [({}, "Large"), ({"device": "cuda:0"}, "Small"), ({"device": "cpu"}, "cpu")]:
        execute.execute(chapters()["01_setup"], given, results)
        assert results.record("01_setup")["device"] == name


# -------------------------------------------------------------------------------- room
def test_jobs_spread_and_a_gpu_is_shared_by_those_that_fit():
    with ExitStack() as jobs:
        taken = [jobs.enter_context(gpus._reserve([SMALL, LARGE], 2, "job")) for _ in range(6)]
    assert taken == [LARGE, LARGE, SMALL, LARGE, SMALL, LARGE]  # of equals the first


def test_a_job_that_is_larger_than_every_gpu_gets_a_whole_one():
    with gpus._reserve([SMALL, LARGE], 99, "job") as gpu:
        assert gpu == LARGE
        assert gpus._free(LARGE) == []
    assert len(gpus._free(LARGE)) == 8


def test_many_jobs_at_once_never_take_more_than_there_is():
    needs = np.random.default_rng(0).integers(1, 6, size=60)
    used = {SMALL: 0, LARGE: 0}
    most = dict(used)
    guard = threading.Lock()

    def job(need: int) -> None:
        with gpus._reserve([SMALL, LARGE], int(need), "job") as gpu:
            with guard:
                used[gpu] += need
                most[gpu] = max(most[gpu], used[gpu])
            time.sleep(0.01)
            with guard:
                used[gpu] -= need

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(job, needs))
    assert used == {SMALL: 0, LARGE: 0}
    assert 3 <= most[SMALL] <= 4
    assert 6 <= most[LARGE] <= 8


def test_a_job_waits_and_a_killed_one_leaves_its_gpu(capsys):
    text = (
        "import time\nfrom workflow import gpus\n"
        f"gpus.usable = lambda: [gpus.{SMALL!r}]\n"
        "with gpus.device_for('auto', 4, 'first'):\n    print('holds', flush=True)\n    time.sleep(600)"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "holds\n"
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(lambda: gpus._reserve([SMALL], 1, "second").__enter__())
        while "second: waits for 1 GiB of a GPU." not in capsys.readouterr().err:
            time.sleep(0.01)
        assert not second.done()
        first.send_signal(signal.SIGKILL)
        assert second.result() == SMALL
    first.communicate()


# -------------------------------------------------------------------------- whole book
MEETS = """
import os, pathlib, time
pathlib.Path({own!r}).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
deadline = time.monotonic() + 60
while not pathlib.Path({other!r}).exists():
    assert time.monotonic() < deadline, "the other chapter does not run"
    time.sleep(0.05)
"""
"""Source of a cell that ends when another chapter's is under way."""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two chapters run at once on two cores")
@pytest.mark.parametrize(
    ("there", "gib", "visible"),
    [
        ([Gpu(0, "a", "First", 2), Gpu(1, "b", "Second", 2)], 2, {"0", "1"}),
        ([Gpu(0, "a", "First", 2)], 1, {"0"}),
    ],
    ids=["two GPUs", "one that both fit on"],
)
def test_two_chapters_run_at_once_each_seeing_one_gpu(tmp_path, driver, there, gib, visible):
    driver("GPU 0")
    book = Book(tmp_path / "book")
    source = (book.root / "workflow" / "gpus.py").read_text(encoding="utf-8")
    asks = "import torch  # takes seconds"
    assert source.count(asks) == 1
    book.write("workflow/gpus.py", source.replace(asks, f"return {there!r}"))
    names = ["01_first", "02_second"]
    for own, other in (names, names[::-1]):
        marks = {"own": str(book.root / own), "other": str(book.root / other)}
        book.chapter(own, MEETS.format(**marks))
        book.append("workflow/chapters.yml", f"  gpu_gib: {gib}\n")
    done = book.run("-m", "workflow.run_graph", "chapters")
    assert done.status == 0, done.text
    assert {(book.root / name).read_text() for name in names} == visible
    devices = {book.results.record(name)["device"] for name in names}
    assert devices == {gpu.name for gpu in there}


def test_a_module_runs_on_a_gpu_as_it_would_alone():
    done = run_script("-m", "workflow.gpus", "1", "addlib.training.runs", "mian", "--device", "cpu")
    assert done.returncode == 2
    assert "invalid choice: 'mian'" in done.stdout
