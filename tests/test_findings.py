"""The findings: each committed notebook executed anew at full size, its outputs compared with the stored ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from chapters import ROOT, Chapter, chapters
from runs import run_script

CHAPTERS = chapters()

FULL = os.environ.get("ADDLIB_TEST") == "full"

COMPARED_HERE = [name for name, chapter in CHAPTERS.items() if FULL or chapter.nbval == "test"]


def nbval(chapter: Chapter, results: Path, cell_timeout: int = 3600, **environment: str) -> CompletedProcess[str]:
    """Run the committed notebook anew and compare the outputs of its compared cells."""
    environment.setdefault("ADDLIB_CACHE", os.environ.get("ADDLIB_CACHE", str(ROOT / "weights")))
    return run_script(
        *("-m", "pytest", "--nbval-lax", f"--nbval-cell-timeout={cell_timeout}", "--timeout=0"),
        *("-p", "no:cacheprovider", chapter.notebook),
        ADDLIB_RESULTS=str(results),
        **environment,
    )


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMPARED_HERE)
def test_stored_outputs_are_what_a_new_run_gives(name: str, tmp_path: Path) -> None:
    done = nbval(CHAPTERS[name], tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_wrong_carry_formula_is_seen(tmp_path: Path) -> None:
    """A copy of the package with one comparison changed, put before the real one, must fail the check."""
    shutil.copytree(ROOT / "addlib", tmp_path / "addlib")
    task = tmp_path / "addlib" / "task.py"
    formula = "pair_sum[:, i] + carry[:, i] >= self.base"
    source = task.read_text(encoding="utf-8")
    assert source.count(formula) == 1
    task.write_text(source.replace(formula, f"{formula} - 1"), encoding="utf-8")

    done = nbval(CHAPTERS["01_setup"], tmp_path / "results", cell_timeout=300, PYTHONPATH=str(tmp_path))

    assert done.returncode == 1, done.stdout
    assert "Cell outputs differ" in done.stdout or "mismatch" in done.stdout, done.stdout
