"""A notebook's cells: their tags, where a run stopped, what they show, and writing them back."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.reader import NotJSONError

from addlib.files import write_whole
from workflow.chapters import WorkflowError, shown

COMPARED = "nbval-check-output"
"""Tag of the cells whose stored output the regression check compares."""

PLOTLY = "application/vnd.plotly.v1+json"
"""The MIME type of a plotly figure."""

ADDED_BY_PAPERMILL = {"injected-parameters", "papermill-error-cell-tag"}


def read_committed(path: Path) -> NotebookNode:
    """A committed notebook.

    Raises:
        WorkflowError: it isn't there, or is no notebook; a merge may have left its marks in it.
    """
    if not path.is_file():
        raise WorkflowError(f"there is no {shown(path)}")
    try:
        return nbformat.read(path, as_version=4)
    except (NotJSONError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise WorkflowError(
            f"{shown(path)} is no notebook ({reason}…): look for the marks of a merge in it"
        ) from error


def has_tag(cell: NotebookNode, *tags: str) -> bool:
    """Whether a cell carries one of the tags."""
    return not set(tags).isdisjoint(cell.metadata.get("tags", []))


def own_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells of the committed notebook, without those that papermill added."""
    return [cell for cell in notebook.cells if not has_tag(cell, *ADDED_BY_PAPERMILL)]


def last_started(notebook: NotebookNode) -> tuple[int, NotebookNode] | None:
    """Where a run stopped: the cell's number in the committed notebook, from 1, and the cell.

    None where no cell was started.
    """
    cells = own_cells(notebook)
    started = [
        i for i, cell in enumerate(cells) if cell.metadata.get("papermill", {}).get("start_time")
    ]
    return (started[-1] + 1, cells[started[-1]]) if started else None


def first_line(source: str) -> str:
    """The first line that is neither empty nor a comment."""
    lines = (line.strip() for line in source.splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")


def trace_kinds(notebook: NotebookNode) -> set[str]:
    """The kinds of trace in the notebook's figures: ``scatter``, ``heatmap``, ..."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output.data[PLOTLY] for output in outputs if PLOTLY in output.get("data", {})]
    return {trace.get("type", "scatter") for figure in figures for trace in figure["data"]}


def write_changed(path: Path, notebook: NotebookNode) -> bool:
    """Write a notebook over its file where its content differs; whether it did.

    The order of keys and the spaces of a file that an editor has written are no content.
    """
    if read_committed(path) == notebook:
        return False
    write_whole(path, (nbformat.writes(notebook) + "\n").encode())
    return True


def write_back(path: Path, notebook: NotebookNode) -> bool:
    """The same, and the file's time stays.

    For changes on which no result depends: the graph then runs no chapter again.
    """
    times = path.stat()
    if not write_changed(path, notebook):
        return False
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return True
