"""Chapters that carry the package with them, and the package itself, for the site's readers.

Such a copy of a chapter runs where nothing is installed: its first cell has the package's wheel in
it, as text, and installs that where `addlib` is missing. Its parameters are form fields in Colab.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import lzma
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from addlib.files import PACKAGE
from workflow.chapters import WorkflowError, chapters
from workflow.notebook_cells import has_tag, read_committed
from workflow.stamp_address import setup_options

FOLDER = Path("book") / "_generated" / "carried"
"""Where the files lie in a staged book."""

LIST = Path("book") / "_generated" / "carried.md"
"""The list of links to them, for the page that offers them."""

PAGE = Path("book") / "own_model.md"
"""The page that offers them: a book without it has none."""

OF_THE_WORKFLOW = ("first_page.json", "records", "rounding.json")
"""Files of the package that only the workflow reads: no chapter needs them."""

MOST_BYTES = 500_000
"""A carried chapter is not larger."""

PACKED = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "pb": 0}]
"""How the wheel is compressed: as text, whose bytes are not aligned; any reader takes it."""

INSTALL = '''\
# The book's package, carried along: it is installed here if this machine lacks it.
import base64
import lzma
import subprocess
import sys
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

wheel = """
{text}
"""
if find_spec("addlib") is None:
    # These stay as the machine has them: they may be loaded already, or made for its GPU.
    keep = [
        f"{{name}}=={{metadata.version(name)}}"
        for name in ("torch", "numpy")
        if find_spec(name)
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "{name}"
        file.write_bytes(lzma.decompress(base64.b64decode(wheel)))
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        done = subprocess.run([*pip, str(file), *keep])
    if done.returncode:
        raise SystemExit(
            "pip could not install the package (see above). It needs the network: on Kaggle, "
            "switch Internet on in the notebook's settings. Then run this cell again."
        )
from addlib.notebook import setup

setup({options})'''
"""The first cell of a carried chapter."""


def build_wheel(folder: Path) -> Path:
    """Build the package's wheel into a folder, from a copy: a build leaves folders beside.

    Raises:
        WorkflowError: it was not built; the message has pip's last line.
    """
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary)
        without = shutil.ignore_patterns("__pycache__", *OF_THE_WORKFLOW)
        for name in ("addlib", "book"):
            shutil.copytree(PACKAGE.parent / name, source / name, ignore=without)
        for name in ("pyproject.toml", "LICENSE"):
            shutil.copy(PACKAGE.parent / name, source / name)
        (source / "README.md").touch()  # named by pyproject.toml; in a notebook nobody reads it
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    built = list(folder.glob("addlib-*.whl"))
    if done.returncode or len(built) != 1:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise WorkflowError(f"the package's wheel was not built: {lines[-1]}")
    return built[0]


def carried(notebook: NotebookNode, wheel: Path) -> NotebookNode:
    """A chapter with the wheel in its first cell of code, form fields, and no outputs."""
    text = wheel_text(wheel)
    for cell in notebook.cells:
        if has_tag(cell, "setup"):
            cell.source = INSTALL.format(text=text, name=wheel.name, options=setup_options())
            cell.metadata["cellView"] = "form"
        elif has_tag(cell, "parameters"):
            cell.source = form_fields(cell.source)
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
    return notebook


def wheel_text(wheel: Path) -> str:
    """The wheel as text: not compressed in itself but as a whole, which is a third smaller."""
    stored = io.BytesIO()
    with zipfile.ZipFile(wheel) as packed, zipfile.ZipFile(stored, "w") as plain:
        for file in packed.infolist():
            plain.writestr(zipfile.ZipInfo(file.filename, file.date_time), packed.read(file))
    text = base64.b64encode(lzma.compress(stored.getvalue(), filters=PACKED)).decode()
    return "\n".join(text[i : i + 2000] for i in range(0, len(text), 2000))


def form_fields(source: str) -> str:
    """A parameters cell as Colab's form: a field for each value, with its comment above.

    Values stay the same, so the cell means the same elsewhere.
    """
    lines = ["# @title Parameters"]
    for line in source.splitlines():
        code, _, comment = line.partition("  # ")
        statement = ast.parse(code).body[0]
        assert isinstance(statement, ast.Assign), f"{line}: a parameter is a plain literal"
        target = statement.targets[0]
        assert isinstance(target, ast.Name)
        value = ast.literal_eval(statement.value)
        lines.append(f"# @markdown `{target.id}`: {comment}")
        literal = json.dumps(value) if isinstance(value, str) else repr(value)
        lines.append(f"{target.id} = {literal}")
        if kind := FIELDS.get(type(value)):
            lines[-1] += f'  # @param {{type: "{kind}"}}'
    return "\n".join(lines)


FIELDS: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
"""Colab's kinds of form fields."""


def write(target: Path) -> None:
    """Write the wheel and all carried chapters into a staged book, and the list of links to them.

    Raises:
        WorkflowError: the wheel was not built, or a carried chapter is too large.
    """
    if not (target / PAGE).is_file():
        return
    folder = target / FOLDER
    folder.mkdir(parents=True)
    wheel = build_wheel(folder)
    lines = []
    for chapter in chapters().values():
        path = folder / f"{chapter.name}.ipynb"
        nbformat.write(carried(read_committed(chapter.notebook), wheel), path)
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise WorkflowError(f"{path.name} with its package has {size:,} bytes: too large")
        link = f"{{download}}`{chapter.heading} <{FOLDER.parent.name}/{FOLDER.name}/{path.name}>`"
        lines.append(f"- {link}, {size / 1000:.0f} kB")
    link = f"{{download}}`the package alone <{FOLDER.parent.name}/{FOLDER.name}/{wheel.name}>`"
    lines.append(f"- {link}, {wheel.stat().st_size / 1000:.0f} kB: `pip install {wheel.name}`")
    (target / LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")
