"""Downloads in processes of their own, which are ended when nothing arrives any more.

Neither the hub's client nor pip promises to end: the hub's list of files is asked for without a
time limit, a server may say "later" for as long as it likes, a lock may be held by a process that
hangs. A call that waits inside a library can't be ended from outside; a process can.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STALL_SECONDS = 120.0
"""A download of which nothing arrives for so long is given up.

The hub's client writes 10 MB at a time: a line with less than 80 kB/s would look stalled.
"""

POLL_SECONDS = 0.5
"""How often to look at what has arrived."""

BYTES_PER_REPORT = 100_000_000
"""A line says how much has arrived after each so many bytes."""


def run_download(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command that downloads into a folder, and end it when the folder stops growing.

    Args:
        command: the program and its arguments.
        folder: where all that arrives is written, finished or not; it need not be there yet.
        environment: variables for the command, beside those of this process.

    Returns:
        Exit status and output of a command that came to its own end.

    Raises:
        TimeoutError: nothing arrived for :data:`STALL_SECONDS`.
    """
    begun_with = bytes_in(folder)
    said = 0
    size = begun_with
    last_growth = time.monotonic()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            while True:
                try:
                    output, errors = process.communicate(timeout=POLL_SECONDS)
                    return subprocess.CompletedProcess(command, process.returncode, output, errors)
                except subprocess.TimeoutExpired:
                    size_before = size
                    size = bytes_in(folder)
                if size != size_before:
                    last_growth = time.monotonic()
                if time.monotonic() - last_growth > STALL_SECONDS:
                    raise TimeoutError(f"nothing arrived for {STALL_SECONDS:.0f} seconds")
                if size - begun_with >= said + BYTES_PER_REPORT:
                    said = (size - begun_with) // BYTES_PER_REPORT * BYTES_PER_REPORT
                    print(f"  {said / 1e6:.0f} MB so far", flush=True)
        finally:
            process.kill()  # nothing to a process that has ended


def bytes_in(folder: Path) -> int:
    """The size of all files in a folder and its subfolders, those being written included."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except FileNotFoundError:  # finished, and moved to its place
                continue
    return total
