"""The claims as readers see them: squares, a sentence that counts them, and the table of all."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from addlib.claims.claim import declared
from addlib.claims.threshold import VERDICTS, Threshold, quantity, span
from workflow.chapters import WorkflowError

Record = dict[str, Any]

MARK = "\\*"
"""Markdown behind a value that this run has not measured yet: an earlier one has."""

CLAIM_FIELD = re.compile(r"\{(\d\d\.[a-z0-9-]+)( verdict)?\}")
"""What stands on a page for a measured value or a verdict."""


def add_claim_targets(notebook: NotebookNode, records: list[Record]) -> list[Record]:
    """Put a link target in front of the cell that measured each claim.

    It is the cell with the execution count that the record names.

    Args:
        notebook: the executed chapter. records: of its claims.

    Returns:
        The records whose cell is not there.
    """
    cells = []
    for cell in notebook.cells:
        count = cell.get("execution_count")
        for record in records:
            if count is not None and record["cell"] == count:
                record["target"] = claim_target(record["id"])
                cells.append(new_markdown_cell(f"({record['target']})="))
        cells.append(cell)
    notebook.cells = cells
    return [record for record in records if "target" not in record]


def claim_target(claim: str) -> str:
    """Name of a claim's link target: ``claim-02-final-loss``."""
    return "claim-" + claim.replace(".", "-")


def add_ledger(target: Path, records: list[Record], titles: dict[str, str], smoke: bool) -> None:
    """Append squares and table to the staged claims page, and write what the first page includes.

    Args:
        target: the staging folder. records: of the ledger, with the targets that
            `add_claim_targets` found.
        titles: of the chapters, by name, in the order of the book. smoke: say that the values mean
            nothing.
    """
    front = target / "book" / "_generated" / "claims.md"
    front.parent.mkdir(exist_ok=True)
    overview = squares(records, titles)
    counted = "[All claims](claims.md), by chapter. Each square is one; it leads to the cell that measures it."
    front.write_text(f"{counted}\n\n{overview}\n" if records else "", encoding="utf-8")
    said = f"**[The claims](claims.md)**: {score(records)}\n" if records else ""
    front.with_name("score.md").write_text(said, encoding="utf-8")
    first = target / "book" / "index.md"
    if first.is_file():
        text = with_claims(first.read_text(encoding="utf-8"), records)
        first.write_text(text, encoding="utf-8")
    page = target / "book" / "claims.md"
    text = page.read_text(encoding="utf-8").rstrip()
    page.write_text(f"{text}\n\n{ledger(records, overview, smoke)}\n", encoding="utf-8")


def with_claims(text: str, records: list[Record]) -> str:
    """A page's text with what was measured: its value for ``{02.accuracy}``, a dash where missing.

    ``{02.accuracy verdict}`` becomes the verdict, with a link to the cell that measured it. What
    an earlier run has measured has a mark.

    Raises:
        WorkflowError: no claim has such an id.
    """
    measured = {record["id"]: record for record in records}

    def field(match: re.Match[str]) -> str:
        id, verdict = match.groups()
        if id not in declared():
            raise WorkflowError(f"{match[0]}: book/claims.yml has no claim {id}")
        if id not in measured:
            return "–"
        record = measured[id]
        if not verdict:
            return quantity(record["value"], record["unit"]) + _mark(record)
        sign = VERDICTS[record["verdict"]].sign
        link = _place(record)
        return f'[{sign} {record["verdict"]}]({link} "{id}"){_mark(record)}'

    return CLAIM_FIELD.sub(field, text)


def score(records: list[Record]) -> str:
    """How many claims of each verdict: ``9 measured; 8 hold, 1 fails, 0 are inconclusive.``"""
    counts = Counter(record["verdict"] for record in records)
    parts = [
        f"{counts[name]} {verdict.one if counts[name] == 1 else verdict.many}"
        for name, verdict in VERDICTS.items()
    ]
    text = f"{len(records)} measured; {', '.join(parts)}."
    if earlier := sum("recorded" in record for record in records):
        text += f" {earlier} of them in an earlier run{MARK}."
    return text


