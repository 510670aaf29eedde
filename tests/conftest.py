"""The order of the tests, and the browser, the empty cache and the GPU that several files use.

Tests run on the CPU, also where there is a GPU: they say the same everywhere, and many at once don't
share one device. Those about the GPU use a stand-in. With ``ADDLIB_TEST_GPU=1`` they alone run, and
on a real one.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from playwright.sync_api import sync_playwright
from xdist.scheduler import LoadFileScheduling

from workflow.browser import find_browser
from workflow.carried import build_wheel

pytest_plugins = ["unchanged"]

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # a shell did so that runs us in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("no clock", deadline=None)  # a busy machine is no fault
settings.load_profile("no clock")

SEES_GPU = os.environ.get("ADDLIB_TEST_GPU") == "1"

if not SEES_GPU:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for other processes, too

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

SPREAD = (
    "test_findings.py",
    "test_perturbations.py",
    "test_smoke.py",
    "test_pages.py",
    "test_smoke_on_gpu.py",
    "test_interrupted.py",
    "test_execution.py",
    "test_unchanged.py",
)
"""Files whose tests share nothing that takes long, so that several workers take turns with them."""

LONGEST = (*SPREAD, "test_contributing.py", "test_gpu.py", "test_llm.py", "test_training.py")


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Begin with the longest files: several workers then end at about the same time."""
    if SEES_GPU:
        items[:] = [item for item in items if "gpu" in item.fixturenames]
    items.sort(key=lambda item: (*LONGEST, item.path.name).index(item.path.name))


class ByFile(LoadFileScheduling):
    """Gives a whole file to a worker, for its fixtures, or single tests where they share nothing."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if Path(file).name in SPREAD else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """How several workers share the tests."""
    return ByFile(config, log)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder of trained weights."""
    monkeypatch.setenv("ADDLIB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def gpu():
    """A GPU: the stand-in, or the machine's own where tests are to see it."""
    import torch

    from pretend_gpu import pretend_gpu

    if SEES_GPU:
        assert torch.cuda.is_available(), "ADDLIB_TEST_GPU=1, but torch can't use a GPU here"
        yield None
    else:
        with pretend_gpu() as pretended:
            yield pretended


@pytest.fixture
def counted(gpu):
    """The stand-in, for what it counts; a real GPU counts nothing."""
    if gpu is None:
        pytest.skip("a real GPU counts nothing")
    return gpu


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests; playwright runs no second one beside it."""
    program = find_browser()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The package's wheel."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))
