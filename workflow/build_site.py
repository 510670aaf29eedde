"""Builds the site with Jupyter Book; it appears at its place whole or not at all.

python -m workflow.build_site             _build/stage -> _build/html; a warning is an error
python -m workflow.build_site --tolerant  of a book with incomplete chapters: warnings pass
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from workflow.chapters import ROOT, WorkflowError, shown
from workflow.site import COMPLETE, SHOWN, SITE
from workflow.stage_site import STAGE
from workflow.times import timed

SOURCES = (".md", ".ipynb")

COMPLAINT = re.compile(r"\b(WARNING|ERROR|CRITICAL|SEVERE|[A-Z]\w*Error)\b")

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def build(stage: Path, site: Path, tolerant: bool = False, early: bool = False) -> int:
    """Build the staged book and swap it in for the old site; the number of its pages.

    One build at a time: another one of the same site waits for its end. What a killed one left is
    removed.

    Args:
        stage: what `stage_site` filled. site: where the site appears.
        tolerant: warnings pass, and the site doesn't count as complete.
        early: a complete site that has appeared meanwhile stays; the number is then 0.

    Raises:
        WorkflowError: Jupyter Book reported an error or, unless tolerant, a warning. The old site
            stays.
    """
    site.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{site.name}-"
    with FileLock(site.with_name(f".{site.name}.lock")):
        if early and (site / COMPLETE).is_file():
            return 0
        for leftover in site.parent.glob(f"{prefix}*"):
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=site.parent) as folder:
            built = _built(stage, Path(folder), tolerant)
            shutil.copy(stage / SHOWN, built / f".{SHOWN}")
            if not tolerant:  # an incomplete book is built again
                (built / COMPLETE).touch()
            if site.exists():
                site.rename(Path(folder) / "old")
            built.rename(site)
    pages = (path.relative_to(site) for path in site.rglob("*.html"))
    return sum(
        any((stage / page).with_suffix(kind).is_file() for kind in SOURCES) for page in pages
    )


def _built(stage: Path, folder: Path, tolerant: bool) -> Path:
    """Let Jupyter Book build below this folder; where it put the pages."""
    jupyter_book = str(Path(sys.executable).with_name("jupyter-book"))
    command = [jupyter_book, "build", str(stage), "--path-output", str(folder), "--keep-going"]
    if not tolerant:
        command += ["-W", "-n"]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # where our own extension is
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    built = folder / "_build" / "html"
    if done.returncode or not (built / "index.html").is_file():
        lines = ANSI.sub("", done.stdout).splitlines()
        complaints = [line for line in lines if COMPLAINT.search(line)]
        raise WorkflowError("\n".join(["the site was not built:", *(complaints or lines[-20:])]))
    return built


def main() -> int:
    """Command line; the exit status is 1 where the site was not built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--stage", type=Path, default=STAGE, help="what stage_site filled (default: _build/stage)"
    )
    parser.add_argument(
        "--site", type=Path, default=SITE, help="where the site appears (default: _build/html)"
    )
    parser.add_argument("--tolerant", action="store_true", help="build in spite of warnings")
    parser.add_argument("--stamp", type=Path, help="JSON file to write: how long it took")
    options = parser.parse_args()
    try:
        with timed(options.stamp):
            pages = build(options.stage.resolve(), options.site.resolve(), options.tolerant)
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("The site was not built: stopped.", file=sys.stderr)
        return 1
    print(f"Site: {shown(options.site.resolve() / 'index.html')} ({pages} pages)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
