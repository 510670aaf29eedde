"""What a run of the book on one machine took and found, as a small file of the package.

    python -m workflow.record                       # `make record`: runs the book from nothing
    python -m workflow.record --from results.json   # what workflow.bare_gpu brought back

A record is ``addlib/data/records/<device>.json``: device, driver, versions, revision, the seconds of
each chapter with its trainings, verdicts, and rows of benchmarks. README's table and the chapters'
run times name the devices that have one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from addlib.claims.stored import clean_revision
from addlib.device import choose_device, device_name, hardware
from addlib.files import write_whole
from workflow.chapters import RECORDS, ROOT, Results, WorkflowError, chapters, shown

PACKAGES = ("torch", "transformer_lens", "transformers", "numpy", "triton")
"""Packages whose versions a record names where they are installed."""

BENCHMARKS = ("train_step.py", "pair_step.py", "answers.py", "patching.py --shape qwen")
"""Scripts whose rows a record holds, with their arguments."""


def environment(device: torch.device) -> dict[str, Any]:
    """Where numbers are made: device, driver, machine, versions of Python and packages, day."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "device": hardware(device),
        "driver": _driver() if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _driver() -> str | None:
    """The version of the NVIDIA driver."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.splitlines()[0].strip()


def ran(results: Results, names: Iterable[str]) -> dict[str, Any]:
    """What runs of chapters left: how each ended and how long it took, and each claim."""
    records = {name: results.record(name) for name in names}
    return {
        "chapters": {
            name: {
                "status": record.get("status", "not run"),
                "seconds": record.get("seconds"),
                "device": record.get("device"),
                "failure": record.get("failure"),
            }
            for name, record in records.items()
        },
        "claims": {
            claim["id"]: {name: claim[name] for name in ("value", "threshold", "verdict")}
            for claim in results.measured()
            if claim["chapter"] in records
        },
    }


def write(record: Mapping[str, Any]) -> Path:
    """Write a record beside the others, named by its device; its path."""
    name = re.sub(r"[^a-z0-9]+", "-", record["device"].lower()).strip("-")
    path = RECORDS / f"{name}.json"
    write_whole(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
    return path


def of_this_machine() -> dict[str, Any]:
    """Run the book and its benchmarks from nothing, and give the record.

    Raises:
        WorkflowError: files differ from the revision, or a part can't be run.
    """
    try:
        revision = clean_revision()
    except ValueError as error:
        raise WorkflowError(str(error)) from error
    device = choose_device("auto")
    folder = ROOT / "results" / "record"
    shutil.rmtree(folder, ignore_errors=True)
    os.environ["ADDLIB_RESULTS"] = str(folder)
    os.environ["ADDLIB_CACHE"] = str(folder / "weights")
    if subprocess.run([sys.executable, "-m", "workflow.run_graph"], cwd=ROOT).returncode:
        raise WorkflowError("the book did not run as a whole: its last lines say why")
    for script in BENCHMARKS:
        command = [sys.executable, *f"benchmarks/{script}".split()]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise WorkflowError(f"benchmarks/{script} failed: its last lines say why")
    rows = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    measured_here = {
        name: row
        for name, row in rows.items()
        if isinstance(row, dict) and row.get("device") == device_name(device)
    }
    results = Results(folder)
    trained = {path.stem: results.record(path.stem) for path in folder.glob("runs/*.json")}
    return {
        "made_by": "make record",
        "revision": revision,
        **environment(device),
        **ran(results, chapters()),
        "trainings": {
            name: record["seconds"] for name, record in trained.items() if "folder" in record
        },
        "benchmarks": measured_here,
    }


def from_bare_gpu(file: Path) -> dict[str, Any]:
    """The record of what ``workflow.bare_gpu`` brought back.

    Raises:
        WorkflowError: the file is none of its, or the chapters were not run.
    """
    try:
        parts = json.loads(file.read_text(encoding="utf-8"))
        head = parts["environment"]
        book = parts["chapters"]["result"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkflowError(f"{file}: no results of workflow.bare_gpu ({error!r})") from error
    measured = {
        name: part["result"]
        for name, part in parts.items()
        if name not in ("environment", "chapters") and part.get("result") is not None
    }
    benchmarks = measured.pop("benchmarks", {})
    book = {name: value for name, value in book.items() if name != "said"}
    return {"made_by": "workflow.bare_gpu", **head, **book, **measured, "benchmarks": benchmarks}


def main() -> int:
    """Command line; the exit status is 2 for a request that was refused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--from", dest="file", type=Path, help="results.json of workflow.bare_gpu, instead of a run"
    )
    options = parser.parse_args()
    try:
        path = write(from_bare_gpu(options.file) if options.file else of_this_machine())
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Written: {shown(path)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
