"""Faults that no run may be lost to, those that the other files do not cover.

fault                                 where it is tested
kill -9 during training               test_training.py, test_pair_training.py: resumes to identical weights
kill -9 during papermill              test_execution.py: a killed run resumes; here: its notebook is never half a file
kill -9 during a checkpoint write     here
a full disk                           test_training.py (weights), test_claims.py (claims); here: a chapter, a real disk
a bad checkpoint                      test_training.py: truncated, altered, foreign, damaged record; refused
two processes training one model      test_training.py: trained once; test_execution.py: a second `make book`
no network                            site/conftest.py: every chapter runs without one; here: that there is none
a kernel that can't start, a signal     test_endings.py: started again; the record says what stopped the run
no GPU                                test_device.py: "auto" takes the CPU, "cuda" is refused with advice
GPU out of memory                     test_device.py: answers, activations, training
an old results folder                 test_claims.py: unsound records are refused; here: chapters that are no more
a notebook with an unknown parameter  test_execution.py, test_sweep.py: refused before anything starts
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from addlib.files import write_whole
from addlib.models.addition import ModelConfig
from addlib.tasks.addition import AdditionTask
from addlib.training.addition import TrainConfig
from addlib.training.runs import load_or_train
from models import same_weights
from runs import offline, run_script
from workflow import execute, stage_site
from workflow.chapters import Results, chapters
from workflow.sweep import report

pytestmark = pytest.mark.depends_on("workflow/**/*")

TINY = TrainConfig(
    task=AdditionTask(2), model=ModelConfig(width=12), steps=30, snapshot_every=10, batch_size=16
)


# ------------------------------------------------------------------------ kill -9
KILLED_IN_A_WRITE = """
import os, signal, sys
sys.path[:0] = ["tests/helpers", "tests/workflow"]
writes, sync = [], os.fsync
def killed(descriptor):
    writes.append(descriptor)
    if len(writes) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(descriptor)
