"""Finds a Chromium for `make pdf` and `make test`, and installs one where that is possible.

python -m workflow.browser    print its path; where there is none, say what to install
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

ADVICE = (
    "no browser was found: install Chromium or Google Chrome (Debian, Ubuntu: apt-get install "
    "chromium; Fedora: dnf install chromium; macOS: brew install --cask chromium), or set "
    "BROWSER_PATH to its program"
)


def find_browser() -> str | None:
    """The browser's program: ``BROWSER_PATH``, one on the PATH, playwright's, or None."""
    named = os.environ.get("BROWSER_PATH")
    if named and Path(named).is_file():
        return named
    return next(filter(None, map(shutil.which, NAMES)), None) or _playwright_browser()


def _playwright_browser() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.executable_path
    return program if Path(program).is_file() else None


def install_browser() -> str | None:
    """The program of a browser installed now, by playwright or, for root, by apt-get; or None."""
    print("No browser found; trying to install Chromium.", file=sys.stderr, flush=True)
    attempts = [[[sys.executable, "-m", "playwright", "install", "chromium"]]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        attempts.append(
            [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]]
        )
    for commands in attempts:
        if all(_succeeds(command) for command in commands) and (program := find_browser()):
            return program
    return None


def _succeeds(command: list[str]) -> bool:
    print("  " + " ".join(command[-3:]), file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main() -> int:
    """Command line; the exit status is 1 where there is no browser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    if program := find_browser() or install_browser():
        print(f"Browser: {program}")
        return 0
    print(f"error: {ADVICE}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