def squares(records: list[Record], titles: dict[str, str]) -> str:
    """One row a chapter that has claims, one square a claim; colour and sign say the verdict."""
    rows = []
    for chapter, title in titles.items():
        own = sorted((record for record in records if record["chapter"] == chapter), key=_order)
        if own:
            rows.append(
                f'<li><a class="chapter" href="../notebooks/{chapter}.html" title="{html.escape(title)}">'
                f"{chapter[:2]}</a> {' '.join(map(_square, own))}</li>"
            )
    legend = " ".join(
        f'<span><i class="{name}">{verdict.sign}</i> {name}</span>'
        for name, verdict in VERDICTS.items()
    )
    picture = f'<p class="legend">{legend}</p><ul>{"".join(rows)}</ul>'
    verdicts = f'data-verdicts="{" ".join(VERDICTS)}"'
    nav = f'<nav class="addlib-squares" aria-label="Claims by chapter" {verdicts}>{picture}</nav>'
    return f"```{{raw}} html\n{nav}\n```"


def _order(record: Record) -> tuple[int, str]:
    return list(VERDICTS).index(record["verdict"]), record["id"]


def _square(record: Record) -> str:
    sign = VERDICTS[record["verdict"]].sign
    run = ", in an earlier run" if "recorded" in record else ""
    text = html.escape(f"{record['statement']} ({record['id']}: {record['verdict']}{run})")
    place = f"#{record['target']}" if "target" in record else ""
    kind = record["verdict"] + (" recorded" if run else "")
    return (
        f'<a class="{kind}" href="../notebooks/{record["chapter"]}.html{place}" title="{text}" '
        f'aria-label="{text}">{sign}</a>'
    )


def ledger(records: list[Record], overview: str, smoke: bool) -> str:
    """What the claims page shows below its first lines: score, squares, a table of all claims."""
    if not records:
        return "```{warning}\nNo claim has been measured yet. `make book` measures them.\n```"
    lines = [
        score(records),
        f"Measured on {_listed(records, 'device')}; revision {_listed(records, 'revision')}.",
        "",
        overview,
        "",
        "| claim | statement | threshold | value | interval | seeds | verdict |",
        "|---|---|---|---|---|---|---|",
        *map(_row, sorted(records, key=lambda record: record["id"])),
    ]
    if smoke:
        note = "These values come from a smoke run: they check the mechanics and mean nothing."
        lines = [f"```{{warning}}\n{note}\n```", "", *lines]
    return "\n".join(lines)


def _listed(records: Iterable[Record], key: str) -> str:
    return ", ".join(sorted({record[key] for record in records}))


def _row(record: Record) -> str:
    link = _place(record)
    source = "" if record["source"].startswith("this ") else f" *({record['source']})*"
    fields = [
        f"[{record['id']}]({link})",
        f"{record['statement']}{source}",
        Threshold.parse(record["threshold"]).written(record["unit"]),
        f"<details><summary>{quantity(record['value'], record['unit'])}{_mark(record)}</summary>"
        f"{record['metric']}</details>",
        _interval(record),
        str(record["n_seeds"]),
        _verdict(record),
    ]
    return "| " + " | ".join(field.replace("|", "\\|") for field in fields) + " |"


def _place(record: Record) -> str:
    """Link from a page of the book to the cell that measured a claim, or to its chapter."""
    if "target" in record:
        return f"#{record['target']}"
    return f"../notebooks/{record['chapter']}.ipynb"


def _interval(record: Record) -> str:
    if not record["ci"]:
        return "–"
    return span(record["ci"], record["unit"])


def _verdict(record: Record) -> str:
    """The last cell of a row; claims.js reads chapter and verdict from its attributes."""
    name = record["verdict"]
    data = f'data-chapter="{record["chapter"][:2]}" data-verdict="{name}"'
    return f"<strong {data}>{VERDICTS[name].sign} {name}</strong>{_mark(record)}"


def _mark(record: Record) -> str:
    return MARK if "recorded" in record else ""
