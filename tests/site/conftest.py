"""Smoke runs of all chapters, and the site built from them, once for all workers of a test run."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

from runs import SmokeRuns, offline, run_script
from workflow.chapters import ROOT, Results, chapters

SMOKE = ROOT / "_build" / "smoke"

THIS_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))

T = TypeVar("T")


def once(name: str, make: Callable[[], T]) -> T:
    """What ``make`` returns, made by the first worker that asks; the others wait for it."""
    kept = SMOKE.with_name(f"smoke-{name}-{THIS_RUN}.pickle")
    kept.parent.mkdir(exist_ok=True)
    with FileLock(SMOKE.with_name(f"smoke-{name}.lock")):
        if kept.is_file():
            return pickle.loads(kept.read_bytes())
        for path in SMOKE.parent.glob(f"smoke-{name}-*.pickle"):  # of earlier runs
            path.unlink()
        made = make()
        kept.write_bytes(pickle.dumps(made))
    return made


@pytest.fixture(scope="session")
def smoke_runs() -> SmokeRuns:
    """Every chapter executed with smoke parameters, without a network or trained weights."""

    def make() -> SmokeRuns:
        shutil.rmtree(SMOKE, ignore_errors=True)
        results = Results(SMOKE / "results")
        weights = SMOKE / "weights"
        processes = {
            name: run_script(
                *("-m", "workflow.execute", name, "--smoke", "--results", results.folder),
                **offline(),
                ADDLIB_CACHE=str(weights),
            )
            for name in chapters()
        }
        return SmokeRuns(results, weights, processes)

    return once("runs", make)


@pytest.fixture(scope="session")
def smoke_site(smoke_runs: SmokeRuns) -> Path:
    """Folder of the site built from the smoke runs, as strictly as the real one."""

    def make() -> Path:
        results = smoke_runs.results
        model = chapters()["06_head_ablation"].smoke
        size = [f"--{name}={model[name]}" for name in ("steps", "width")]
        exported = run_script(
            "-m",
            "workflow.live.page_data",
            results.live,
            *size,
            ADDLIB_CACHE=str(smoke_runs.weights),
        )
        assert exported.returncode == 0, exported.stdout
        stage = SMOKE / "stage"
        site = SMOKE / "html"
        staged = run_script(
            "-m", "workflow.stage_site", "--smoke", "--results", results.folder, "--stage", stage
        )
        assert staged.returncode == 0, staged.stdout
        built = run_script("-m", "workflow.build_site", "--stage", stage, "--site", site)
        assert built.returncode == 0, built.stdout
        return site

    return once("site", make)
