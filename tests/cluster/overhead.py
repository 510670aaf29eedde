"""What the engine takes for each cell of a sweep.

    PYTHONPATH=.:tests/helpers .venv/bin/python tests/cluster/overhead.py 24    # cells

A throw-away book has one chapter with nothing in it. Its sweep runs twice through the local
profile, once with a runner that does nothing, which leaves Snakemake's scheduling alone, and once
with the book's own, which adds papermill and a kernel. From each, the time of a sweep with nothing
to do is taken off, and the rest is divided by the number of cells.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import yaml

from throwaway_book import Book

RUNNER_THAT_DOES_NOTHING = """
import sys, pathlib
pathlib.Path(sys.argv[-1]).mkdir(parents=True, exist_ok=True)
"""

LIMIT = 3.0  # seconds a cell


def sweep_time(book: Book, grid: Path) -> tuple[float, float]:
    """Seconds on the clock and seconds of processor time that one sweep takes."""

    def processor_time() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    started, before = time.perf_counter(), processor_time()
    done = book.run("-m", "workflow.sweep.grid", str(grid))
    if done.status:
        raise SystemExit(done.text)
    return time.perf_counter() - started, processor_time() - before


def overhead(n_cells: int, empty_runner: bool) -> tuple[float, float]:
    """Seconds a cell, on the clock and of processor time."""
    with tempfile.TemporaryDirectory() as folder:
        book = Book(Path(folder))
        book.chapter("01_first")
        if empty_runner:
            book.write("workflow/execute.py", RUNNER_THAT_DOES_NOTHING)
        grid = book.root / "grid.yml"
        cells = [{"chapter": "01_first", "parameters": {"steps": list(range(1, n_cells + 1))}}]
        grid.write_text(yaml.safe_dump({"cells": cells}))
        all_cells, nothing = sweep_time(book, grid), sweep_time(book, grid)
        clock, processor = ((a - b) / n_cells for a, b in zip(all_cells, nothing, strict=True))
        return clock, processor


def main() -> int:
    """Command line; the exit status is 1 where scheduling takes more than the limit."""
    n_cells = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    print(f"{n_cells} cells, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    engine = overhead(n_cells, empty_runner=True)
    print(f"scheduling: {engine[0]:.2f} s a cell on the clock, {engine[1]:.2f} s of processor time")
    whole = overhead(n_cells, empty_runner=False)
    print(
        f"with an empty notebook: {whole[0]:.2f} s a cell on the clock, {whole[1]:.2f} s of "
        f"processor time"
    )
    print(
        f"load {os.getloadavg()[0]:.1f} after; scheduling "
        f"{'within' if engine[0] <= LIMIT else 'ABOVE'} {LIMIT:.0f} s"
    )
    return int(engine[0] > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