os.fsync = killed
from addlib.training.runs import load_or_train
from test_faults import TINY
load_or_train(TINY, "cpu", progress=False)
"""


def test_a_kill_during_a_checkpoint_write_loses_nothing_finished(tmp_path, monkeypatch):
    """The fifth file is the resume file of step 20: that of step 10 still stands, whole."""
    done = run_script(
        "-c",
        KILLED_IN_A_WRITE,
        ADDLIB_CACHE=str(tmp_path / "killed"),
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    assert done.returncode == -signal.SIGKILL, done.stdout
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "killed"))
    folder = TINY.folder.path
    assert list(folder.glob(".*.tmp")), "the write was not under way"
    assert int(TINY.folder.read("resume.safetensors")["step"]) == 10
    resumed = load_or_train(TINY, "cpu", progress=False)
    assert resumed.record["sessions"][-1]["from_step"] == 10
    assert not list(folder.glob(".*.tmp"))
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path / "whole"))
    assert same_weights(resumed.model, load_or_train(TINY, "cpu", progress=False).model)


KILLED_IN_A_SAVE = """
import os, signal, sys
import papermill
from workflow import execute
def killed(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = killed
papermill.iorw.papermill_io.write("new" * 100_000, execute.WHOLE + sys.argv[1])
"""


def test_a_kill_while_papermill_saves_leaves_the_notebook_before_it(tmp_path):
    notebook = tmp_path / "02_training.ipynb"
    notebook.write_text("as it was")
    path = os.pathsep.join(sys.path)
    done = run_script("-c", KILLED_IN_A_SAVE, notebook, PYTHONPATH=path)
    assert done.returncode == -signal.SIGKILL, done.stdout
    assert notebook.read_text() == "as it was"


# ---------------------------------------------------------------------- full disk
@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 kB; only root can mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_on_a_full_disk_old_files_stay_and_the_message_says_what_to_do(small_disk):
    write_whole(small_disk / "weights", b"old" * 1000)
    with pytest.raises(
        OSError,
        match=r"could not write .*weights \(0\.3 MB\): No space left on device; free some space",
    ):
        write_whole(small_disk / "weights", bytes(300_000))
    assert (small_disk / "weights").read_bytes() == b"old" * 1000
    assert [path.name for path in small_disk.iterdir()] == ["weights"]


def test_a_chapter_on_a_full_disk_says_so_and_counts_as_nothing(tmp_path):
    """Linux's /dev/full is a file on a disk that is always full; here it is the chapter's log."""
    results = Results(tmp_path)
    results.log("01_setup").parent.mkdir()
    results.log("01_setup").symlink_to("/dev/full")
    done = run_script("-m", "workflow.execute", "01_setup", "--smoke", "--results", tmp_path)
    assert done.returncode == 1, done.stdout
    fault = results.fault("01_setup")
    assert fault in done.stdout.splitlines()
    assert fault.startswith("01_setup failed in cell ")
    assert fault.endswith("No space left on device; free some space, then run again")
    assert not results.executed("01_setup").exists()
    assert results.record("01_setup")["status"] == "failed"


def test_a_run_that_fills_the_disk_has_its_record_all_the_same(small_disk, monkeypatch):
    """There is no room for a new record beside the old one, which is written over."""

    def fill(*_, **__):
        with (small_disk / "weights").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    monkeypatch.setattr(execute, "execute_notebook", fill)
    monkeypatch.setattr(execute, "_set_environment", lambda *_: None)
    results = Results(small_disk)
    execute.execute(chapters()["01_setup"], {}, results)
    assert results.fault("01_setup") == (
        "01_setup failed before its first cell: No space left on device; free some space, then "
        "run again"
    )


# ------------------------------------------------------------- no network, no GPU
def test_without_a_network_there_is_none():
    """The environment of the smoke runs; the address is one for documentation, so nobody is asked."""
    text = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    done = run_script("-c", text, **offline())
    assert done.returncode == 1
    assert "Network is unreachable: 192.0.2.1" in done.stdout


# --------------------------------------------------------------------- old results
def test_what_an_older_book_left_is_not_read(tmp_path):
    """Claims of a chapter that is gone, records of another form or cut off: the site is laid out."""
    sound = dict(
        statement="S.",
        source="this chapter",
        value=1.0,
        ci=None,
        threshold="<= 2",
        metric="M",
        unit="count",
        n_seeds=1,
    )
    sound |= dict(verdict="holds", device="cpu", revision="r", cell=1)
    sound |= dict(kind="claim", status="new", registered="", seen="", seed=None, smoke=False)
    ledger = [
        sound | {"id": "01.here", "chapter": "01_setup"},
        sound | {"id": "99.gone", "chapter": "99_gone"},
    ]
    (tmp_path / "claims.json").write_text(
        json.dumps([*ledger, {"id": "01.old", "chapter": "01_setup"}])
    )
    results = Results(tmp_path)
    assert results.claims() == ledger
    stage_site.stage(results, tmp_path / "stage", tolerant=True)
    page = (tmp_path / "stage" / "book" / "claims.md").read_text(encoding="utf-8")
    assert [name in page for name in ("01.here", "99.gone", "01.old")] == [True, False, False]
    results.run("01_setup").parent.mkdir()
    for text in ('{"chapter": "01_se', "[]", ""):
        results.run("01_setup").write_text(text)
        assert results.record("01_setup") == {}


def test_a_sweep_reads_no_cell_that_failed_or_had_other_parameters(tmp_path):
    """Each of these cells has a claim in its folder; only the first one's is gathered."""
    cells = {}
    for seed, (status, ran_with, done) in enumerate(
        [
            ("done", {}, True),
            ("failed", {}, False),
            ("running", {}, False),
            ("done", {"sample": 5000}, True),
        ],
        1,
    ):
        entry = {
            "chapter": "01_setup",
            "run": f"seed {seed}",
            "parameters": {"seed": seed, "sample": 2000},
        }
        folder = tmp_path / f"cell-{seed}"
        record = {
            "chapter": "01_setup",
            "status": status,
            "parameters": entry["parameters"] | ran_with,
        }
        failure = (
            {"cell": 4, "source": "x", "error": "ValueError: y"} if status == "failed" else None
        )
        write_whole(
            Results(folder).run("01_setup"), json.dumps(record | {"failure": failure}).encode()
        )
        claim = dict.fromkeys(report.WANTED) | {
            "id": "01.x",
            "verdict": "holds",
            "value": 1.0,
            "seed": seed,
        }
        write_whole(
            folder / "claims" / "01.x.json", json.dumps(claim | {"threshold": ">= 0.5"}).encode()
        )
        if done:
            (folder / ".done").touch()
        cells[folder.name] = entry
    assert list(report.claim_table(cells, tmp_path)["cell"]) == ["cell-1"]
    table = report.cell_table(cells, tmp_path)
    assert list(table["status"]) == ["done", "failed", "interrupted", "not run"]
    assert list(table["holds"]) == [1, 0, 0, 0]
    assert table["error"][1] == "01_setup failed in cell 4 (`x`): ValueError: y"
