"""Chapters with smoke parameters on a GPU: no cell mixes devices, or reads one as if it were the CPU.

Where there is none, the kernel has the stand-in of tests/pretend_gpu.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from runs import FULL, SmokeRuns, run_script
from workflow.chapters import ROOT, Results, chapters

PRETENDED = (ROOT / "tests" / "helpers" / "with_gpu", ROOT / "tests")

QUICK = ("03_loss_shelves", "07_where_and_when", "12_qwen_multiplication")
"""Chapters that run on a GPU in every test run; the others by `make test-full`."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", chapters() if FULL else QUICK)
def test_a_chapter_runs_on_a_gpu(name: str, gpu, smoke_runs: SmokeRuns, tmp_path: Path) -> None:
    """With weights of a run on the CPU; where there is time for it, it trains its own."""
    weights = tmp_path / "weights" if FULL else smoke_runs.weights
    path = [] if gpu is None else PRETENDED
    done = run_script(
        *("-m", "workflow.execute", name, "--smoke", "-p", "device", "cuda"),
        *("--results", tmp_path / "results"),
        ADDLIB_CACHE=str(weights),
        PYTHONPATH=os.pathsep.join(map(str, [*path, ROOT])),
    )
    assert done.returncode == 0, done.stdout
    results = Results(tmp_path / "results")
    devices = {claim["device"] for claim in results.claims(smoke=True)}
    assert torch.cuda.get_device_name(0) in devices
