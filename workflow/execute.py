"""Runs one chapter's notebook through papermill.

    python -m workflow.execute 02_training
    python -m workflow.execute 02_training -p steps 30000 -p n_digits 10
    python -m workflow.execute 02_training --smoke

A parameter that the notebook does not declare is refused before anything starts. While the chapter
runs, its notebook so far lies in ``results/partial/``; when it is done it moves to
``results/executed/``. ``results/runs/<chapter>.json`` says with which parameters, where, how long
and how it ended, also where it was stopped by a signal. Only a process that was killed leaves a
record that says "running"; the run's lock then is free.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import nbformat
from filelock import Timeout
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.reader import NotJSONError
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler, papermill_io

from addlib.claims.provenance import revision
from addlib.files import write_whole
from addlib.usage import used
from workflow.chapters import (
    ROOT,
    Chapter,
    Results,
    WorkflowError,
    chapters,
    check_platform,
    failure_line,
    shown,
)
from workflow.gpus import device_for
from workflow.kernel import OUTPUT_SECONDS, KernelStartError, execute_notebook
from workflow.notebook_cells import first_line, last_started
from workflow.parameters import check_parameters, declared_defaults, value_of
from workflow.prose import check_prose

PACKAGES = ("torch", "transformer_lens", "numpy", "plotly", "papermill")

ANSI = re.compile(r"\x1b\[[0-9;]*m")

WHOLE = "whole:"
"""In front of a path: papermill then writes the notebook through :class:`_WholeFiles`."""


def execute(
    chapter: Chapter, parameters: Mapping[str, Any], results: Results, smoke: bool = False
) -> dict[str, Any]:
    """Run the chapter and return the record of the run, which is also written to ``runs/``.

    Raises:
        WorkflowError: the notebook or a parameter is not there, or a cell of prose has a fault.
    """
    check_prose(chapter)
    check_parameters(chapter, parameters)
    _set_environment(results, smoke)
    with _lock(results, chapter.name):
        record = {
            "chapter": chapter.name,
            "status": "running",
            "parameters": dict(parameters),
            "smoke": smoke,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "revision": None,
            "versions": {},
            "device": None,
        }
        begun = time.perf_counter()
        failure: dict[str, Any] | None = {
            "cell": None,
            "source": None,
            "error": "it did not come to its end",
        }
        try:
            _write_record(results, record)
            results.executed(chapter.name).unlink(missing_ok=True)  # a graph then runs it again
            results.partial(chapter.name).unlink(missing_ok=True)
            _remove_old_claims(results, chapter.name)
            record["revision"] = revision()
            record["versions"] = {package: metadata.version(package) for package in PACKAGES}
            wanted = parameters.get("device", declared_defaults(chapter).get("device", "auto"))
            with device_for(wanted, chapter.gpu_gib, chapter.name) as device:
                record["device"] = device
                _write_record(results, record)
                _run(chapter, parameters, results)
            record["device"] = _measured_on(results, chapter.name) or record["device"]
            failure = None
        except BaseException as error:
            failure = _place(results.partial(chapter.name)) | {"error": _reason(error)}
            if not isinstance(error, Exception):
                raise
        finally:
            _ignore_signals()
            record |= {
                "status": "failed" if failure else "done",
                "failure": failure,
                "seconds": round(time.perf_counter() - begun, 1),
                "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
                **used(),
            }
            _write_record(results, record)
    return record


def _run(chapter: Chapter, parameters: Mapping[str, Any], results: Results) -> None:
    """Execute into the partial notebook and move it to the executed ones."""
    partial = results.partial(chapter.name)
    executed = results.executed(chapter.name)
    log = results.log(chapter.name)
    for path in (partial, executed, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        try:
            execute_notebook(
                chapter.notebook,
                f"{WHOLE}{partial}",
                parameters,
                chapter.name,
                cwd=chapter.notebook.parent,
                progress_bar={
                    "desc": chapter.name,
                    "mininterval": 0.5 if sys.stderr.isatty() else 10,
                    "file": sys.stderr,
                },
                stdout_file=file,
                stderr_file=_Both(file, sys.stderr),
            )
        except PapermillExecutionError as error:
            file.write("\n" + ANSI.sub("", "\n".join(error.traceback)) + "\n")
            raise
        except Exception:
            with suppress(OSError):  # a full disk
                file.write("\n" + traceback.format_exc())
                file.flush()
            raise
    partial.replace(executed)


def _place(partial: Path) -> dict[str, Any]:
    """Number and first line of the cell that a run stopped in; None where it got to no cell."""
    try:
        started = last_started(nbformat.read(partial, as_version=4))
    except (OSError, NotJSONError):  # there is none, or none that can be read
        started = None
    if started is None:
        return {"cell": None, "source": None}
    number, cell = started
    return {"cell": number, "source": first_line(cell.source)}


def _reason(error: BaseException) -> str:
    """One sentence on what ended a run."""
    match error:
        case PapermillExecutionError():
            return ANSI.sub("", f"{error.ename}: {error.evalue}")
        case DeadKernelError():
            return "the kernel died; most often the machine was out of memory"
        case CellTimeoutError():
            return f"the cell's output did not arrive within {OUTPUT_SECONDS} seconds of its end"
        case KernelStartError() | WorkflowError():
            return str(error)
        case KeyboardInterrupt():
            return f"it was stopped by {error}"
        case OSError():
            return _disk_reason(error)
    text = str(error).strip() or "no message"
    return f"{type(error).__name__}: {text.splitlines()[0]}"


def _disk_reason(error: OSError) -> str:
    reason = str(error.strerror or error)
    if error.filename:
        reason += f": {error.filename}"
    if error.errno == errno.ENOSPC and "free some space" not in reason:
        reason += "; free some space, then run again"
    return reason


class _WholeFiles(LocalHandler):
    """Saves whole files: papermill saves after each cell, and a run may be killed meanwhile."""

    def write(self, buf: str, path: str) -> None:
        write_whole(Path(path.removeprefix(WHOLE)), buf.encode())


papermill_io.register(WHOLE, _WholeFiles())


class _Both:
    """Writes to a log and to the terminal, so that a training's progress is seen."""

    def __init__(self, *files: TextIO) -> None:
        self.files = files

    def write(self, text: str) -> None:
        for file in self.files:
            file.write(text)

    def flush(self) -> None:
        for file in self.files:
            file.flush()


