"""Runs the execution graph on this machine: `make book`.

    python -m workflow.run_graph           everything up to the site
    python -m workflow.run_graph chapters  the executed notebooks only

A chapter that fails does not stop the others. The site is then built all the same, the failed
chapter's page says what happened, and the last lines printed here say which cell failed. A run that
was killed is resumed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

import yaml

from workflow.chapter_list import check
from workflow.chapters import ROOT, Chapter, Results, WorkflowError, chapters, check_platform, shown
from workflow.early_site import early_sites
from workflow.gpus import usable
from workflow.site import SITE

STATE = ROOT / ".snakemake"

LOCAL = ROOT / "workflow" / "profiles" / "local"
"""Snakemake's settings for a run on this machine."""


def run(*targets: str) -> int:
    """Bring the targets up to date, ``all`` or files of the graph; the exit status.

    Raises:
        WorkflowError: another run is going on, or a list of chapters is out of step.
    """
    check()
    if fault := weights_fault():
        print(fault, file=sys.stderr)
    whole = "all" in targets
    with early_sites(_environment()) if whole else nullcontext():
        status = snakemake("workflow/Snakefile", targets)
    if status and whole and problems():
        _build_incomplete_site(_environment())
    return status


def snakemake(snakefile: str, targets: Sequence[str], *options: str, profile: Path = LOCAL) -> int:
    """Run a graph where the profile says, alone in this checkout; the exit status.

    A failed job does not stop those that don't need it.

    Raises:
        WorkflowError: another run is going on, or this is Windows.
    """
    check_platform()
    with _only_run() as lock:
        environment = _environment()
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            snakefile,
            "--directory",
            str(ROOT),
            *options,
        ]
        command += _settings(profile)
        # locks that a killed run left behind: no other run is alive, since we hold our own lock
        if any((STATE / "locks").glob("*")):
            subprocess.run(
                [*command, "--unlock", "--quiet", "all"], cwd=ROOT, env=environment, check=False
            )
        if profile == LOCAL and (gpus := usable()):
            # one job at least, be its GPU ever so small
            most = max([job.gpu_gib for job in chapters().values()], default=1)
            gib = max(most, sum(gpu.gib for gpu in gpus))
            command += ["--resources", f"gpu_gib={gib}"]
        return subprocess.run(
            [*command, "--", *targets], cwd=ROOT, env=environment, pass_fds=[lock.fileno()]
        ).returncode


def _settings(profile: Path) -> list[str]:
    """A profile as options; a local one is read here, since Snakemake would print that it did."""
    if profile != LOCAL:
        return ["--workflow-profile", str(profile)]
    settings = yaml.safe_load((LOCAL / "config.yaml").read_text(encoding="utf-8"))
    pairs = (
        [f"--{name}"] if value is True else [f"--{name}", str(value)]
        for name, value in settings.items()
    )
    return [option for pair in pairs for option in pair]


@contextmanager
def _only_run() -> Iterator[TextIO]:
    """One run at a time in one checkout.

    The child gets the lock too, and holds on to it where only the parent is killed.
    """
    import fcntl  # not on Windows

    STATE.mkdir(exist_ok=True)
    with (STATE / "book.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkflowError(
                "another run is going on in this folder; wait for its end"
            ) from None
        yield lock


def _environment() -> dict[str, str]:
    return {"ADDLIB_CACHE": str(ROOT / "weights"), **os.environ, "PYTHONUNBUFFERED": "1"}


def _build_incomplete_site(environment: dict[str, str]) -> None:
    """What the graph does last, with whatever chapters there are."""
    for command in (
        ["addlib.claims.ledger", "collect", "--tolerant"],
        ["workflow.stage_site", "--tolerant"],
        ["workflow.build_site", "--tolerant"],
    ):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, check=False)


def weights_fault() -> str | None:
    """A sentence where new weights can't be kept in the folder for them; None where they can."""
    folder = Path(_environment()["ADDLIB_CACHE"]).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return (
            f"The weights folder {folder} can't be written ({error.strerror}): what is in it is "
            "used, and for what is not, set ADDLIB_CACHE to another folder."
        )


def problems(asked: Collection[Chapter] = ()) -> list[str]:
    """One line for each chapter or training that is not there, or failed, and for its cause.

    Args:
        asked: these chapters alone; default the whole book.
    """
    results = Results.default()
    lines = []
    for chapter in asked or chapters().values():
        if fault := results.fault(chapter.name):
            lines.append(fault)
        elif missing := [name for name in chapter.weights if not results.run(name).is_file()]:
            lines.append(f"{chapter.name} did not run: no trained weights {', '.join(missing)}")
        elif not results.executed(chapter.name).is_file():
            lines.append(f"{chapter.name} did not run to its end")
    if not asked and not (results.live / "page.json").is_file():
        lines.append("the model was not exported for the live page")
    if lines and (fault := weights_fault()):
        lines.append(fault)
    return lines


def main() -> int:
    """Command line; the exit status is not 0 where anything is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="?", default="all", choices=("all", "chapters"))
    options = parser.parse_args()
    try:
        status = run(options.target)
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; run it again, and it goes on where it was.", file=sys.stderr)
        return 130
    if status:
        lines = problems() or [
            "All chapters ran, but what comes after them failed; the reason stands above."
        ]
        print("\n".join(["", *lines, "The book is not complete."]), file=sys.stderr)
        return status
    if options.target == "all":
        print(f"The book is up to date: {shown(SITE / 'index.html')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
