"""The chapters of the book, where their files are, and the record that each run leaves."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from addlib.claims.claim import DECLARED, MEASURED

ROOT = Path(__file__).resolve().parents[1]

CHAPTERS = ROOT / "workflow" / "chapters.yml"

RECORDS = ROOT / "addlib" / "data" / "records"
"""Runs of the book on machines, a file for each device: see workflow/record.py."""

NBVAL = ("test", "full")

DURATION = re.compile(r"(?:\d+ to )?(\d+) (s|min)\b")
"""A time in a ``run_time``; of a range, its end."""


class WorkflowError(Exception):
    """Something a person must put right; the message says what, and no traceback is needed."""


@dataclass(frozen=True)
class Chapter:
    """One entry of chapters.yml, whose head says what each key is."""

    name: str
    title: str
    part: str
    run_time: str
    weights: list[str] = field(default_factory=list)
    smoke: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)
    nbval: str = "test"
    threads: int = 1
    gpu_gib: int = 1

    @property
    def number(self) -> str:
        """The chapter's number, two digits."""
        return self.name[:2]

    @property
    def heading(self) -> str:
        """The first line of its page, without the mark: number and title."""
        return f"{self.number} · {self.title}"

    @property
    def seconds(self) -> int:
        """How long it takes at most, with what it does once, by its ``run_time``."""
        times = DURATION.findall(self.run_time)
        return sum(int(number) * (60 if unit == "min" else 1) for number, unit in times)

    @property
    def notebook(self) -> Path:
        """The committed notebook."""
        return ROOT / "notebooks" / f"{self.name}.ipynb"


def check_platform() -> None:
    """Refuse Windows, which lacks what the workflow needs to run and stop its processes.

    Raises:
        WorkflowError: this is Windows.
    """
    if sys.platform == "win32":
        raise WorkflowError("the workflow runs on Linux and macOS: on Windows, run it in WSL")


def chapters() -> dict[str, Chapter]:
    """All chapters by name, in the order of the book.

    Raises:
        WorkflowError: chapters.yml is not YAML, or has an unknown, missing or wrong entry.
    """
    try:
        entries = yaml.safe_load(CHAPTERS.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise WorkflowError(f"{CHAPTERS.name} is not YAML: {error}") from error
    return {name: _chapter(name, entry) for name, entry in entries.items()}


def device_records() -> list[dict[str, Any]]:
    """What machines that ran the whole book took and found: see workflow/record.py."""
    files = sorted(RECORDS.glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def recorded_seconds() -> dict[str, dict[str, float]]:
    """Seconds of each chapter that ran to its end, by device, as records of whole runs have them.

    All chapters were started from nothing, side by side.
    """
    return {
        record["device"]: {
            name: run["seconds"]
            for name, run in record["chapters"].items()
            if run["status"] == "done"
        }
        for record in device_records()
    }


def _chapter(name: str, entry: dict[str, Any]) -> Chapter:
    keys = ", ".join(key.name for key in fields(Chapter)[1:])
    try:
        chapter = Chapter(name=name, **entry)
    except TypeError as error:
        raise WorkflowError(f"{CHAPTERS.name}: {name}: {error}; keys: {keys}") from error
    if chapter.nbval not in NBVAL:
        raise WorkflowError(
            f"{CHAPTERS.name}: {name}: nbval = {chapter.nbval!r}: must be one of {', '.join(NBVAL)}"
        )
    if not chapter.seconds:
        raise WorkflowError(
            f"{CHAPTERS.name}: {name}: run_time = {chapter.run_time!r}: must name a time, like "
            "'65 s' or '6 min'"
        )
    for key in ("threads", "gpu_gib"):
        value = getattr(chapter, key)
        if not (isinstance(value, int) and value > 0):
            raise WorkflowError(
                f"{CHAPTERS.name}: {name}: {key} = {value!r}: must be a number from 1 on"
            )
    return chapter


@dataclass(frozen=True)
class Results:
    """The files that runs leave in one results folder."""

    folder: Path

    @classmethod
    def default(cls, smoke: bool = False) -> Results:
        """``ADDLIB_RESULTS``, else ``results``; smoke runs get a folder of their own inside it."""
        folder = ROOT / os.environ.get("ADDLIB_RESULTS", "results")
        return cls(folder / "smoke" if smoke else folder)

    def executed(self, chapter: str) -> Path:
        """The executed notebook: there when the whole chapter ran without an error."""
        return self.folder / "executed" / f"{chapter}.ipynb"

    def partial(self, chapter: str) -> Path:
        """What a run has so far; it stays when the run fails or is killed."""
        return self.folder / "partial" / f"{chapter}.ipynb"

    def log(self, chapter: str) -> Path:
        """What the chapter printed, and the traceback of a failure."""
        return self.folder / "logs" / f"{chapter}.log"

    def run(self, name: str) -> Path:
        """The record of a chapter's or a training's last run."""
        return self.folder / "runs" / f"{name}.json"

    def record(self, name: str) -> dict[str, Any]:
        """The last run's record, empty where there was none that can be read."""
        try:
            record = json.loads(self.run(name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def lock(self, chapter: str) -> FileLock:
        """What a process holds while it runs the chapter; the system frees it when that ends."""
        return FileLock(self.partial(chapter).with_suffix(".lock"))

    def is_running(self, chapter: str) -> bool:
        """Whether a process runs the chapter now."""
        lock = self.lock(chapter)
        if not Path(lock.lock_file).is_file():
            return False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def fault(self, chapter: str) -> str | None:
        """One line that says why the chapter's last run did not go through; None without one."""
        record = self.record(chapter)
        if record.get("failure"):
            return failure_line(chapter, record)
        if record.get("status") != "running":
            return None
        if self.is_running(chapter):
            return f"{chapter} is being run by another process"
        return f"{chapter} was cut off: its process was killed, or the machine stopped"

    @property
    def live(self) -> Path:
        """Folder of the model that the live page runs, exported by `workflow.live.page_data`."""
        return self.folder / "live"

    def claims(self, smoke: bool = False) -> list[dict[str, Any]]:
        """The claims ledger; for a smoke run, which is never collected, the records themselves.

        Records of another form, which an older book may have left, are not read.
        """
        if smoke:
            return self.measured("smoke")
        ledger = self.folder / "claims.json"
        found = json.loads(ledger.read_text(encoding="utf-8")) if ledger.is_file() else []
        return [record for record in found if set(record) >= {*DECLARED, *MEASURED}]

    def measured(self, folder: str = "") -> list[dict[str, Any]]:
        """The records of claims that chapters have written, in the order of ids.

        Args:
            folder: "smoke" for those of smoke runs.
        """
        found = []
        for path in sorted((self.folder / "claims" / folder).glob("*.json")):
            with suppress(ValueError, FileNotFoundError):  # foreign, or removed by its chapter now
                found.append(json.loads(path.read_text(encoding="utf-8")))
        return [record for record in found if set(record) >= {*DECLARED, *MEASURED}]


def failure_line(chapter: str, record: dict[str, Any]) -> str:
    """One line that says which cell of a chapter failed, and why."""
    failure = record["failure"]
    error = failure["error"].strip().splitlines()[0]
    if failure["cell"] is None:
        return f"{chapter} failed before its first cell: {error}"
    return f"{chapter} failed in cell {failure['cell']} (`{failure['source']}`): {error}"


def shown(path: Path) -> str:
    """A path as a person would type it in the repository's root."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