def _set_environment(results: Results, smoke: bool) -> None:
    """What the kernel needs to know; it inherits this process's environment."""
    os.environ["ADDLIB_RESULTS"] = str(results.folder.resolve())
    os.environ["ADDLIB_SMOKE"] = "1" if smoke else ""
    if smoke:  # threads only wait for each other on tiny matrices
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("ADDLIB_CACHE", str(ROOT / "weights"))
    # this environment's python3 kernel, not one in the user's home
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    # else each kernel prints a debugger's warning, and tqdm one about bars for notebooks
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")


@contextmanager
def _lock(results: Results, chapter: str) -> Iterator[None]:
    """One run of a chapter at a time in one results folder; a killed run's lock is free at once."""
    lock = results.lock(chapter)
    results.partial(chapter).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        print(
            f"{chapter}: another process is running it; waiting for that one to end.",
            file=sys.stderr,
            flush=True,
        )
        lock.acquire()
    try:
        if results.record(chapter).get("status") == "running":
            print(
                f"{chapter}: its last run was cut off; it starts again.",
                file=sys.stderr,
                flush=True,
            )
        yield
    finally:
        lock.release()


def _claim_files(results: Results, chapter: str) -> Iterator[Path]:
    """The files of a chapter's claims."""
    for path in (results.folder / "claims").rglob("*.json"):
        # another chapter, which starts at the same time, may have removed its own meanwhile
        with suppress(FileNotFoundError):
            if f'"chapter": "{chapter}"'.encode() in path.read_bytes():
                yield path


