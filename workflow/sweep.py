"""Runs chapters over a grid of parameters and gathers their claims in one table: `make sweep SWEEP=grid.yml`.

    python workflow/sweep.py workflow/sweeps/seeds.yml            all cells that are not done yet, then the table
    python workflow/sweep.py workflow/sweeps/seeds.yml --record   and the table into the package, for the chapters

Cells run side by side, each on one CPU thread. Parameters are checked against the notebooks' own before anything
starts. A cell that fails does not stop the others; run again, only the missing cells run. Results lie in
``results/sweeps/<grid>/<cell>/``, the table in ``results/sweeps/<grid>/claims.csv``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import book
from addlib import records
from chapters import Results, WorkflowError, chapters, failure_line, shown
from parameters import check_parameters

KEYS = {"cells", "record"}


def read_grid(path: Path) -> tuple[dict[str, dict[str, Any]], str | None]:
    """The cells of a grid by name, and the name of the record that its table becomes.

    Raises:
        WorkflowError: the file is not such a grid, or a chapter or a parameter is not there or out of range.
    """
    try:
        grid = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise WorkflowError(f"{path}: cannot be read: {error}") from error
    if not isinstance(grid, dict) or set(grid) - KEYS or not isinstance(grid.get("cells"), list):
        raise WorkflowError(f"{path}: a grid has a list 'cells' and perhaps a name 'record'")
    known, cells = chapters(), {}
    for entry in grid["cells"]:
        if not isinstance(entry, dict) or set(entry) != {"chapter", "parameters"}:
            raise WorkflowError(f"{path}: {entry}: must have 'chapter' and 'parameters'")
        if entry["chapter"] not in known:
            raise WorkflowError(f"{path}: no chapter {entry['chapter']!r}; chapters: {', '.join(known)}")
        lists = {name: value if isinstance(value, list) else [value] for name, value in entry["parameters"].items()}
        for values in itertools.product(*lists.values()):
            parameters = dict(zip(lists, values, strict=True))
            check_parameters(known[entry["chapter"]], parameters)
            varied = [f"{name}-{parameters[name]}" for name in lists if len(lists[name]) > 1]
            cells["_".join([entry["chapter"], *varied])] = {"chapter": entry["chapter"], "parameters": parameters}
    return cells, grid.get("record")


def results_of(grid: Path) -> Path:
    """Folder of a grid's results."""
    return Results.default().folder / "sweeps" / grid.stem


def run(grid: Path) -> int:
    """Run what is missing; the exit status."""
    cells, _ = read_grid(grid)
    folder = results_of(grid)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "cells.json"
    config.write_text(json.dumps({"results": shown(folder), "cells": cells, "grid": shown(grid.resolve())}, indent=1))
    status = book.snakemake(
        "workflow/sweep.smk", "all", "--configfile", str(config), "--rerun-triggers", "mtime", "params"
    )
    for cell, entry in cells.items():
        record = Results(folder / cell).record(entry["chapter"])
        if record.get("failure"):
            print(f"{cell}: {failure_line(entry['chapter'], record)}", file=sys.stderr)
    return status


def table(grid: Path) -> pd.DataFrame:
    """One row for each claim of each finished cell, with the cell's parameters."""
    rows = []
    for cell, entry in read_grid(grid)[0].items():
        folder = results_of(grid) / cell
        for path in sorted((folder / "claims").glob("*.json")):
            claim = json.loads(path.read_text(encoding="utf-8"))
            wanted = ("id", "chapter", "statement", "metric", "threshold", "value", "verdict", "revision", "device")
            values = {name: claim[name] for name in wanted} | {"claim_seed": claim["seed"]}
            rows.append({"cell": cell, **entry["parameters"], **values})
    return pd.DataFrame(rows)


def write_record(name: str, grid: Path, rows: pd.DataFrame) -> Path:
    """The table by claim: its threshold, and the value and the verdict of each seed.

    A claim about a record has a seed of its own, whatever the cell's; it is left out.
    """
    found = {}
    for claim, group in rows[rows["claim_seed"] == rows["seed"]].groupby("id"):
        first = group.iloc[0]
        found[claim] = {
            "chapter": first["chapter"],
            "statement": first["statement"],
            "metric": first["metric"],
            "threshold": first["threshold"],
            "seeds": [int(seed) for seed in group["seed"]],
            "values": [float(value) for value in group["value"]],
            "verdicts": list(group["verdict"]),
        }
    return records.write(name, f"make sweep SWEEP={shown(grid.resolve())}", {"claims": found})


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="YAML file with the grid")
    parser.add_argument("--table", action="store_true", help="only gather the table from what is there")
    parser.add_argument("--record", action="store_true", help="write the grid's record into the package as well")
    options = parser.parse_args()
    try:
        if not options.table and (status := run(options.grid)):
            return status
        rows, (_, record) = table(options.grid), read_grid(options.grid)
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    path = results_of(options.grid) / "claims.csv"
    rows.to_csv(path, index=False)
    print(f"{shown(path)}: {len(rows)} claims of {rows['cell'].nunique() if len(rows) else 0} cells")
    if options.record and record:
        print(shown(write_record(record, options.grid, rows)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
