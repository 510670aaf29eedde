"""Lays out what Jupyter Book builds from: prose pages, executed notebooks, the claims page, the site's scripts.

    python workflow/stage.py                       results/ -> _build/stage
    python workflow/stage.py --smoke --results R --stage S

Executed notebooks lie at the path they have in the repository, so that launch and download buttons point at a file that
exists. A chapter that failed, was interrupted or never ran gets a page that says so.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

import site_scripts
from cells import has_tag, last_started
from chapters import ROOT, Chapter, Results, chapters, shown
from stamp import site_config, stamp

STAGE = ROOT / "_build" / "stage"

VERDICTS = {
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "inconclusive": ("is inconclusive", "are inconclusive"),
}
"""Each verdict with its singular and plural form."""

ERROR_NOTE = "papermill-error-cell-tag"


def stage(results: Results, target: Path, smoke: bool = False) -> list[str]:
    """Fill the target folder anew; the names of the chapters that are not complete."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    (target / "_config.yml").write_text(
        site_config((ROOT / "_config.yml").read_text(encoding="utf-8")), encoding="utf-8"
    )
    shutil.copy(ROOT / "_toc.yml", target / "_toc.yml")
    shutil.copytree(ROOT / "book", target / "book")
    site_scripts.write(target)
    records = [record for record in results.claims(smoke) if record["chapter"] in chapters()]  # some may be no more
    (target / "notebooks").mkdir()
    incomplete = []
    for chapter in chapters().values():
        notebook, complete = chapter_page(chapter, results)
        add_claim_targets(notebook, [record for record in records if record["chapter"] == chapter.name])
        nbformat.write(notebook, target / "notebooks" / chapter.notebook.name)
        if not complete:
            incomplete.append(chapter.name)
    add_ledger(target, records, smoke)
    return incomplete


def chapter_page(chapter: Chapter, results: Results) -> tuple[NotebookNode, bool]:
    """The page of a chapter, and whether its last run went through."""
    partial, executed = results.partial(chapter.name), results.executed(chapter.name)
    if partial.is_file():
        notebook = clean(nbformat.read(partial, as_version=4))
        _insert_below_title(notebook, _stopped(chapter, results))
        return notebook, False
    if executed.is_file():
        return clean(nbformat.read(executed, as_version=4)), True
    note = "```{warning}\nThis chapter has not been run yet. `make book` runs it.\n```"
    return new_notebook(cells=[new_markdown_cell(f"# {chapter.title}\n\n{note}")]), False


def clean(notebook: NotebookNode) -> NotebookNode:
    """The notebook without papermill's own notes and timings, without progress bars, and with the book's address."""
    stamp(notebook)
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
    failure = record.get("failure")
    if failure:
        return (
            f"```{{error}}\nThe last run of this chapter failed in cell {failure['cell']}, below which nothing ran:\n\n"
            f"    {failure['source']}\n    {failure['error'].strip().splitlines()[0]}\n```"
        )
    number, _ = last_started(nbformat.read(results.partial(chapter.name), as_version=4))
    return (
        f"```{{error}}\nThe last run of this chapter was interrupted in cell {number}, below which nothing ran. "
        "`make book` runs it again.\n```"
    )


def _insert_below_title(notebook: NotebookNode, text: str) -> None:
    first = notebook.cells[0] if notebook.cells else None
    if first is not None and first.cell_type == "markdown" and first.source.startswith("# "):
        title, _, rest = first.source.partition("\n")
        first.source = f"{title}\n\n{text}\n{rest}"
    else:
        notebook.cells.insert(0, new_markdown_cell(text))


def add_claim_targets(notebook: NotebookNode, records: list[dict[str, Any]]) -> None:
    """Put a link target in front of the cell that measures each claim: the first one with the claim's id in it."""
    for record in records:
        names = (f'"{record["id"]}"', f"'{record['id']}'")
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code" and any(name in cell.source for name in names):
                notebook.cells.insert(index, new_markdown_cell(f"({claim_target(record['id'])})="))
                record["target"] = claim_target(record["id"])
                break


