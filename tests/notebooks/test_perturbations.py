"""The findings notice what is wrong: each notebook executed anew with one real thing changed.

At the size at which `make test` compares it: a smaller run must still have the power to see it.
"""

from __future__ import annotations

import os
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from perturbations.wrong import FAULTS
from runs import FULL, nbval
from workflow.chapters import ROOT, chapters

WRONG = Path(__file__).parent / "perturbations"

QUICK = ("01_setup", "05_attention_staircases", "09_exact_addition")
"""Chapters that are made wrong in every test run; the others by `make test-full`."""


def test_every_chapter_is_made_wrong_once() -> None:
    assert list(FAULTS) == list(chapters())


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_made_wrong_is_there(name: str) -> None:
    fault = FAULTS[name]
    assert attrgetter(fault.name)(import_module(fault.module))


@pytest.mark.depends_on("notebooks/{name}.ipynb", "tests/notebooks/perturbations/sitecustomize.py")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [name for name in FAULTS if FULL or name in QUICK])
def test_what_is_wrong_is_seen(name: str, tmp_path: Path) -> None:
    """It changes outputs that are compared, and raises no error."""
    path = os.pathsep.join(map(str, (WRONG, ROOT)))
    chapter = chapters()[name]
    first = {"PYTEST_ADDOPTS": "--exitfirst"}  # one output that differs is enough
    done = nbval(chapter, tmp_path, chapter.check, PYTHONPATH=path, ADDLIB_WRONG=name, **first)
    assert done.returncode == 1, done.stdout
    assert "Cell outputs differ" in done.stdout, done.stdout
    assert "Cell execution caused an exception" not in done.stdout, done.stdout
