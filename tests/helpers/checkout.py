"""A copy of this checkout, for what would change it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from workflow.chapters import ROOT


def copy_checkout(folder: Path) -> None:
    """Copy the files that git has, and new ones that it doesn't ignore."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
