"""Runs of all chapters with smoke parameters, and the site built from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chapters import ROOT, Results, chapters
from runs import SmokeRuns, offline, run_script

SMOKE = ROOT / "_build" / "smoke"


@pytest.fixture(scope="session")
def smoke_runs() -> SmokeRuns:
    """Every chapter executed once with its smoke parameters, with a weights folder of its own, without a network."""
    shutil.rmtree(SMOKE, ignore_errors=True)
    results = Results(SMOKE / "results")
    processes = {
        name: run_script(
            *("workflow/execute.py", name, "--smoke", "--results", results.folder),
            **offline(),
            ADDLIB_CACHE=str(SMOKE / "weights"),
        )
        for name in chapters()
    }
    return SmokeRuns(results, processes)


@pytest.fixture(scope="session")
def smoke_site(smoke_runs: SmokeRuns) -> Path:
    """Folder of the site built from the smoke runs, as strictly as the real one."""
    stage, site = SMOKE / "stage", SMOKE / "html"
    staged = run_script("workflow/stage.py", "--smoke", "--results", smoke_runs.results.folder, "--stage", stage)
    assert staged.returncode == 0, staged.stdout
    built = run_script("workflow/build.py", "--stage", stage, "--site", site)
    assert built.returncode == 0, built.stdout
    return site
