"""Files that appear whole or not at all, and the folder that results go to."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


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
        size = f"{len(data) / 1e6:.1f} MB"
        message = f"could not write {path} ({size}): {error.strerror}; {remedy}"
        raise OSError(error.errno, message) from error
    finally:
        temporary.unlink(missing_ok=True)


def results_dir() -> Path:
    """Folder of claims and exports: ``ADDLIB_RESULTS``, default ``results``.

    A relative folder lies in the repository where `addlib` runs from a checkout, else in the
    working directory.
    """
    is_checkout = (PACKAGE.parent / "pyproject.toml").is_file()
    home = PACKAGE.parent if is_checkout else Path.cwd()
    return home / os.environ.get("ADDLIB_RESULTS", "results")
