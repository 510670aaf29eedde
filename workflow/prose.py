"""Faults in a notebook's cells of prose, found before anything runs.

A field with a typing mistake in ``%%opening`` or ``%%summary`` would otherwise show at the end of a
run of minutes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from nbformat import NotebookNode

from addlib.claims.claim import declared
from addlib.notebook import MAGICS
from addlib.reading import ELSE, names_of, names_used
from workflow.chapters import Chapter, WorkflowError, shown
from workflow.notebook_cells import read_committed

MAGIC = re.compile(rf"%%({'|'.join(MAGICS)})\b[ \t]*(.*)\n?")


def check_prose(chapter: Chapter) -> None:
    """Refuse a notebook with a fault in a cell of prose.

    Raises:
        WorkflowError: naming the cell: a line or a field that can't be read, a name that no cell of
            the notebook makes, a claim that is not declared.
    """
    notebook = read_committed(chapter.notebook)
    made = _names_made(notebook)
    for cell in notebook.cells:
        start = MAGIC.match(cell.source) if cell.cell_type == "code" else None
        if not start:
            continue
        try:
            kind, line = start.groups()
            fault = next(_faults(chapter, kind, line, cell.source[start.end() :], made), None)
        except ValueError as error:
            fault = str(error)
        if fault:
            raise WorkflowError(
                f"{shown(chapter.notebook)}, cell {cell.get('id', '?')} ({start[0].strip()}): {fault}"
            )


def _faults(chapter: Chapter, kind: str, line: str, text: str, made: set[str]) -> Iterator[str]:
    """What is wrong with one cell.

    Raises:
        ValueError: a field or a condition that can't be read.
    """
    line, has_condition, condition = f" {line} ".partition(" if ")
    yield from _faults_of_line(chapter, kind, line.split(), text)
    for part in re.split("^Caption:", text, flags=re.MULTILINE):
        if len(ELSE.findall(part)) > (1 if has_condition else 0):
            yield "one %%else in a text, and only in a cell with a condition"
    used = names_used(text)
    if kind in ("figure", "opening") and line.strip():
        used |= names_of(line.split()[0])
    if has_condition:
        used |= names_of(condition.strip())
    if missing := sorted(used - made):
        yield f"no cell of the notebook makes {', '.join(missing)}"


def _faults_of_line(chapter: Chapter, kind: str, words: list[str], text: str) -> Iterator[str]:
    labels = [len(re.findall(f"^{label}:", text, re.MULTILINE)) for label in ("Caption", "Alt")]
    if kind == "prediction":
        own = {id for id, claim in declared().items() if claim.chapter == chapter.name}
        if not words:
            yield "it names no claim that tests it"
        for id in words:
            if id not in own:
                yield f"{id} is no claim of this chapter in book/claims.yml"
    elif kind == "figure" or (kind == "opening" and words):
        if len(words) != 3:
            yield "a figure needs three words: the figure, its number, its name"
        if labels != ([0, 1] if kind == "figure" else [1, 1]):
            yield "a figure needs one paragraph that begins with Alt: (in an opening, Caption: too)"
    elif words:
        yield f"{' '.join(words)} is no condition: a condition begins with if"


def _names_made(notebook: NotebookNode) -> set[str]:
    """The names that the notebook's cells of code bind at their top level or below it."""
    names: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type != "code" or MAGIC.match(cell.source):
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.alias):
                names.add((node.asname or node.name).partition(".")[0])
    return names
