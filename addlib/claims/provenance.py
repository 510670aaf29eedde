"""Where a number comes from: the code's revision and the versions of the libraries."""

from __future__ import annotations

import functools
import json
import subprocess
from importlib import metadata
from pathlib import Path

import addlib
from addlib.files import PACKAGE


def revision() -> str:
    """What git calls the code, ``-dirty`` where files changed.

    In an archive that git made it is what git wrote there, and elsewhere the package's version.

    Asked once in a process: code that changes later is not what runs.
    """
    return _revision_of(PACKAGE)


@functools.cache
def _revision_of(package: Path) -> str:
    git = ["git", "-C", str(package)]
    try:
        # a package installed inside somebody else's repository must not borrow that one's revision
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", "files.py"], check=True, capture_output=True
        )
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty"], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return _archived(package) or f"addlib {addlib.__version__}"
    return described.stdout.strip()


def _archived(package: Path) -> str | None:
    """The revision that ``git archive`` wrote into ``archive.json``; None in a checkout."""
    file = package / "archive.json"
    if not file.is_file():
        return None
    written = json.loads(file.read_text(encoding="utf-8"))["revision"]
    return None if written.startswith("$") else written


def versions() -> dict[str, str]:
    """Versions of the libraries that numbers may depend on."""
    return {name: metadata.version(name) for name in ("torch", "transformer_lens", "numpy")}
