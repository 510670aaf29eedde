"""Runs of all chapters with smoke parameters, and the site built from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chapters import ROOT, Results, chapters
from runs import SmokeRuns, run_script

SMOKE = ROOT / "_build" / "smoke"


@pytest.fixture(scope="session")
def smoke_runs() -> SmokeRuns:
    """Every chapter executed once with its smoke parameters, with a weights folder of its own."""
    shutil.rmtree(SMOKE, ignore_errors=True)
    results = Results(SMOKE / "results")
    processes = {
        name: run_script(
            "workflow/execute.py", name, "--smoke", "--results", results.folder, ADDLIB_CACHE=str(SMOKE / "weights")
        )
        for name in chapters()
    }
    return SmokeRuns(results, processes)


@pytest.fixture(scope="session")
def smoke_site(smoke_runs: SmokeRuns) -> Path:
    """Folder of the site built from the smoke runs, as strictly as the real one."""
    stage, site = SMOKE / "stage", SMOKE / "html"
    model = chapters()["06_head_ablation"].smoke
    size = [f"--{name}={model[name]}" for name in ("steps", "width")]
    live = smoke_runs.results.live
    exported = run_script("-m", "addlib.live_page", live, *size, ADDLIB_CACHE=str(SMOKE / "weights"))
    assert exported.returncode == 0, exported.stdout
    staged = run_script("workflow/stage.py", "--smoke", "--results", smoke_runs.results.folder, "--stage", stage)
    assert staged.returncode == 0, staged.stdout
    built = run_script("workflow/build.py", "--stage", stage, "--site", site)
    assert built.returncode == 0, built.stdout
    return site
