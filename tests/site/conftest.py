"""Smoke runs of the chapters, and the site built from them, once for all workers of a test run."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import TypeVar

import pytest
from filelock import FileLock, Timeout

from runs import SmokeRuns, offline, run_script
from unchanged import MAY_SKIP, digest_of, files_of
from workflow.chapters import ROOT, Results, chapters

SMOKE = ROOT / "_build" / "smoke"

RESULTS = Results(SMOKE / "results")

WEIGHTS = SMOKE / "weights"

THIS_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))

SMOKE_TESTS = Path(__file__).with_name("test_smoke.py")

T = TypeVar("T")


def once(name: str, make: Callable[[], T], wait: bool = True) -> T | None:
    """What ``make`` returns, made by the first worker that asks; the others wait for it.

    None for one who does not want to wait while another worker makes it.
    """
    kept = SMOKE.with_name(f"smoke-{name}-{THIS_RUN}.pickle")
    kept.parent.mkdir(exist_ok=True)
    try:
        with FileLock(SMOKE.with_name(f"smoke-{name}.lock"), timeout=-1 if wait else 0):
            if kept.is_file():
                return pickle.loads(kept.read_bytes())
            for path in SMOKE.parent.glob(f"smoke-{name}-*.pickle"):  # of earlier runs
                path.unlink()
            made = make()
            kept.write_bytes(pickle.dumps(made))
            return made
    except Timeout:
        return None


def clear() -> None:
    """Remove what could hide a fault: trained weights, and every result where nothing is skipped."""
    shutil.rmtree(WEIGHTS if MAY_SKIP else SMOKE, ignore_errors=True)
    SMOKE.mkdir(parents=True, exist_ok=True)


def run_smoke(name: str, wait: bool = True) -> CompletedProcess[str] | None:
    """A chapter executed with smoke parameters; the last run where nothing has changed since."""

    def make() -> CompletedProcess[str]:
        once("clear", clear)
        digest = digest_of(files_of(SMOKE_TESTS, [f"notebooks/{name}.ipynb"]))
        kept = SMOKE / f"{name}.pickle"
        if kept.is_file() and RESULTS.executed(name).is_file():
            of_digest, done = pickle.loads(kept.read_bytes())
            if of_digest == digest and done.returncode == 0:
                return done
        done = run_script(
            *("-m", "workflow.execute", name, "--smoke", "--results", RESULTS.folder),
            **offline(),
            ADDLIB_CACHE=str(WEIGHTS),
        )
        kept.write_bytes(pickle.dumps((digest, done)))
        return done

    return once(f"run-{name}", make, wait)


@pytest.fixture(scope="session")
def smoke_runs() -> SmokeRuns:
    """Every chapter executed with smoke parameters, without a network or trained weights."""
    for name in chapters():
        run_smoke(name, wait=False)
    return SmokeRuns(RESULTS, WEIGHTS, {name: run_smoke(name) for name in chapters()})


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
