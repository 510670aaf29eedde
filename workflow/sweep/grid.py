"""Runs chapters over a grid of parameters and gathers their claims: `make sweep GRID=grid.yml`.

    python -m workflow.sweep.grid grid.yml                  the cells that are missing, then tables
    python -m workflow.sweep.grid grid.yml --profile slurm  the same on a cluster
    python -m workflow.sweep.grid grid.yml --record         and the table into the package
    python -m workflow.sweep.grid grid.yml --table          only the tables of what is there
    python -m workflow.sweep.grid grid.yml --from FILE      cells that workflow.bare_gpu has run

Grids lie in workflow/sweep/grids, profiles in workflow/profiles. Cells run side by side, each on
one CPU thread. Parameters are checked against the notebooks' own before anything starts. A cell
that fails does not stop the others; run again, only the missing cells run. Results lie in
``results/sweeps/<grid>/<cell>/``; beside them ``cells.csv`` says how each cell ran, ``claims.csv``
holds the claims of all cells that are done, and ``claims.html`` shows them in one figure. A record
keeps cells that it has from an earlier gathering and that are not here, where their claims still
say the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from addlib.claims import stored
from addlib.claims.provenance import versions
from addlib.files import write_whole
from workflow import run_graph
from workflow.chapters import ROOT, Chapter, Results, WorkflowError, chapters, shown
from workflow.parameters import check_parameters, value_of
from workflow.sweep import from_gpu, recorded, report

KEYS = {"cells", "record"}

PROFILES = ROOT / "workflow" / "profiles"

BUILT_IN = {"local", "dryrun", "touch"}
"""Executors that Snakemake has without a plugin."""


def read_grid(path: Path) -> tuple[dict[str, dict[str, Any]], str | None]:
    """The cells of a grid by name, and the name of the record that its table becomes.

    Raises:
        WorkflowError: the file is not such a grid, or a chapter or a parameter is not there or out
            of range.
    """
    try:
        grid = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise WorkflowError(f"{path}: cannot be read: {error}") from error
    if not isinstance(grid, dict) or set(grid) - KEYS or not isinstance(grid.get("cells"), list):
        raise WorkflowError(f"{path}: a grid has a list 'cells' and perhaps a name 'record'")
    known = chapters()
    cells: dict[str, dict[str, Any]] = {}
    for entry in grid["cells"]:
        if not isinstance(entry, dict) or set(entry) != {"chapter", "parameters"}:
            raise WorkflowError(f"{path}: {entry}: must have 'chapter' and 'parameters'")
        if entry["chapter"] not in known:
            raise WorkflowError(
                f"{path}: no chapter {entry['chapter']!r}; chapters: {', '.join(known)}"
            )
        if not isinstance(entry["parameters"], dict):
            raise WorkflowError(
                f"{path}: {entry['chapter']}: 'parameters' must be names with their values"
            )
        for cell, description in _cells_of(entry, known[entry["chapter"]]).items():
            if cell in cells:
                raise WorkflowError(
                    f"{path}: two cells are called {cell}: let a list tell them apart"
                )
            cells[cell] = description
    if not cells:
        raise WorkflowError(f"{path}: the grid has no cells")
    return cells, grid.get("record")


def _cells_of(entry: dict[str, Any], chapter: Chapter) -> dict[str, dict[str, Any]]:
    """Every combination of an entry's values, by the cell's name, which tells what varies."""
    lists = {
        name: value if isinstance(value, list) else [value]
        for name, value in entry["parameters"].items()
    }
    cells = {}
    for values in itertools.product(*lists.values()):
        # YAML takes 1e-4 for a text
        parameters = {
            n: value_of(v) if isinstance(v, str) else v for n, v in zip(lists, values, strict=True)
        }
        check_parameters(chapter, parameters)
        varied = {name: parameters[name] for name in lists if len(lists[name]) > 1}
        name = "_".join([chapter.name, *(f"{name}-{value}" for name, value in varied.items())])
        run = ", ".join(f"{name} {value}" for name, value in varied.items()) or "the only run"
        cells[re.sub(r"[^\w.+-]", "-", name)] = {
            "chapter": chapter.name,
            "run": run,
            "parameters": parameters,
        }
    return cells


def profile_folder(name: str) -> Path:
    """The folder of Snakemake's settings: one of workflow/profiles, or any other by its path.

    Raises:
        WorkflowError: there is no such profile, or the executor that it names is not installed.
    """
    folder = next(
        (path for path in (PROFILES / name, Path(name)) if (path / "config.yaml").is_file()), None
    )
    if folder is None:
        names = ", ".join(sorted(path.name for path in PROFILES.iterdir()))
        raise WorkflowError(
            f"no profile {name!r}; profiles: {names}, or the path of a folder with a config.yaml"
        )
    executor = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")).get(
        "executor", "local"
    )
    if executor not in BUILT_IN and not importlib.util.find_spec(
        f"snakemake_executor_plugin_{executor}"
    ):
        package = f"snakemake-executor-plugin-{executor}"
        raise WorkflowError(
            f"profile {name} needs a package that is not there: .venv/bin/pip install {package}"
        )
    return folder.resolve()


def results_of(grid: Path) -> Path:
    """Folder of a grid's results."""
    return Results.default().folder / "sweeps" / grid.stem


