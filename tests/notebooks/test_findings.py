"""The findings: each notebook executed anew at full size, its outputs compared with the stored ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs import FULL, nbval
from workflow.chapters import chapters

CHAPTERS = chapters()

COMPARED_HERE = [name for name, chapter in CHAPTERS.items() if FULL or chapter.nbval == "test"]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMPARED_HERE)
def test_stored_outputs_are_what_a_new_run_gives(name: str, tmp_path: Path) -> None:
    done = nbval(CHAPTERS[name], tmp_path)
    assert done.returncode == 0, done.stdout
