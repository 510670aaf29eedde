"""The ledger of claims: a threshold fixed before the run, a measured value, and the verdict that
follows from both.

A notebook declares each claim and hands it the measured value; every claim becomes one file under
``claims/``. ``python -m addlib.claims.ledger collect`` checks the files, gathers them into ``claims.json``
and prints the score.
"""

from __future__ import annotations

import subprocess
from importlib import metadata
from typing import TYPE_CHECKING

from addlib.files import PACKAGE

if TYPE_CHECKING:
    pass


def revision() -> str:
    """The code's revision: what git calls it, ``-dirty`` where files changed; outside git the
    version.
    """
    git = ["git", "-C", str(PACKAGE)]
    try:
        # a package installed inside somebody else's repository must not borrow that one's revision
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", "files.py"], check=True, capture_output=True
        )
        found = subprocess.run(
            [*git, "describe", "--always", "--dirty"], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return f"addlib {_version('addlib')}"
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of the libraries that numbers may depend on."""
    return {name: _version(name) for name in ("torch", "transformer_lens", "numpy")}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
