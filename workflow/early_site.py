"""The site while chapters are still running: what there is can be read at once.

    python -m workflow.early_site    builds _build/html of the chapters that have run so far

`make book` builds it when the first chapter has run, when the second has, and when half of all
have. It shows what there is; what is still to come is marked (`workflow.first_page`). It never
takes the place of a complete site.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from filelock import FileLock

from workflow.chapters import ROOT, Results, WorkflowError, chapters, shown
from workflow.site import COMPLETE, SITE, shown_chapters
from workflow.times import timed

STAGE = ROOT / "_build" / "early"

LOOK_SECONDS = 1.0
"""Seconds between two looks at which chapters have run."""


def reached(done: Collection[str], names: Sequence[str]) -> int:
    """How many of the milestones are reached: the first chapter, the second, half of all.

    Args:
        done: the chapters that have run. names: all of them, in the order of the book.
    """
    return sum([*(name in done for name in names[:2]), 2 * len(done) >= len(names)])


def executed(results: Results) -> list[str]:
    """The chapters that have run."""
    return [name for name in chapters() if results.executed(name).is_file()]


@contextmanager
def early_sites(environment: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile, build the early site at each milestone that the site doesn't show yet.

    A process of its own builds; it is stopped where the complete site is about to be built, or at
    the end. Nothing is done where a complete site stands.

    Args:
        environment: of the process that builds.
    """
    end = threading.Event()
    watch = threading.Thread(target=_watch, args=(end, environment), daemon=True)
    watch.start()
    try:
        yield
    finally:
        end.set()
        watch.join()


def _watch(end: threading.Event, environment: Mapping[str, str]) -> None:
    if (SITE / COMPLETE).is_file():
        return
    results = Results.default()
    names = list(chapters())
    built = reached(shown_chapters(SITE), names)
    while not end.wait(LOOK_SECONDS):
        done = executed(results)
        if len(done) == len(names) or reached(done, names) <= built:
            continue
        built = reached(done, names)
        command = [sys.executable, "-m", "workflow.early_site"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        while process.poll() is None:
            if end.wait(LOOK_SECONDS) or len(executed(results)) == len(names):
                process.terminate()
                process.wait()


def build_early(results: Results) -> int:
    """Build the site of what there is; the number of its pages, 0 where a complete one stands.

    Raises:
        WorkflowError: Jupyter Book reported an error.
    """
    from workflow.build_site import build  # takes seconds, and who watches does not need it
    from workflow.stage_site import stage

    number = reached(executed(results), list(chapters()))
    STAGE.parent.mkdir(exist_ok=True)
    with FileLock(STAGE.with_name(".early.lock")), timed(results.run(f"early_site_{number}")):
        stage(results, STAGE, tolerant=True, early=True)
        return build(STAGE, SITE, tolerant=True, early=True)


def main() -> int:
    """Command line; the exit status is 1 where the site was not built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    # an exception, so that Jupyter Book is stopped too and nothing half-built stays
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        pages = build_early(Results.default())
    except (WorkflowError, OSError) as error:
        reason = str(error).splitlines()[-1]
        print(f"The early site was not built ({reason}); the chapters go on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    if pages:
        numbers = ", ".join(name[:2] for name in shown_chapters(SITE))
        print(
            f"\n{shown(SITE / 'index.html')} can be read now: chapters so far: {numbers}; "
            "the others go on.",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