def _remove_old_claims(results: Results, chapter: str) -> None:
    """Remove the claims of an earlier run, which may have had other ids."""
    for path in _claim_files(results, chapter):
        path.unlink()


def _measured_on(results: Results, chapter: str) -> str:
    """The devices that a chapter's claims name; empty where it has none."""
    claims = [json.loads(path.read_bytes()) for path in _claim_files(results, chapter)]
    return ", ".join(sorted({claim["device"] for claim in claims}))


def _write_record(results: Results, record: Mapping[str, Any]) -> None:
    """Write the run's record; on a full disk over the one that is there, which takes no space."""
    path = results.run(record["chapter"])
    data = (json.dumps(record, indent=1) + "\n").encode()
    try:
        write_whole(path, data)
    except OSError:
        if not path.is_file():
            raise
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()


def _mark(file: Path) -> str:
    """Twelve digits that tell a model's file from others of its name: of its content, or path."""
    from addlib.store import key_of, sha256  # here, since torch takes seconds

    return (sha256(file) if file.is_file() else key_of({"path": str(file)}))[:12]


def _ending_signals() -> list[signal.Signals]:
    """The signals that ask a process to end."""
    return [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]  # the last one is not on Windows


def _stop_on_signals() -> None:
    """Let the signals that ask a process to end raise KeyboardInterrupt with their name, once."""
    # what is ignored stays so: nohup's SIGHUP, a background job's SIGINT
    for number in _ending_signals():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    raise KeyboardInterrupt(signal.Signals(number).name)


def _ignore_signals() -> None:
    """Let nothing interrupt the last record, where signals were heeded until now."""
    for number in _ending_signals():
        if signal.getsignal(number) == _stop:
            signal.signal(number, signal.SIG_IGN)


def main() -> int:
    """Command line; the exit status is 1 for a run that failed, 2 for a request that was refused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chapter", help="name of the notebook, without its ending")
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a run of seconds: chapters.yml's smoke parameters"
    )
    parser.add_argument(
        "--results", type=Path, help="folder for what the run leaves (default: results)"
    )
    options = parser.parse_args()
    try:
        check_platform()
        known = chapters()
        if options.chapter not in known:
            raise WorkflowError(
                f"there is no chapter {options.chapter!r}; chapters: {', '.join(known)}"
            )
        chapter = known[options.chapter]
        parameters = chapter.smoke if options.smoke else {}
        parameters = parameters | {name: value_of(text) for name, text in options.parameter}
        results = (
            Results(options.results.resolve())
            if options.results
            else Results.default(options.smoke)
        )
        if parameters.get("weights_file"):
            file = Path(str(parameters["weights_file"])).expanduser().resolve()
            parameters["weights_file"] = str(file)  # the kernel starts in another folder
            if not options.results:  # the book's own results stay as they are
                results = Results(results.folder / "models" / f"{file.stem}-{_mark(file)}")
        _stop_on_signals()
        record = execute(chapter, parameters, results, options.smoke)
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # the run's record can't be written either
        print(f"error: {options.chapter} stopped: {_disk_reason(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"{options.chapter}: stopped by {stop}.", file=sys.stderr)
        return 1
    except Exception as error:
        print(f"error: {options.chapter} stopped: {_reason(error)}", file=sys.stderr)
        return 1
    if record["status"] == "failed":
        print(failure_line(chapter.name, record), file=sys.stderr)
        print(f"  partial notebook: {shown(results.partial(chapter.name))}", file=sys.stderr)
        print(f"  log: {shown(results.log(chapter.name))}", file=sys.stderr)
        return 1
    print(
        f"{chapter.name}: {record['seconds']:.0f} s, {record['peak_memory_mib']} MiB, "
        f"{record['device']}",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
