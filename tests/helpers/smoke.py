"""Runs of all chapters with smoke parameters, made once for all workers of a test run."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import TypeVar

from filelock import FileLock, Timeout

from runs import offline, run_script
from unchanged import MAY_SKIP, digest_of, files_of
from workflow.chapters import ROOT, Results, chapters

SMOKE = ROOT / "_build" / "smoke"

RESULTS = Results(SMOKE / "results")

WEIGHTS = SMOKE / "weights"
"""What the chapters trained."""

OFFLINE = "tests/helpers/offline/*"

SITE_FILES = (
    "notebooks/*.ipynb",
    "book/**/*",
    "addlib/**/*.py",  # all of the package is on a page
    "workflow/chapters.yml",
    "workflow/sphinx_scripts.py",
    "workflow/pdf_page.js",
    "_config.yml",
    "_toc.yml",
    OFFLINE,
)
"""What the site of smoke runs is made of, beside the modules that make it."""

TESTS = ROOT / "tests" / "notebooks" / "test_smoke.py"

THIS_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))

T = TypeVar("T")


def once(name: str, make: Callable[[], T], wait: bool = True) -> T | None:
    """What ``make`` returns, made by the first worker that asks; the others wait for it.

    Args:
        wait: with False, None for a worker that asks while another one makes it.
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


def run_smoke(name: str, wait: bool = True) -> CompletedProcess[str] | None:
    """A chapter executed without a network or trained weights; see `once`.

    Where nothing that the chapter depends on has changed since it ran here, that run is taken,
    unless this is a test run that skips nothing.
    """

    def make() -> CompletedProcess[str]:
        once("clear", _clear)
        digest = digest_of(files_of(TESTS, [f"notebooks/{name}.ipynb", OFFLINE]))
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


def run_all() -> None:
    """Run all chapters, first those that no other worker is running."""
    for wait in (False, True):
        for name in chapters():
            run_smoke(name, wait)


def _clear() -> None:
    """Remove what could hide a fault.

    That is trained weights always, and every result where nothing is skipped or a chapter that ran
    here is no more.
    """
    gone = {path.stem for path in SMOKE.glob("*.pickle")} - set(chapters())
    shutil.rmtree(WEIGHTS if MAY_SKIP and not gone else SMOKE, ignore_errors=True)
    SMOKE.mkdir(parents=True, exist_ok=True)
