"""Files that appear whole or not at all, whatever happens while they are written; folders that one
process holds.

The ledger of claims: a threshold fixed before the run, a measured value, and the verdict that
follows from both.

A notebook declares each claim and hands it the measured value; every claim becomes one file under
``claims/``. ``python -m addlib.claims.ledger.ledger collect`` checks the files, gathers them into ``claims.json``
and prints the score.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def write_whole(path: Path, data: bytes, remedy: str = "free some space, then run again") -> None:
    """Write a file so that it appears whole or not at all; a failed write leaves nothing behind.

    Args:
        path: target; missing folders are made.
        remedy: what a person can do where the write fails.

    Raises:
        OSError: the disk is full or the folder can't be written; the message names the file, its
            size and the remedy.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path} ({len(data) / 1e6:.1f} MB): {error.strerror}; {remedy}",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def held(folder: Path, busy: str) -> Iterator[None]:
    """Hold a folder for this process, and clear it of what a killed one left half-written.

    Another process that asks prints "Another process ``busy``" and waits. The lock is a file beside
    the folder.
    """
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        print(f"Another process {busy}; waiting for it to finish.", flush=True)
        lock.acquire()
    try:
        for leftover in folder.glob(".*.tmp"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield
    finally:
        lock.release()


PACKAGE = Path(__file__).resolve().parent


# ------------------------------------------------------------------ where and what
def results_dir() -> Path:
    """Folder of claims and exports: ``ADDLIB_RESULTS``, default ``results``.

    A relative folder lies in the repository where `addlib` runs from a checkout, else in the
    working directory.
    """
    checkout = (PACKAGE.parent / "pyproject.toml").is_file()
    return (PACKAGE.parent if checkout else Path.cwd()) / os.environ.get(
        "ADDLIB_RESULTS", "results"
    )
