"""What a sweep leaves for its reader: tables of its cells and of their claims, and one figure.

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
    "checkpoint",
)


def status_of(entry: Mapping[str, Any], results: Results) -> str:
    """``done``, ``failed``, ``running``, ``interrupted`` or ``not run``."""
    record = results.record(entry["chapter"])
    if not record or record.get("parameters") != json.loads(json.dumps(entry["parameters"])):
        return "not run"
    if record.get("status") == "done" and (results.folder / ".done").is_file():
        return "done"
    if record.get("failure"):
        return "failed"
    return "running" if results.is_running(entry["chapter"]) else "interrupted"


def cell_table(cells: Cells, folder: Path) -> pd.DataFrame:
    """One row for each cell: its parameters, how its run ended, where, and its verdicts."""
    rows = []
    for cell, entry in cells.items():
        results = Results(folder / cell)
        status = status_of(entry, results)
        record = {} if status == "not run" else results.record(entry["chapter"])
        claims = _claims(results) if status == "done" else []
        verdicts = Counter(claim["verdict"] for claim in claims)
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
                # a cell of an older book has no unit, and that of a language model no checkpoint
                values = {name: claim.get(name) for name in WANTED} | {"claim_seed": claim["seed"]}
                rows.append({"cell": cell, "run": entry["run"], **entry["parameters"], **values})
    return pd.DataFrame(rows)


def of_one_model(rows: pd.DataFrame) -> pd.DataFrame:
    """The claims about the model of their cell's seed.

    A claim about a record has a seed of its own, whatever the cell's; it is left out. So is one that
    some cell measured on several models: in a cell that had a single such model it has a seed, and
    the others would count as models that lack it.

    Args:
        rows: of :func:`claim_table`.
    """
    over_models = rows["id"][rows["claim_seed"].isna()]
    return rows[(rows["claim_seed"] == rows["seed"]) & ~rows["id"].isin(over_models)]


def runs(cells: Cells, folder: Path) -> dict[str, dict[str, Any]]:
    """What a record keeps of each cell that is done: how and where it ran, and on which weights.

    The checkpoint is the SHA-256 of the trained weights' file; None where the claims are about
    several models, or none of ours.
    """
    found = {}
    for cell, entry in cells.items():
        results = Results(folder / cell)
        if status_of(entry, results) == "done":
            record = results.record(entry["chapter"])
            checkpoints = {claim.get("checkpoint") for claim in _claims(results)} - {None}
            parameters = dict(entry["parameters"])
            found[cell] = {"seed": parameters.pop("seed", None), "parameters": parameters}
            found[cell] |= {name: record.get(name) for name in PROVENANCE}
            found[cell]["checkpoint"] = checkpoints.pop() if len(checkpoints) == 1 else None
    return found


def _claims(results: Results) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((results.folder / "claims").glob("*.json"))
    ]


def figure(rows: pd.DataFrame, title: str) -> Any:
    """Claims by cells: each value on the colour of its verdict."""
    runs = list(dict.fromkeys(rows["run"]))
    claims = rows.drop_duplicates("id").sort_values("id")
    ids = list(claims["id"])
    values = np.full((len(ids), len(runs)), np.nan)
    verdicts = [[""] * len(runs) for _ in ids]
    for claim in rows.to_dict("records"):
        i = ids.index(claim["id"])
        j = runs.index(claim["run"])
        values[i, j] = claim["value"]
        verdicts[i][j] = claim["verdict"]
    return verdict_map(values, verdicts, ids, list(claims["threshold"]), runs, title=title)


def write(cells: Cells, folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Write ``cells.csv``, ``claims.csv`` and the figure; the claims, and a line about each file."""
    table = cell_table(cells, folder)
    claims = claim_table(cells, folder)
    for name, content in (("cells", table), ("claims", claims)):
        write_whole(folder / f"{name}.csv", content.to_csv(index=False).encode())
    endings = table["status"].value_counts()
    counts = ", ".join(f"{count} {status}" for status, count in endings.items())
    done = claims["cell"].nunique() if len(claims) else 0
    lines = [
        f"{shown(folder / 'cells.csv')}: {len(table)} cells, {counts}",
        f"{shown(folder / 'claims.csv')}: {len(claims)} claims of {done} cells",
    ]
    rows = table.to_dict("records")
    lines += [f"  {row['cell']}: {row['error']}" for row in rows if isinstance(row["error"], str)]
    for row in rows:
        if row["status"] in ("running", "interrupted", "not run"):
            log = Results(folder / row["cell"]).log(row["chapter"])
            lines.append(f"  {row['cell']}: {row['status']}; log: {shown(log)}")
    if len(claims):
        lines += [shown(path) for path in _draw(claims, folder)]
    return claims, lines


def _draw(claims: pd.DataFrame, folder: Path) -> list[Path]:
    """The figure as a page that needs no network and, where there is a browser to draw it, as SVG."""
    fig = figure(claims, f"Claims of the sweep “{folder.name}”: value and verdict of each run")
    page = folder / "claims.html"
    drawing = folder / "claims.svg"
    config = {"responsive": True, "displaylogo": False}
    write_whole(page, fig.to_html(include_plotlyjs=True, config=config).encode())
    width = 340 + 110 * len(fig.data[0].x)
    try:
        return [page, static.save(fig, drawing, width=width)]
    # no browser, or one that doesn't answer on a machine full of cells
    except (static.NoBrowserError, TimeoutError):
        drawing.unlink(missing_ok=True)  # of an earlier run
        return [page]
