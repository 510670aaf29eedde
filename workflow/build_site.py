"""Builds the site with Jupyter Book; it appears at its place whole or not at all.

python -m workflow.build_site             _build/stage -> _build/html; a warning is an error
python -m workflow.build_site --tolerant  of a book with incomplete chapters: warnings pass
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from workflow.chapters import ROOT, WorkflowError, shown
from workflow.stage_site import STAGE

SITE = ROOT / "_build" / "html"

SOURCES = (".md", ".ipynb")

COMPLAINT = re.compile(r"\b(WARNING|ERROR|CRITICAL|SEVERE|[A-Z]\w*Error)\b")

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def build(stage: Path, site: Path, tolerant: bool = False) -> int:
    """Build the staged book and swap it in for the old site; the number of its pages.

    Raises:
        WorkflowError: Jupyter Book reported an error or, unless tolerant, a warning. The old site
            stays.
    """
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=site.parent) as folder:
        jupyter_book = str(Path(sys.executable).with_name("jupyter-book"))
        command = [jupyter_book, "build", str(stage), "--path-output", folder, "--keep-going"]
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
        built = Path(folder) / "_build" / "html"
        if done.returncode or not (built / "index.html").is_file():
            lines = ANSI.sub("", done.stdout).splitlines()
            complaints = [line for line in lines if COMPLAINT.search(line)]
            raise WorkflowError(
                "\n".join(["the site was not built:", *(complaints or lines[-20:])])
            )
        if not tolerant:  # the graph's last output: an incomplete book is built again
            (built / ".complete").touch()
        old = Path(folder) / "old"
        if site.exists():
            site.rename(old)
        built.rename(site)
    pages = (path.relative_to(site) for path in site.rglob("*.html"))
    return sum(
        any((stage / page).with_suffix(kind).is_file() for kind in SOURCES) for page in pages
    )


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
    options = parser.parse_args()
    try:
        pages = build(options.stage.resolve(), options.site.resolve(), options.tolerant)
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Site: {shown(options.site.resolve() / 'index.html')} ({pages} pages)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
