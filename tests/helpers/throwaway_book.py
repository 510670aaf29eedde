"""A throw-away book: the workflow with tiny notebooks, for tests of what runs and what does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workflow.chapters import ROOT, Results

CLAIM_CELL = """
import json, os, pathlib
smoke = os.environ.get("ADDLIB_SMOKE") == "1"
folder = pathlib.Path(os.environ["ADDLIB_RESULTS"]) / "claims" / ("smoke" if smoke else "")
folder.mkdir(parents=True, exist_ok=True)
record = dict(id="01.steps", chapter="01_first", statement="It takes few steps.", source="this chapter",
              metric="steps", unit="count", threshold="<= 99", value=steps, ci=None,
              n_seeds=1, verdict="holds", device="cpu", revision="r", smoke=smoke,
              cell=len(In) - 1, kind="claim", status="exploratory", registered="", seen="",
              seed=None)
(folder / "01.steps.json").write_text(json.dumps(record))
"""
"""Source of a cell that measures a claim."""

COLLECT = """
import json, os, pathlib
folder = pathlib.Path(os.environ.get("ADDLIB_RESULTS", "results"))
folder.mkdir(exist_ok=True)
records = [json.loads(path.read_text()) for path in sorted((folder / "claims").glob("*.json"))]
(folder / "claims.json").write_text(json.dumps(records))
"""

WRITE_FILES = """
import pathlib, sys
for path in map(pathlib.Path, [{}]):
    path.parent.mkdir(exist_ok=True)
    path.write_text("{{}}")
"""

WRITE_NOTHING = "def write(*folders):\n    pass\n"

STAND_INS = {
    "addlib/claims/ledger.py": COLLECT,
    "addlib/training/runs.py": WRITE_FILES.format("sys.argv[-1]"),
    "workflow/live/page_data.py": WRITE_FILES.format(
        "sys.argv[-1] + '/model.onnx', sys.argv[-1] + '/page.json'"
    ),
    "workflow/live/scripts.py": WRITE_NOTHING,
    "workflow/shared_scripts.py": WRITE_NOTHING,
}
"""What takes long, or needs what a throw-away book lacks, and what stands in its place."""

CONFIG = """\
title: Book
only_build_toc_files: true
execute:
  execute_notebooks: "off"
"""

TOC = """\
format: jb-book
root: book/index
parts:
- caption: Reference
  chapters:
  - file: book/claims
- caption: Chapters
  chapters:
"""

ENTRY = """\
{name}:
  title: Is this {name}?
  part: Chapters
  run_time: 1 s
  smoke: {{steps: 1}}
"""


class Book:
    """A copy of the workflow and the package with tiny notebooks.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results = Results(root / "results")
        for folder in ("addlib", "workflow"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
        for name, source in STAND_INS.items():
            self.write(name, source)
        (root / "addlib" / "data" / "first_page.json").unlink(missing_ok=True)  # of other claims
        for folder in ("book", "notebooks"):
            (root / folder).mkdir()
        self.write("_config.yml", CONFIG)
        self.write("_toc.yml", TOC)
        self.write("requirements.txt", "")
        self.write("book/index.md", "# Book\n")
        self.write("book/claims.md", "# Claims\n")
        self.write("book/claims.yml", "{}\n")
        self.write("book/literature.yml", "sources: {}\nitems: []\n")
        self.write("workflow/chapters.yml", "")

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        with (self.root / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def chapter(self, name: str, *sources: str) -> None:
        """Add or replace a chapter: title, parameters, these cells, and one that notes the end."""
        mark = f"open({str(self.root / (name + '.runs'))!r}, 'a').write('x')"
        title = new_markdown_cell(f"# {name[:2]} · Is this {name}?\n\nText.")
        parameters = new_code_cell("steps = 10  # steps, 1 to 100")
        parameters.metadata["tags"] = ["parameters"]
        cells = [title, parameters, *(new_code_cell(source) for source in (*sources, mark))]
        for i, cell in enumerate(cells):
            cell.id = f"cell-{i}"
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
        notebook = new_notebook(cells=cells, metadata=metadata)
        path = self.root / "notebooks" / f"{name}.ipynb"
        if not path.is_file():
            self.append("workflow/chapters.yml", ENTRY.format(name=name))
            self.append("_toc.yml", f"  - file: notebooks/{name}\n")
        nbformat.write(notebook, path)

    def runs(self, name: str) -> int:
        """How often a chapter ran to its end."""
        path = self.root / f"{name}.runs"
        return len(path.read_text()) if path.is_file() else 0

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a Python script or module in the book's folder, in a process group of its own.

        Args:
            environment: variables beside those of this process that are not the book's.
        """
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith("ADDLIB_")
        }
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.root,
            env={**inherited, "ADDLIB_CACHE": str(self.root / "weights"), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **environment: str) -> SimpleNamespace:
        """The same, to its end: status, text and lines."""
        process = self.start(*command, **environment)
        text, _ = process.communicate()
        lines = text.strip().splitlines()
        return SimpleNamespace(status=process.returncode, text=text, lines=lines)

    def page(self, name: str) -> str:
        return (self.root / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")
