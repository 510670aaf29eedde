"""Stores the compared outputs in the committed notebooks: `make notebooks`.

    python -m workflow.store_outputs                 all chapters
    python -m workflow.store_outputs 02_training     one, or several: `make notebooks NAMES="..."`

Brings the executed notebooks up to date at their full parameters, then writes them back to
``notebooks/`` with outputs in the compared cells only. A notebook whose content stays the same is
not touched, nor is any other.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import nbformat
from nbformat import NotebookNode

from workflow import run_graph
from workflow.chapters import Chapter, Results, WorkflowError, chapters, shown
from workflow.notebook_cells import COMPARED, has_tag, own_cells, write_changed


def committed_form(executed: NotebookNode) -> NotebookNode:
    """An executed notebook as it is committed: outputs in compared cells only, no timings."""
    notebook = nbformat.v4.new_notebook(metadata=executed.metadata, cells=own_cells(executed))
    notebook.nbformat_minor = executed.nbformat_minor
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
        cell.outputs = cell.outputs if has_tag(cell, COMPARED) else []
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return notebook


def main() -> int:
    """Command line; the exit status is not 0 where a chapter did not run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="chapters (default: all)")
    names = parser.parse_args().names
    try:
        asked = _chapters(names)
        if status := run_graph.run(*(_target(chapter) for chapter in asked)):
            print(
                "\n".join(["", *run_graph.problems(asked), "No notebook was changed."]),
                file=sys.stderr,
            )
            return status
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for chapter in asked:
        executed = nbformat.read(Results.default().executed(chapter.name), as_version=4)
        is_changed = write_changed(chapter.notebook, committed_form(executed))
        print(f"{shown(chapter.notebook)}: {'changed' if is_changed else 'as before'}")
    return 0


def _chapters(names: Sequence[str]) -> list[Chapter]:
    """The chapters of these names, in the order of the book; all without a name.

    Raises:
        WorkflowError: there is no such chapter.
    """
    known = chapters()
    if unknown := [name for name in names if name not in known]:
        raise WorkflowError(f"no chapter {unknown[0]!r}; chapters: {', '.join(known)}")
    return [chapter for name, chapter in known.items() if not names or name in names]


def _target(chapter: Chapter) -> str:
    """What the graph makes when it runs the chapter."""
    return shown(Results.default().executed(chapter.name))


if __name__ == "__main__":
    raise SystemExit(main())
