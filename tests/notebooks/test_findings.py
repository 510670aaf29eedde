"""The findings: each notebook executed anew, its compared outputs held against the stored ones.

`make test` runs the chapters that say so at the size that chapters.yml gives for it, `check`.
`make test-full` runs every chapter at its full size, and those with a smaller one at that, too.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from runs import FULL, nbval
from workflow.chapters import chapters

CHAPTERS = chapters()

AT_CHECK_SIZE = [name for name, chapter in CHAPTERS.items() if chapter.nbval == "test"]

AT_FULL_SIZE = [
    name for name, chapter in CHAPTERS.items() if chapter.check or chapter.nbval == "full"
]


@pytest.mark.depends_on("notebooks/{name}.ipynb")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", AT_CHECK_SIZE)
def test_stored_outputs_are_what_a_new_run_gives(name: str, tmp_path: Path) -> None:
    done = nbval(CHAPTERS[name], tmp_path, CHAPTERS[name].check)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not FULL, reason="in `make test-full`")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", AT_FULL_SIZE)
def test_stored_outputs_are_what_a_new_run_of_full_size_gives(name: str, tmp_path: Path) -> None:
    done = nbval(CHAPTERS[name], tmp_path, {})
    assert done.returncode == 0, done.stdout
