"""Keeps all that lists the chapters in step with chapters.yml.

    python -m workflow.chapter_list    writes README's table, the run time into each notebook, and
                                       the speed of recorded devices into benchmarks/README.md

Titles, the notebooks folder and _toc.yml are people's work: they are checked, not written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from nbformat import NotebookNode

from addlib.files import write_whole
from workflow.chapters import (
    CHAPTERS,
    ROOT,
    Chapter,
    WorkflowError,
    chapters,
    recorded_seconds,
    shown,
)
from workflow.device_page import speed_text
from workflow.notebook_cells import read_committed, write_back

TOC = ROOT / "_toc.yml"

README = ROOT / "README.md"

TABLE = re.compile(r"(?s)(<!-- chapters: .*? -->\n).*?(<!-- end of chapters -->)")
"""The part of README that is written."""

SPEED = ROOT / "benchmarks" / "README.md"

DEVICES = re.compile(r"(?s)(<!-- devices: .*? -->\n).*?(<!-- end of devices -->)")
"""The part of SPEED that is written."""

RUN_TIME = re.compile(r"(?m)^\*\*Run time\*\*.*(\n.+)*")
"""The paragraph of a notebook that is written."""


def check() -> None:
    """Compare chapters.yml with the notebooks and with _toc.yml.

    Raises:
        WorkflowError: with a line for each fault: the file, the line, and what to do.
    """
    if faults := [*_entry_faults(), *_notebook_faults(), *_contents_faults()]:
        raise WorkflowError("\n".join(faults))


def _entry_faults() -> Iterator[str]:
    """Entries without a notebook, with another title, or with a number that is taken."""
    taken: dict[str, str] = {}
    for name, chapter in chapters().items():
        place = f"{shown(CHAPTERS)}:{_line(CHAPTERS, f'{name}:')}: {name}"
        if not re.fullmatch(r"\d\d_\w+", name):
            yield f"{place}: a name begins with two digits, like 01_setup: rename the chapter"
        if chapter.number in taken:
            yield f"{place}: {taken[chapter.number]} has this number: take another one"
        taken.setdefault(chapter.number, name)
        if not chapter.notebook.is_file():
            yield f"{place}: there is no {shown(chapter.notebook)}: write it or delete the entry"
        elif (heading := _heading(chapter)) != chapter.heading:
            yield f"{place}: the notebook begins with '{heading}': it must be '{chapter.heading}'"


def _notebook_faults() -> Iterator[str]:
    """Notebooks that the list does not have."""
    listed = chapters()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if path.stem not in listed:
            following = next((name for name in listed if name > path.stem), "end of the list")
            place = f"{shown(CHAPTERS)}:{_line(CHAPTERS, f'{following}:')}"
            yield f"{place}: no entry for {shown(path)}: add one here, or delete the notebook"


def _contents_faults() -> Iterator[str]:
    """Lines of _toc.yml that are missing, not a chapter's, in another part or in another order."""
    listed = {f"notebooks/{chapter.name}": chapter.part for chapter in chapters().values()}
    toc = yaml.safe_load(TOC.read_text(encoding="utf-8"))
    placed = {
        entry["file"]: part["caption"]
        for part in toc.get("parts", [])
        for entry in part["chapters"]
        if entry["file"].startswith("notebooks/")
    }
    for file in placed:
        if file not in listed:
            yield f"{_toc_place(file)} is no chapter of {shown(CHAPTERS)}: delete this line"
    for file, part in listed.items():
        if file not in placed:
            place = f"{shown(TOC)}:{_line(TOC, f'- caption: {part}')}"
            yield f"{place}: {file} is missing: add '- file: {file}' to the part '{part}'"
        elif placed[file] != part:
            yield f"{_toc_place(file)} belongs to the part '{part}': move it there"
    order = [file for file in placed if file in listed]
    wanted = [file for file in listed if file in placed]
    for file, right in zip(order, wanted, strict=True):
        if file != right:
            yield f"{_toc_place(file)} stands where {right} belongs: bring them into order"
            return


def _toc_place(file: str) -> str:
    return f"{shown(TOC)}:{_line(TOC, f'- file: {file}')}: {file}"


def _line(path: Path, text: str) -> int:
    """Number of the first line that begins with the text; of the last line where none does."""
    lines = path.read_text(encoding="utf-8").splitlines()
    numbers = (number for number, line in enumerate(lines, 1) if line.strip().startswith(text))
    return next(numbers, len(lines))


def _heading(chapter: Chapter) -> str:
    notebook = read_committed(chapter.notebook)
    first = notebook.cells[0].source if notebook.cells else ""
    return first.partition("\n")[0].removeprefix("# ")


def table() -> str:
    """The chapters as a Markdown table: name, question, run time, and that of recorded devices."""
    recorded = recorded_seconds()
    head = ["chapter", "question", "run time", *(f"on one {device}" for device in recorded)]
    rows = [head]
    for name, chapter in chapters().items():
        times = [_seconds(of.get(name)) for of in recorded.values()]
        link = f"[{name}](notebooks/{name}.ipynb)"
        rows.append([link, chapter.title, chapter.run_time, *times])
    first, *others = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([first, "|---" * len(head) + "|", *others, ""])


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} s"


def set_run_time(notebook: NotebookNode, chapter: Chapter) -> bool:
    """Write the chapter's run time into the notebook; whether it has one place for it."""
    line = f"**Run time** on two CPU cores: {chapter.run_time}."
    for device, seconds in recorded_seconds().items():
        if chapter.name in seconds:
            line += f"\nOn one {device}, with its trainings, beside all others: "
            line += f"{_seconds(seconds[chapter.name])}."
    places = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source, found = RUN_TIME.subn(lambda _: line, cell.source)
            places += found
    return places == 1


def _written(path: Path, place: re.Pattern[str], mark: str, text: str) -> str:
    """A file's text with this in its place."""
    before = path.read_text(encoding="utf-8")
    after, places = place.subn(lambda match: match[1] + text + match[2], before)
    if places != 1:
        raise WorkflowError(
            f"{shown(path)}: must have one line '<!-- {mark}: ... -->' and below it one line "
            f"'<!-- end of {mark} -->'"
        )
    return after


def write_all() -> list[str]:
    """Write what comes from lists and records; the names of the files that changed.

    Raises:
        WorkflowError: a file has no place for it.
    """
    texts = {
        README: _written(README, TABLE, "chapters", table()),
        SPEED: _written(SPEED, DEVICES, "devices", speed_text()),
    }
    notebooks = {}
    for chapter in chapters().values():
        notebook = read_committed(chapter.notebook)
        if not set_run_time(notebook, chapter):
            raise WorkflowError(
                f"{shown(chapter.notebook)}: one cell of text must have one paragraph that begins "
                "with '**Run time**'"
            )
        notebooks[chapter.notebook] = notebook
    changed = [path for path, notebook in notebooks.items() if write_back(path, notebook)]
    for path, text in texts.items():
        if text != path.read_text(encoding="utf-8"):
            write_whole(path, text.encode())
            changed.append(path)
    return [shown(path) for path in changed]


def main() -> int:
    """Command line; the exit status is 2 where a list is out of step."""
    try:
        check()
        changed = write_all()
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([f"Chapters: {len(changed)} files changed.", *changed]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
