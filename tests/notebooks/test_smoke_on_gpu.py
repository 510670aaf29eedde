"""Chapters with smoke parameters on a GPU: no cell mixes devices, or takes one for the CPU.

Where there is none, the kernel has the stand-in of tests/pretend_gpu.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from runs import FULL, run_script
from smoke import OFFLINE, WEIGHTS, run_smoke
from workflow.chapters import ROOT, Results, chapters

PRETENDED = (ROOT / "tests" / "helpers" / "with_gpu", ROOT / "tests")

QUICK = ("03_loss_shelves", "07_where_and_when", "12_qwen_multiplication")
"""Chapters that run on a GPU in every test run; the others by `make test-full`."""

ELSEWHERE = {
    "01.class-shares",  # of questions, without a model
    "04.two-layers-in-a-million",  # of a stored training, on the device that made it
}
"""Claims that no run measures on its GPU."""


@pytest.mark.depends_on("notebooks/{name}.ipynb", "tests/helpers/with_gpu/*", OFFLINE)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", chapters() if FULL else QUICK)
def test_a_chapter_runs_on_a_gpu(name: str, gpu, tmp_path: Path) -> None:
    """With weights of a run on the CPU; where there is time for it, it trains its own.

    Its first line counts the GPUs, and its claims say that they were measured on this one.
    """
    if not FULL:
        run_smoke(name)
    weights = tmp_path / "weights" if FULL else WEIGHTS
    path = [] if gpu is None else PRETENDED
    done = run_script(
        *("-m", "workflow.execute", name, "--smoke", "-p", "device", "cuda"),
        *("--results", tmp_path / "results"),
        ADDLIB_CACHE=str(weights),
        PYTHONPATH=os.pathsep.join(map(str, [*path, ROOT])),
    )
    assert done.returncode == 0, done.stdout
    results = Results(tmp_path / "results")
    executed = results.executed(name).read_text(encoding="utf-8")
    assert f"GPUs: {torch.cuda.device_count()};" in executed
    records = results.claims(smoke=True)
    gpu_name = torch.cuda.get_device_name(0)
    assert gpu_name in {record["device"] for record in records}
    elsewhere = {record["id"] for record in records if record["device"] != gpu_name}
    assert elsewhere <= ELSEWHERE