def claim_target(claim: str) -> str:
    """Name of a claim's link target: ``claim-02-final-loss``."""
    return "claim-" + claim.replace(".", "-")


def add_ledger(target: Path, records: list[dict[str, Any]], smoke: bool) -> None:
    """Append the table of all claims to the claims page, and write the sentence that the first page includes."""
    sentence = target / "book" / "_generated" / "claims_sentence.md"
    sentence.parent.mkdir()
    sentence.write_text(f"[The claims](claims.md) so far: {score(records)}\n" if records else "", encoding="utf-8")
    page = target / "book" / "claims.md"
    text = page.read_text(encoding="utf-8").rstrip()
    page.write_text(f"{text}\n\n{ledger(records, smoke)}\n", encoding="utf-8")


def score(records: list[dict[str, Any]]) -> str:
    """How many claims there are, and how many of each verdict: ``9 measured; 8 hold, 1 fails, 0 are inconclusive.``"""
    counts = Counter(record["verdict"] for record in records)
    parts = [f"{counts[verdict]} {one if counts[verdict] == 1 else many}" for verdict, (one, many) in VERDICTS.items()]
    return f"{len(records)} measured; {', '.join(parts)}."


def ledger(records: list[dict[str, Any]], smoke: bool) -> str:
    """The claims as a Markdown table, with the score above it."""
    if not records:
        return "```{warning}\nNo claim has been measured yet. `make book` measures them.\n```"
    revisions = sorted({record["revision"] for record in records})
    devices = sorted({record["device"] for record in records})
    lines = [
        score(records),
        f"Measured on {', '.join(devices)}; revision {', '.join(revisions)}.",
        "",
        "| claim | statement | threshold | value | interval | seeds | verdict |",
        "|---|---|---|---|---|---|---|",
        *map(_row, sorted(records, key=lambda record: record["id"])),
    ]
    if smoke:
        note = "These values come from a smoke run: they check the mechanics and mean nothing."
        lines = [f"```{{warning}}\n{note}\n```", "", *lines]
    return "\n".join(lines)


def _row(record: dict[str, Any]) -> str:
    link = f"#{record['target']}" if "target" in record else f"../notebooks/{record['chapter']}.ipynb"
    interval = " to ".join(map(_number, record["ci"])) if record["ci"] else "–"
    fields = [
        f"[{record['id']}]({link})",
        record["statement"],
        re.sub(r"-?\d[\d.]*(e[-+]?\d+)?", lambda n: _number(float(n[0])), record["threshold"])
        .replace("<=", "≤")
        .replace(">=", "≥"),
        _number(record["value"]),
        interval,
        str(record["n_seeds"]),
        f"**{record['verdict']}**",
    ]
    return "| " + " | ".join(field.replace("|", "\\|") for field in fields) + " |"


def _number(value: float) -> str:
    """Three digits, as people write them: 0.0158, 2,000, or 2.4 × 10 to the -6th."""
    rounded = float(f"{value:.3g}")
    if rounded == 0 or 1e-3 <= abs(rounded) < 1e6:
        return f"{rounded:,.10g}".replace("-", "−")
    mantissa, _, exponent = f"{rounded:.2e}".partition("e")
    power = f"10<sup>{int(exponent)}</sup>"
    return (power if float(mantissa) == 1 else f"{float(mantissa):g} × {power}").replace("-", "−")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder with the runs (default: results)")
    parser.add_argument("--stage", type=Path, default=STAGE, help="folder to fill (default: _build/stage)")
    parser.add_argument("--smoke", action="store_true", help="the runs are smoke runs: say so on the claims page")
    options = parser.parse_args()
    results = Results(options.results.resolve()) if options.results else Results.default(options.smoke)
    incomplete = stage(results, options.stage, options.smoke)
    print(f"Staged {len(chapters())} chapters in {shown(options.stage.resolve())}.")
    if incomplete:
        print(f"Not complete: {', '.join(incomplete)}.")


if __name__ == "__main__":
    main()
