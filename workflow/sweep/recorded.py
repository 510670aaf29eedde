"""Cells that a record has from an earlier gathering, on this machine or another.

A long sweep is recorded slice by slice. What is not here any more need not run again, as long as
its claims still say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from addlib.claims import stored
from addlib.claims.provenance import versions
from workflow.chapters import WorkflowError
from workflow.sweep.report import Cells, of_one_model

TEXTS = ("chapter", "statement", "metric", "unit", "threshold")
"""What must be the same in the claim of an earlier cell and in that of a new one."""


@dataclass(frozen=True)
class Gathered:
    """Cells that were run here and those that the record has from before, in the grid's order.

    Args:
        rows: as :func:`workflow.sweep.report.claim_table` has them.
        runs: as :func:`workflow.sweep.report.runs` has them.
        kept: names of the cells from before.
        since: the day of the first gathering; None where all cells were run here.
    """

    rows: pd.DataFrame
    runs: dict[str, Any]
    kept: list[str]
    since: str | None


def with_earlier(name: str, cells: Cells, rows: pd.DataFrame, runs: Mapping[str, Any]) -> Gathered:
    """What a record is to hold: the cells that were run here, and those that only the record has.

    Args:
        name: of the record, which may not exist yet. rows, runs: of the cells that were run here.

    Raises:
        WorkflowError: other versions of the libraries made the earlier cells, or a claim of their
            chapters has changed or was added since. Then they must run again.
    """
    record = next(iter(stored.read_those(name)), {})
    before = record.get("runs", {})
    kept = [cell for cell in cells if cell in before and cell not in runs]
    if kept:
        if record["versions"] != versions():
            raise WorkflowError(f"record {name}: made with {record['versions']}; {_again(kept)}")
        chapters = {cells[cell]["chapter"] for cell in kept}
        _check_same(name, record, rows[rows["chapter"].isin(chapters)], kept)
        found = [row for cell in kept for row in _rows(record, cell, cells[cell], before[cell])]
        rows = pd.concat([rows, pd.DataFrame(found)])
    order = {cell: place for place, cell in enumerate(cells)}
    return Gathered(
        rows.sort_values("cell", key=lambda names: names.map(order), kind="stable"),
        {cell: runs.get(cell, before.get(cell)) for cell in cells if cell in {*runs, *kept}},
        kept,
        record["date"] if kept else None,
    )


def _rows(
    record: Mapping[str, Any], cell: str, entry: Mapping[str, Any], run: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The claims of one of a record's cells."""
    found = []
    for id, claim in record["claims"].items():
        if claim["chapter"] == entry["chapter"] and run["seed"] in claim["seeds"]:
            at = claim["seeds"].index(run["seed"])
            row = {"cell": cell, "id": id, "seed": run["seed"], "claim_seed": run["seed"]}
            row |= {"value": claim["values"][at], "verdict": claim["verdicts"][at]}
            found.append({text: claim[text] for text in TEXTS} | row | {"device": record["device"]})
    return found


def _check_same(name: str, record: Mapping[str, Any], rows: pd.DataFrame, kept: list[str]) -> None:
    """Refuse to mix claims that differ, where those that lack one would count as failures."""
    for id, group in of_one_model(rows).groupby("id"):
        entry = record["claims"].get(id, {})
        new = group.iloc[0]
        changed = [text for text in TEXTS if entry.get(text) != new[text]]
        if changed:
            what = f"has another {changed[0]} now" if entry else "was added since"
            raise WorkflowError(f"record {name}: {id} {what}; {_again(kept)}")


def _again(kept: list[str]) -> str:
    return f"run its earlier cells again: {', '.join(kept)}"
