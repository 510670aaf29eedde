"""Cells of a sweep that ``workflow.bare_gpu`` ran elsewhere, as if they had run here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from addlib.files import write_whole
from workflow.chapters import Results, WorkflowError, failure_line
from workflow.sweep.report import Cells


class Elsewhere(NamedTuple):
    """What a record says of another machine's run.

    Args:
        made: ``date``, ``revision`` and ``versions``.
        models: by seed, each with the digest of its weights.
    """

    made: dict[str, Any]
    models: dict[str, Any]


def unpack(file: Path, cells: Cells, folder: Path, incomplete: bool = False) -> Elsewhere:
    """Put the cells into a folder, in place of what it had, in the form that runs leave here.

    Args:
        file: ``results.json`` that the other machine wrote.
        incomplete: take what is there, and print what is not.

    Raises:
        WorkflowError: the file is none of these, or cells failed, are missing, or ran with other
            parameters than the grid's; each is named.
    """
    try:
        parts = json.loads(file.read_text(encoding="utf-8"))
        head = parts["environment"]
        found = parts["seeds"]["cells"]
        models = parts["seeds"]["models"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkflowError(f"{file}: no other seeds of workflow.bare_gpu ({error!r})") from error
    faults = {name: _fault(found.get(name), entry) for name, entry in cells.items()}
    lines = [f"{name}: {fault}" for name, fault in faults.items() if fault]
    sound = [name for name, fault in faults.items() if not fault]
    if not sound or (lines and not incomplete):
        remedy = "run them again, or take what is there with --incomplete"
        raise WorkflowError("\n  ".join([f"{file}: {remedy}", *lines]))
    print("\n".join(lines), end="\n" if lines else "")
    shutil.rmtree(folder, ignore_errors=True)
    for name in sound:
        _write(found[name], Results(folder / name))
    seeds = {str(cells[name]["parameters"]["seed"]) for name in sound}
    made = {name: head[name] for name in ("date", "revision")}
    made["versions"] = found[sound[0]]["claims"][0]["versions"]
    return Elsewhere(made, {seed: model for seed, model in models.items() if seed in seeds})


def _fault(cell: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> str | None:
    """Why a cell's claims must not be taken; None where they may."""
    if cell is None:
        return "was not run"
    run = cell["run"]
    if run.get("failure"):
        return failure_line(entry["chapter"], run)
    if run.get("status") != "done":
        return f"was cut off; the end of its log: {cell.get('said', '')[-200:]}"
    if run["smoke"]:
        return "was a smoke run"
    if run["parameters"] != entry["parameters"]:
        return f"ran with {run['parameters']}, and the grid has {entry['parameters']}"
    return None if cell["claims"] else "has no claims"


def _write(cell: Mapping[str, Any], results: Results) -> None:
    """Write a cell's files: the record of its run, its claims, and the mark that it is done."""
    run = cell["run"]
    contents = {results.run(run["chapter"]): run}
    contents |= {results.folder / "claims" / f"{c['id']}.json": c for c in cell["claims"]}
    for path, content in contents.items():
        write_whole(path, (json.dumps(content, indent=1) + "\n").encode())
    write_whole(results.folder / ".done", b"")
