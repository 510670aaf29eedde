"""What several test files share: runs of all chapters with smoke parameters, and the site built from them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from chapters import ROOT, Results, chapters

SMOKE = ROOT / "_build" / "smoke"


class SmokeRuns(NamedTuple):
    """The runs of all chapters with smoke parameters: their files, and each chapter's finished process."""

    results: Results
    processes: Mapping[str, subprocess.CompletedProcess[str]]


def run_script(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python script or module in the repository's root, with what it prints in one text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JUPYTER_PREFER_ENV_PATH": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


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
    staged = run_script("workflow/stage.py", "--smoke", "--results", smoke_runs.results.folder, "--stage", stage)
    assert staged.returncode == 0, staged.stdout
    built = run_script("workflow/build.py", "--stage", stage, "--site", site)
    assert built.returncode == 0, built.stdout
    return site
