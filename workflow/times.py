"""Where the time of a `make book` went, as a table in Markdown.

    python -m workflow.times                     of results/runs
    python -m workflow.times --results FOLDER    of another results folder

A row for each chapter, training and build of the site, in the order in which they started. What the
record of an older run doesn't say is a dash.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from addlib.files import write_whole
from addlib.usage import used
from workflow.chapters import Results

HEAD = "| job | start | seconds | threads | processor seconds | peak memory, MiB |"


@dataclass(frozen=True)
class Job:
    """A job of a run.

    Args:
        name: of the chapter, the training or the build.
        started: when. seconds: how long it took, with what it waited for.
        threads: that it was given; None where its record doesn't say, as for the others.
        processor_seconds: of all its processes. peak_memory_mib: of the largest of them.
    """

    name: str
    started: datetime
    seconds: float
    threads: int | None
    processor_seconds: float | None
    peak_memory_mib: int | None

    @property
    def ended(self) -> datetime:
        return self.started + timedelta(seconds=self.seconds)


def jobs(results: Results) -> list[Job]:
    """What has run to its end, by start; without a training that was found in the cache."""
    found = [_job(path.stem, results) for path in (results.folder / "runs").glob("*.json")]
    return sorted(filter(None, found), key=lambda job: job.started)


def _job(name: str, results: Results) -> Job | None:
    record = results.record(name)
    if "seconds" not in record:  # still running, or no record
        return None
    threads = record.get("threads")
    if finished := record.get("finished"):  # a training, whose record is the cache's
        last = record["sessions"][-1]
        threads = last["threads"]
        started = datetime.fromisoformat(finished) - timedelta(seconds=last["seconds"])
        if record.get("started", "") > finished:
            return None
        seconds = last["seconds"]
    else:
        started = datetime.fromisoformat(record["started"])
        seconds = record["seconds"]
    return Job(
        name=name,
        started=started,
        seconds=seconds,
        threads=threads,
        processor_seconds=record.get("processor_seconds"),
        peak_memory_mib=record.get("peak_memory_mib"),
    )


def table(ran: list[Job]) -> str:
    """The jobs as Markdown; starts are minutes and seconds after that of the first one.

    The last line has the time from the first start to the last end, and the processor seconds of
    all jobs that say theirs.
    """
    if not ran:
        return "Nothing has run yet."
    first = ran[0].started
    lines = [HEAD, "|---|--:|--:|--:|--:|--:|"]
    for job in ran:
        texts = [
            job.name,
            _clock(job.started - first),
            f"{job.seconds:.0f}",
            _text(job.threads),
            _text(job.processor_seconds),
            _text(job.peak_memory_mib),
        ]
        lines.append(f"| {' | '.join(texts)} |")
    total = max(job.ended for job in ran) - first
    processor = sum(job.processor_seconds or 0 for job in ran)
    lines.append(
        f"| **all** | {_clock(total)} | {total.total_seconds():.0f} | | {_text(processor)} | |"
    )
    return "\n".join(lines)


def _clock(time: timedelta) -> str:
    minutes, seconds = divmod(round(time.total_seconds()), 60)
    return f"{minutes}:{seconds:02}"


def _text(number: float | None) -> str:
    return "–" if number is None else f"{number:.0f}"


@contextmanager
def timed(file: Path | None) -> Iterator[None]:
    """Write a record of what this process does meanwhile, where it doesn't fail.

    Args:
        file: the record; None writes none.
    """
    started = datetime.now(UTC)
    yield
    if file is None:
        return
    record: dict[str, Any] = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 1),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        **used(),
    }
    write_whole(file, (json.dumps(record, indent=1) + "\n").encode())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, help="folder with the runs (default: results)")
    options = parser.parse_args()
    results = Results(options.results) if options.results else Results.default()
    print(table(jobs(results)))


if __name__ == "__main__":
    main()
