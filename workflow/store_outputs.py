"""Stores the compared outputs in the committed notebooks: `make notebooks`.

    python -m workflow.store_outputs

Brings every executed notebook up to date at its full parameters, then writes it back to
``notebooks/`` with outputs in the compared cells only. A notebook whose content stays the same is
not touched.
"""

from __future__ import annotations

import sys

import nbformat
from nbformat import NotebookNode

from addlib.files import write_whole
from workflow import run_graph
from workflow.chapters import Results, WorkflowError, chapters, shown
from workflow.notebook_cells import COMPARED, has_tag, own_cells


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
    try:
        if status := run_graph.run("chapters"):
            print(
                "\n".join(["", *run_graph.problems(), "No notebook was changed."]), file=sys.stderr
            )
            return status
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = Results.default()
    for chapter in chapters().values():
        text = (
            nbformat.writes(
                committed_form(nbformat.read(results.executed(chapter.name), as_version=4))
            )
            + "\n"
        )
        changed = text != chapter.notebook.read_text(encoding="utf-8")
        if changed:
            write_whole(chapter.notebook, text.encode())
        print(f"{shown(chapter.notebook)}: {'changed' if changed else 'as before'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
