"""The site built from smoke runs of the chapters, once for all workers of a test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs import run_script
from smoke import RESULTS, SMOKE, WEIGHTS, once, run_all
from workflow.chapters import chapters


@pytest.fixture(scope="session")
def smoke_site() -> Path:
    """Folder of the site built from the smoke runs, as strictly as the real one."""

    run_all()

    def make() -> Path:
        model = chapters()["06_head_ablation"].smoke
        size = [f"--{name}={model[name]}" for name in ("steps", "width")]
        exported = run_script(
            *("-m", "workflow.live.page_data", RESULTS.live, *size), ADDLIB_CACHE=str(WEIGHTS)
        )
        assert exported.returncode == 0, exported.stdout
        stage = SMOKE / "stage"
        site = SMOKE / "html"
        staged = run_script(
            *("-m", "workflow.stage_site", "--smoke"),
            *("--results", RESULTS.folder, "--stage", stage),
        )
        assert staged.returncode == 0, staged.stdout
        built = run_script("-m", "workflow.build_site", "--stage", stage, "--site", site)
        assert built.returncode == 0, built.stdout
        return site

    return once("site", make)
