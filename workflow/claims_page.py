"""The claims as readers see them: one square a claim, a sentence that counts them, and the table of
all.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

Record = dict[str, Any]

VERDICTS = {
    "holds": ("holds", "hold", "✓"),
    "fails": ("fails", "fail", "✗"),
    "inconclusive": ("is inconclusive", "are inconclusive", "?"),
}
"""Each verdict with its singular and plural form, and its sign."""


def add_claim_targets(notebook: NotebookNode, records: list[Record]) -> None:
    """Put a link target in front of the cell that measures each claim: the first one with the
    claim's id in it.
    """
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


def add_ledger(target: Path, records: list[Record], titles: dict[str, str], smoke: bool) -> None:
    """Append squares and table to the staged claims page; write what the first page includes:
    count, and squares.

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
    page = target / "book" / "claims.md"
    text = page.read_text(encoding="utf-8").rstrip()
    page.write_text(f"{text}\n\n{ledger(records, overview, smoke)}\n", encoding="utf-8")


def score(records: list[Record]) -> str:
    """How many claims there are, and how many of each verdict: ``9 measured; 8 hold, 1 fails, 0 are
    inconclusive.``
    """
    counts = Counter(record["verdict"] for record in records)
    parts = [
        f"{counts[name]} {one if counts[name] == 1 else many}"
        for name, (one, many, _) in VERDICTS.items()
    ]
    return f"{len(records)} measured; {', '.join(parts)}."


def squares(records: list[Record], titles: dict[str, str]) -> str:
    """One row for each chapter that has claims, one square for each claim; colour and sign say the
    verdict.
    """
    rows = []
    for chapter, title in titles.items():
        own = sorted((record for record in records if record["chapter"] == chapter), key=_order)
        if own:
            rows.append(
                f'<li><a class="chapter" href="../notebooks/{chapter}.html" title="{html.escape(title)}">'
                f"{chapter[:2]}</a> {' '.join(map(_square, own))}</li>"
            )
    legend = " ".join(
        f'<span><i class="{name}">{sign}</i> {name}</span>'
        for name, (_, _, sign) in VERDICTS.items()
    )
    picture = f'<p class="legend">{legend}</p><ul>{"".join(rows)}</ul>'
    return f'```{{raw}} html\n<nav class="addlib-squares" aria-label="Claims by chapter">{picture}</nav>\n```'


def _order(record: Record) -> tuple[int, str]:
    return list(VERDICTS).index(record["verdict"]), record["id"]


def _square(record: Record) -> str:
    sign = VERDICTS[record["verdict"]][2]
    text = html.escape(f"{record['statement']} ({record['id']}: {record['verdict']})")
    place = f"#{record['target']}" if "target" in record else ""
    return (
        f'<a class="{record["verdict"]}" href="../notebooks/{record["chapter"]}.html{place}" title="{text}" '
        f'aria-label="{text}">{sign}</a>'
    )


def ledger(records: list[Record], overview: str, smoke: bool) -> str:
    """What the claims page shows below its first lines: score, squares, and a Markdown table of all
    claims.
    """
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
    link = (
        f"#{record['target']}" if "target" in record else f"../notebooks/{record['chapter']}.ipynb"
    )
    source = "" if record["source"].startswith("this ") else f" *({record['source']})*"
    fields = [
        f"[{record['id']}]({link})",
        f"{record['statement']}{source}",
        re.sub(r"-?\d[\d.]*(e[-+]?\d+)?", lambda n: number(float(n[0])), record["threshold"])
        .replace("<=", "≤")
        .replace(">=", "≥"),
        number(record["value"]),
        " to ".join(map(number, record["ci"])) if record["ci"] else "–",
        str(record["n_seeds"]),
        f"**{VERDICTS[record['verdict']][2]} {record['verdict']}**",
    ]
    return "| " + " | ".join(field.replace("|", "\\|") for field in fields) + " |"


def number(value: float) -> str:
    """Three digits, as people write them: 0.0158, 2,000, or 2.4 × 10 to the -6th."""
    rounded = float(f"{value:.3g}")
    if rounded == 0 or 1e-3 <= abs(rounded) < 1e6:
        return f"{rounded:,.10g}".replace("-", "−")
    mantissa, _, exponent = f"{rounded:.2e}".partition("e")
    power = f"10<sup>{int(exponent)}</sup>"
    return (power if float(mantissa) == 1 else f"{float(mantissa):g} × {power}").replace("-", "−")
