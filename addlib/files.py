"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes, remedy: str = "free some space, then run again") -> None:
    """Write a file so that it appears whole or not at all; a failed write leaves nothing behind.

    Args:
        path: target; missing folders are made.
        remedy: what a person can do where the write fails.

    Raises:
        OSError: the disk is full or the folder can't be written; the message names the file, its size and the remedy.
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
            error.errno, f"could not write {path} ({len(data) / 1e6:.1f} MB): {error.strerror}; {remedy}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