def run(grid: Path, profile: str = "local") -> int:
    """Run what is missing; the exit status."""
    cells, record = read_grid(grid)
    settings = profile_folder(profile)
    folder = results_of(grid)
    config = {"results": shown(folder), "cells": cells, "record": record}
    write_whole(folder / "cells.json", json.dumps(config, indent=1).encode())
    options = ("--configfile", str(folder / "cells.json"), "--rerun-triggers", "mtime", "params")
    return run_graph.snakemake("workflow/sweep/sweep.smk", ["all"], *options, profile=settings)


def write_record(
    name: str,
    grid: Path,
    rows: pd.DataFrame,
    runs: Mapping[str, Any],
    elsewhere: from_gpu.Elsewhere | None = None,
    since: str | None = None,
    missing: Sequence[str] = (),
) -> Path:
    """The table by claim: its threshold, and the value and the verdict of each seed.

    Of the claims about one model (:func:`report.of_one_model`). A value is None where the model
    lacks what the claim is about.

    Args:
        rows, runs: of :func:`report.claim_table` and :func:`report.runs`.
        elsewhere: where another machine ran the cells, of :func:`from_gpu.unpack`.
        since: the day of the first cells, where an earlier gathering has some; default today.
        missing: cells of the grid that have not been run.

    Raises:
        ValueError: files differ from the revision that the record would name.
    """
    found = {}
    own = report.of_one_model(rows)
    for claim, group in own.groupby("id"):
        first = group.iloc[0]
        found[claim] = {
            "chapter": first["chapter"],
            "statement": first["statement"],
            "metric": first["metric"],
            "unit": first["unit"],
            "threshold": first["threshold"],
            "seeds": [int(seed) for seed in group["seed"]],
            "values": [None if pd.isna(value) else float(value) for value in group["value"]],
            "verdicts": list(group["verdict"]),
        }
    made_by = f"make sweep GRID={shown(grid.resolve())}"
    content: dict[str, Any] = {"runs": runs, "missing": list(missing)}
    if elsewhere:
        content["models"] = elsewhere.models
    made = elsewhere.made if elsewhere else None
    if since:
        made = {"date": since, "revision": stored.clean_revision(), "versions": versions()}
    return stored.write(name, made_by, _hardware_of(own), content | {"claims": found}, made)


def _hardware_of(rows: pd.DataFrame) -> str:
    """What the cells' claims were measured on."""
    import torch  # takes seconds, and only this needs it

    from addlib.device import hardware

    names = rows["device"].dropna().replace("cpu", hardware(torch.device("cpu")))
    return ", ".join(names.unique())


def _check_revision() -> None:
    """Refuse before hours of work what could not be recorded after them."""
    try:
        stored.clean_revision()
    except ValueError as error:
        raise WorkflowError(str(error)) from error


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=Path, help="YAML file with the grid")
    parser.add_argument(
        "--profile",
        default="local",
        help="where cells run: a name in workflow/profiles, or a folder",
    )
    parser.add_argument(
        "--table", action="store_true", help="only gather the tables from what is there"
    )
    parser.add_argument(
        "--record", action="store_true", help="write the grid's record into the package as well"
    )
    parser.add_argument(
        "--from", dest="file", type=Path, help="results.json of workflow.bare_gpu, instead of a run"
    )
    parser.add_argument(
        "--incomplete",
        action="store_true",
        help="with --from: take the cells that are there, though others failed or are missing",
    )
    options = parser.parse_args()
    try:
        cells, record = read_grid(options.grid)
        folder = results_of(options.grid)
        status = 0
        elsewhere = None
        if options.file:
            folder = folder.with_name(f"{folder.name}-from-gpu")
            elsewhere = from_gpu.unpack(options.file, cells, folder, options.incomplete)
        else:
            if options.record:
                _check_revision()
            status = 0 if options.table else run(options.grid, options.profile)
        rows, lines = report.write(cells, folder)
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    if status:
        print("The sweep is not complete; run it again to run what is missing.", file=sys.stderr)
        return status
    if options.record and record:
        try:
            runs = report.runs(cells, folder)
            known = recorded.Gathered(rows, runs, [], None)
            if not elsewhere:
                known = recorded.with_earlier(record, cells, rows, runs)
            missing = [cell for cell in cells if cell not in known.runs]
            for what, names in (("as the record had them", known.kept), ("missing", missing)):
                if names:
                    print(f"{what}: {', '.join(names)}")
            path = write_record(
                record, options.grid, known.rows, known.runs, elsewhere, known.since, missing
            )
            print(shown(path))
        except (ValueError, WorkflowError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
