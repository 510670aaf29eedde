"""What a sweep leaves for its reader: a table of its cells, a table of their claims, and one
figure.

A cell counts as done only where its run went through with exactly the parameters of the grid. What
a failed or killed run, or one with other parameters, has left in the folder is not read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from addlib.claims.threshold import VERDICTS
from addlib.figures import static
from addlib.files import write_whole
from workflow.chapters import Results, failure_line, shown
from workflow.sweep.figure import verdict_map

Cells = Mapping[str, Mapping[str, Any]]
"""Each cell's chapter, parameters and run (the parameters that vary, as words), by its name."""

PROVENANCE = ("revision", "device", "seconds", "peak_memory_mib", "started")

WANTED = (
    "id",
    "chapter",
    "statement",
    "metric",
    "unit",
    "threshold",
    "value",
    "verdict",
    "revision",
    "device",
)


def status_of(entry: Mapping[str, Any], results: Results) -> str:
    """``done``, ``failed``, ``interrupted`` or ``not run``."""
    record = results.record(entry["chapter"])
    if not record or record.get("parameters") != json.loads(json.dumps(entry["parameters"])):
        return "not run"
    done = record.get("status") == "done" and (results.folder / ".done").is_file()
    return "done" if done else "failed" if record.get("failure") else "interrupted"


def cell_table(cells: Cells, folder: Path) -> pd.DataFrame:
    """One row for each cell: parameters, how its run ended, revision, device, seconds, peak memory,
    verdicts.
    """
    rows = []
    for cell, entry in cells.items():
        results = Results(folder / cell)
        status, record = status_of(entry, results), results.record(entry["chapter"])
        if status == "not run":
            record = {}
        verdicts = (
            Counter(claim["verdict"] for claim in _claims(results))
            if status == "done"
            else Counter()
        )
        rows.append(
            {"cell": cell, "chapter": entry["chapter"], **entry["parameters"], "status": status}
            | {name: record.get(name) for name in PROVENANCE}
            | {verdict: verdicts[verdict] for verdict in VERDICTS}
            | {"error": failure_line(entry["chapter"], record) if record.get("failure") else None}
        )
    return pd.DataFrame(rows)


def claim_table(cells: Cells, folder: Path) -> pd.DataFrame:
    """One row for each claim of each cell that is done, with the cell's parameters."""
    rows = []
    for cell, entry in cells.items():
        results = Results(folder / cell)
        if status_of(entry, results) == "done":
            for claim in _claims(results):
                values = {name: claim[name] for name in WANTED} | {"claim_seed": claim["seed"]}
                rows.append({"cell": cell, "run": entry["run"], **entry["parameters"], **values})
    return pd.DataFrame(rows)


def _claims(results: Results) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((results.folder / "claims").glob("*.json"))
    ]


def figure(rows: pd.DataFrame, title: str) -> Any:
    """Claims by cells: each value on the colour of its verdict, the threshold beside the claim's
    name.
    """
    runs = list(dict.fromkeys(rows["run"]))
    claims = rows.drop_duplicates("id").sort_values("id")
    ids = list(claims["id"])
    values, verdicts = np.full((len(ids), len(runs)), np.nan), [[""] * len(runs) for _ in ids]
    for claim, run, value, verdict in zip(
        rows["id"], rows["run"], rows["value"], rows["verdict"], strict=True
    ):
        i, j = ids.index(claim), runs.index(run)
        values[i, j], verdicts[i][j] = value, verdict
    return verdict_map(values, verdicts, ids, list(claims["threshold"]), runs, title=title)


def write(cells: Cells, folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Write ``cells.csv``, ``claims.csv`` and the figure; the claims, and a line about each file."""
    table, claims = cell_table(cells, folder), claim_table(cells, folder)
    for name, content in (("cells", table), ("claims", claims)):
        write_whole(folder / f"{name}.csv", content.to_csv(index=False).encode())
    counts = ", ".join(
        f"{count} {status}" for status, count in table["status"].value_counts().items()
    )
    done = claims["cell"].nunique() if len(claims) else 0
    lines = [f"{shown(folder / 'cells.csv')}: {len(table)} cells, {counts}"]
    lines += [f"{shown(folder / 'claims.csv')}: {len(claims)} claims of {done} cells"]
    lines += [
        f"  {cell}: {error}"
        for cell, error in zip(table["cell"], table["error"], strict=True)
        if isinstance(error, str)
    ]
    lines += [
        f"  {cell}: {status}; log: {shown(Results(folder / cell).log(chapter))}"
        for cell, chapter, status in zip(
            table["cell"], table["chapter"], table["status"], strict=True
        )
        if status in ("interrupted", "not run")
    ]
    if len(claims):
        lines += [f"{shown(path)}" for path in _draw(claims, folder)]
    return claims, lines


def _draw(claims: pd.DataFrame, folder: Path) -> list[Path]:
    """The figure as a page that needs no network and, where there is a browser to draw it, as SVG."""
    fig = figure(claims, f"Claims of the sweep “{folder.name}”: value and verdict of each run")
    page, drawing = folder / "claims.html", folder / "claims.svg"
    write_whole(
        page,
        fig.to_html(
            include_plotlyjs=True, config=dict(responsive=True, displaylogo=False)
        ).encode(),
    )
    width = 340 + 110 * len(fig.data[0].x)
    # no browser, or one that doesn't answer on a machine full of cells
    try:
        return [page, static.save(fig, drawing, width=width)]
    except (
        static.NoBrowserError,
        TimeoutError,
    ):
        drawing.unlink(missing_ok=True)  # of an earlier run
        return [page]
