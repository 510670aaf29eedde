"""Runs of the workflow's scripts that several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from workflow.chapters import ROOT, Chapter
from workflow.notebook_cells import has_tag, read_committed
from workflow.parameters import check_parameters

FULL = os.environ.get("ADDLIB_TEST") == "full"
"""Whether this is `make test-full`."""

NEVER_STARTED = "Kernel died before replying to kernel_info"
"""What nbval prints where another program took a port that it had just found free."""

OFFLINE = Path(__file__).parent / "offline"


def run_script(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python script or module in the repository's root, with what it prints in one text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JUPYTER_PREFER_ENV_PATH": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def offline() -> dict[str, str]:
    """Environment of a process without a network, for its kernels too (offline/sitecustomize.py)."""
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
    }


def nbval(
    chapter: Chapter, folder: Path, parameters: Mapping[str, Any], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the committed notebook anew and compare the outputs of its compared cells.

    Args:
        folder: an empty one, for the notebook that runs and for what it leaves.
        parameters: values in place of the notebook's own. The outputs must be the same.
    """
    check_parameters(chapter, parameters)
    notebook = read_committed(chapter.notebook)
    declared = next(cell for cell in notebook.cells if has_tag(cell, "parameters"))
    declared.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    copy = folder / chapter.notebook.name
    nbformat.write(notebook, copy)
    environment.setdefault("ADDLIB_CACHE", os.environ.get("ADDLIB_CACHE", str(ROOT / "weights")))
    environment["ADDLIB_RESULTS"] = str(folder / "results")
    arguments = [
        *("-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=3600", "--timeout=0"),
        *("-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", copy),
    ]
    done = run_script(*arguments, **environment)
    if NEVER_STARTED in done.stdout:  # no cell has run
        done = run_script(*arguments, **environment)
    return done
