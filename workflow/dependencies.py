"""What a chapter or a script depends on: the modules that it imports, and the data that they read.

    python -m workflow.dependencies                      the files of each chapter
    python -m workflow.dependencies workflow.stage_site  the files of a module

The code is read, not run. An import inside a function counts, one that only a type checker sees
does not. A data file counts where code names it: `"question_suites.json"`, or, in code that
imports `addlib.claims.stored`, the record's name: `stored.read("seeds")`. What a record says of
other seeds counts for the chapters whose claims it has, and for each module that asks for it.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml
from IPython.core.inputtransformer2 import TransformerManager

from addlib.claims.over_seeds import RECORDS
from workflow.chapters import ROOT, Chapter, chapters
from workflow.notebook_cells import read_committed

PACKAGES = ("addlib", "workflow")

DATA = ROOT / "addlib" / "data"

STORED = "addlib.claims.stored"
"""The module that reads records of long runs by their name."""

CLAIMS = ROOT / "book" / "claims.yml"


class Code(NamedTuple):
    """What some code names."""

    imports: frozenset[str]  # modules; some are names inside a module: addlib.device.choose_device
    texts: frozenset[str]  # string literals


def module_files(*names: str) -> list[str]:
    """Files of these modules and of all that they depend on, relative to the repository's root."""
    files = code_files(Code(frozenset(names), frozenset()))
    return sorted({*files, *_other_seeds(files)})


def chapter_files(chapter: Chapter) -> list[str]:
    """Files that a chapter's notebook depends on, relative to the repository's root."""
    if not chapter.notebook.is_file():
        return []
    files = code_files(notebook_code(chapter.notebook))
    return sorted({*files, *_other_seeds(files, chapter.name)})


def _other_seeds(files: Iterable[str], chapter: str | None = None) -> list[str]:
    """Records over seeds that code with these files may ask; of one chapter, those with its claims."""
    if STORED.replace(".", "/") + ".py" not in files:
        return []
    records = [DATA / f"{name}.json" for name in RECORDS]
    return [
        str(path.relative_to(ROOT))
        for path in records
        if path.is_file() and (chapter is None or chapter in _measured_chapters(path))
    ]


def _measured_chapters(record: Path) -> set[str]:
    claims = json.loads(record.read_text(encoding="utf-8"))["claims"]
    return {claim["chapter"] for claim in claims.values()}


def claims_digest(chapter: Chapter) -> str:
    """A hash of the claims that book/claims.yml declares for the chapter; empty without any."""
    if not CLAIMS.is_file():
        return ""
    declared = yaml.safe_load(CLAIMS.read_text(encoding="utf-8")) or {}
    claims = declared.get(chapter.name)
    return hashlib.sha256(json.dumps(claims, default=str).encode()).hexdigest() if claims else ""


def notebook_code(notebook: Path) -> Code:
    """What a notebook's code cells name; a cell that is no Python names nothing.

    Args:
        notebook: the file. The text below a cell magic is read too where it is Python.
    """
    cells = read_committed(notebook).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    sources += [source.partition("\n")[2] for source in sources if source.startswith("%%")]
    python = TransformerManager()
    parts = [_code(python.transform_cell(source), package="") for source in sources]
    return Code(
        frozenset().union(*(part.imports for part in parts)),
        frozenset().union(*(part.texts for part in parts)),
    )


def module_code(path: Path) -> Code:
    """What a Python file in the repository names."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return _code(path.read_text(encoding="utf-8"), package)


def code_files(start: Code) -> list[str]:
    """Files of the modules and data that code depends on, relative to the repository's root."""
    waiting = [start]
    modules: set[Path] = set()
    data: set[Path] = set()
    while waiting:
        code = waiting.pop()
        data |= _data_files(code)
        for path in _module_paths(code.imports) - modules:
            modules.add(path)
            waiting.append(module_code(path))
    return sorted(str(path.relative_to(ROOT)) for path in modules | data)


def _module_paths(names: Iterable[str]) -> set[Path]:
    """The files of our own modules among these names, with those of the packages around them."""
    paths = set()
    for name in names:
        folder = ROOT
        for part in name.split("."):
            if folder == ROOT and part not in PACKAGES:
                break
            module = folder / f"{part}.py"
            if module.is_file():
                paths.add(module)
            folder = folder / part
            if (folder / "__init__.py").is_file():
                paths.add(folder / "__init__.py")
    return paths


def _data_files(code: Code) -> set[Path]:
    named = {path for path in DATA.glob("*.json") if path.name in code.texts}
    if any(name == STORED or name.startswith(f"{STORED}.") for name in code.imports):
        named |= {path for path in DATA.glob("*.json") if path.stem in code.texts}
    return named


@functools.cache
def _code(source: str, package: str) -> Code:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # running it says what is wrong
        return Code(frozenset(), frozenset())
    reader = _Reader(package)
    reader.visit(tree)
    return Code(frozenset(reader.imports), frozenset(reader.texts))


class _Reader(ast.NodeVisitor):
    """Gathers what a syntax tree imports and its string literals."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.imports: set[str] = set()
        self.texts: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        """Leave out what only a type checker sees."""
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.imports.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Note the module and each name, which may be a module of its own."""
        module = node.module or ""
        if node.level:
            parts = self.package.split(".")
            around = parts[: len(parts) - node.level + 1]
            module = ".".join([*around, *filter(None, [module])])
        self.imports.add(module)
        self.imports.update(f"{module}.{alias.name}" for alias in node.names)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.texts.add(node.value)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help="modules instead of chapters")
    options = parser.parse_args()
    if options.modules:
        print("\n".join(module_files(*options.modules)))
        return
    for name, chapter in chapters().items():
        print("\n  ".join([name, *chapter_files(chapter)]))


if __name__ == "__main__":
    main()
