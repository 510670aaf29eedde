"""Lays out what Jupyter Book builds from: pages, executed notebooks, claims, the site's scripts.

    python -m workflow.stage_site                                results/ -> _build/stage
    python -m workflow.stage_site --smoke --results R --stage S  of smoke runs
    python -m workflow.stage_site --tolerant                     with claims whose cell is missing

Executed notebooks lie at the path they have in the repository, so that launch and download buttons
point at a file that exists. A chapter that failed, was interrupted or never ran gets a page that
says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from addlib.claims import stored
from workflow import carried, shared_scripts
from workflow.chapter_list import set_run_time
from workflow.chapters import ROOT, Chapter, Results, WorkflowError, chapters, shown
from workflow.claims_page import MARK, Record, add_claim_targets, add_ledger
from workflow.device_page import device_text
from workflow.first_figure import CHAPTER as PICTURED
from workflow.first_figure import lattice_figure
from workflow.first_page import recorded
from workflow.literature_page import literature_tables
from workflow.live import scripts as live_scripts
from workflow.notebook_cells import has_tag, last_started, trace_kinds
from workflow.package_page import package_page
from workflow.rounding import rounding_table
from workflow.site import SHOWN
from workflow.stamp_address import site_config, stamp

STAGE = ROOT / "_build" / "stage"

ERROR_NOTE = "papermill-error-cell-tag"


NO_PACKAGE = (
    "```{note}\nThis page is made with the complete site, when all chapters have run.\n```\n"
)
"""The page on the package in an early site: to read the docstrings takes longer than all else."""


def stage(
    results: Results,
    target: Path,
    smoke: bool = False,
    tolerant: bool = False,
    early: bool = False,
) -> list[str]:
    """Fill the target folder anew; the names of the chapters that are not complete.

    Args:
        results: what the runs left. target: the folder.
        smoke: the runs are smoke runs.
        tolerant: a claim may lead to its chapter where the cell that measured it is not there.
        early: other chapters are still running: pages say so, and values that they will measure
            come from the record of an earlier run.

    Raises:
        WorkflowError: a claim without its cell, and not tolerant.
    """
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    (target / "_config.yml").write_text(
        site_config((ROOT / "_config.yml").read_text(encoding="utf-8")), encoding="utf-8"
    )
    shutil.copy(ROOT / "_toc.yml", target / "_toc.yml")
    shutil.copytree(ROOT / "book", target / "book")
    live_scripts.write(results.live, target)
    known = chapters()
    # an older run may have left claims of chapters that are no more
    found = _early_records(results) if early else results.claims(smoke)
    records = [record for record in found if record["chapter"] in known]
    (target / "notebooks").mkdir()
    astray = []
    shown_complete: list[str] = []
    incomplete: list[str] = []
    kinds: set[str] = set()
    generated = target / "book" / "_generated"
    generated.mkdir(exist_ok=True)
    for chapter in known.values():
        notebook, complete = chapter_page(chapter, results, early)
        if chapter.name == PICTURED:
            figure = lattice_figure(notebook)
            (generated / "lattice.md").write_text(figure, encoding="utf-8")
        own = [record for record in records if record["chapter"] == chapter.name]
        astray += add_claim_targets(notebook, own)
        nbformat.write(notebook, target / "notebooks" / chapter.notebook.name)
        kinds |= trace_kinds(notebook)
        (shown_complete if complete else incomplete).append(chapter.name)
    if astray and not tolerant:
        cells = (f"{record['id']} (cell {record['cell']})" for record in astray)
        raise WorkflowError(
            f"no executed notebook has the cell that measured {', '.join(cells)}: run "
            f"{', '.join(sorted({record['chapter'] for record in astray}))} again"
        )
    shared_scripts.write(target, kinds)
    package = NO_PACKAGE if early else package_page()
    (generated / "package.md").write_text(package, encoding="utf-8")
    (generated / "rounding.md").write_text(
        rounding_table(stored.read("rounding")), encoding="utf-8"
    )
    (generated / "literature.md").write_text(literature_tables(shown_complete), encoding="utf-8")
    (generated / "devices.md").write_text(device_text(records), encoding="utf-8")
    carried.write(target)
    add_ledger(target, records, {name: chapter.title for name, chapter in known.items()}, smoke)
    (target / SHOWN).write_text(json.dumps(shown_complete), encoding="utf-8")
    if early:
        for page in (target / "book" / "index.md", target / "book" / "claims.md"):
            text = _below_title(page.read_text(encoding="utf-8"), _early(shown_complete, records))
            page.write_text(text, encoding="utf-8")
    return incomplete


def _early_records(results: Results) -> list[Record]:
    """What executed chapters have measured, and for the others what an earlier run has."""
    measured = [
        record for record in results.measured() if results.executed(record["chapter"]).is_file()
    ]
    ids = {record["id"] for record in measured}
    return measured + [
        record
        for record in recorded()
        if record["id"] not in ids and not results.executed(record["chapter"]).is_file()
    ]


def _early(complete: list[str], records: list[Record]) -> str:
    """What stands on top of the first page and the claims while chapters are running."""
    numbers = ", ".join(name[:2] for name in complete)
    lines = [
        f"**This site is not complete yet.** Chapters that have run: {numbers or 'none'} "
        f"({len(complete)} of {len(chapters())}). `make book` goes on with the others and builds "
        "the site again as they finish."
    ]
    sources = {record["recorded"] for record in records if "recorded" in record}
    lines += [
        f"Values with {MARK}, and round marks instead of squares, are of an earlier run: {source}."
        for source in sources
    ]
    return "\n".join(["```{note}", *lines, "```"])


def chapter_page(
    chapter: Chapter, results: Results, early: bool = False
) -> tuple[NotebookNode, bool]:
    """The page of a chapter, and whether its last run went through.

    Args:
        early: a chapter that is not there and did not fail is running, or will.
    """
    partial = results.partial(chapter.name)
    executed = results.executed(chapter.name)
    if early and not executed.is_file() and not results.record(chapter.name).get("failure"):
        state = "is running" if results.is_running(chapter.name) else "waits for its turn"
        note = f"```{{note}}\nThis chapter {state}. Its page is here when it has run.\n```"
        title = f"# {chapter.heading} (not yet)"
        return new_notebook(cells=[new_markdown_cell(f"{title}\n\n{note}")]), False
    if partial.is_file():
        notebook = clean(nbformat.read(partial, as_version=4), chapter)
        _insert_below_title(notebook, _stopped(chapter, results))
        return notebook, False
    if executed.is_file():
        return clean(nbformat.read(executed, as_version=4), chapter), True
    record = results.record(chapter.name)
    if record.get("failure"):
        note = _failed(record["failure"])
    else:
        note = "```{warning}\nThis chapter has not been run yet. `make book` runs it.\n```"
    return new_notebook(cells=[new_markdown_cell(f"# {chapter.heading}\n\n{note}")]), False


def clean(notebook: NotebookNode, chapter: Chapter) -> NotebookNode:
    """The notebook without papermill's notes and progress bars, with address and run time of today."""
    stamp(notebook)
    set_run_time(notebook, chapter)
    notebook.cells = [cell for cell in notebook.cells if not has_tag(cell, ERROR_NOTE)]
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def _stopped(chapter: Chapter, results: Results) -> str:
    """What stands on top of a chapter whose last run did not go through."""
    record = results.record(chapter.name)
    if record.get("failure"):
        return _failed(record["failure"])
    started = last_started(nbformat.read(results.partial(chapter.name), as_version=4))
    place = f"in cell {started[0]}, below which nothing ran" if started else "before its first cell"
    return (
        f"```{{error}}\nThe last run of this chapter was cut off {place}. "
        "`make book` runs it again.\n```"
    )


