"""What several test files use and is made once: a browser, smoke runs of all chapters, the site built from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from browser import find_browser
from chapters import ROOT, Results, chapters
from runs import SmokeRuns, run_script

SMOKE = ROOT / "_build" / "smoke"

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the two long parts in a worker each, where there are several, and begin with them.

    One executes the notebooks at full size (and trains, on a fresh machine), the other lives on the smoke runs.
    """

    def part(item: pytest.Item) -> str:
        if item.get_closest_marker("full_size"):
            return "full size"
        smoke = "smoke_runs" in getattr(item, "fixturenames", ()) or item.path.parent.name == "site"
        return "smoke" if smoke else ""

    parts = {item: part(item) for item in items}
    for item, name in parts.items():
        if name:
            item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: ("full size", "smoke", "").index(parts[item]))


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests; playwright runs no second one beside it."""
    program = find_browser()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


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