def _failed(failure: Mapping[str, Any]) -> str:
    error = failure["error"].strip().splitlines()[0]
    if failure["cell"] is None:
        place = "before its first cell"
        lines = f"    {error}"
    else:
        place = f"in cell {failure['cell']}, below which nothing ran"
        lines = f"    {failure['source']}\n    {error}"
    return f"```{{error}}\nThe last run of this chapter failed {place}:\n\n{lines}\n```"


def _insert_below_title(notebook: NotebookNode, text: str) -> None:
    first = notebook.cells[0] if notebook.cells else None
    if first is not None and first.cell_type == "markdown" and first.source.startswith("# "):
        first.source = _below_title(first.source, text)
    else:
        notebook.cells.insert(0, new_markdown_cell(text))


def _below_title(page: str, text: str) -> str:
    title, _, rest = page.partition("\n")
    return f"{title}\n\n{text}\n{rest}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, help="folder with the runs (default: results)")
    parser.add_argument(
        "--stage", type=Path, default=STAGE, help="folder to fill (default: _build/stage)"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="the runs are smoke runs: say so on the claims page"
    )
    parser.add_argument(
        "--tolerant", action="store_true", help="stage claims whose cell is not there as well"
    )
    options = parser.parse_args()
    results = (
        Results(options.results.resolve()) if options.results else Results.default(options.smoke)
    )
    try:
        incomplete = stage(results, options.stage, options.smoke, options.tolerant)
    except WorkflowError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"Staged {len(chapters())} chapters in {shown(options.stage.resolve())}.")
    if incomplete:
        print(f"Not complete: {', '.join(incomplete)}.")


if __name__ == "__main__":
    main()
