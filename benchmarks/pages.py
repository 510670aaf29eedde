"""How soon a reader sees something, in Chromium on this machine.

    python benchmarks/pages.py    # adds to benchmarks/results.json and prints a table

The site must be built; it is served from this machine. Timed are the first figure of each page and
the live page. Each load starts with an empty cache; times run from the request of the page. A
keystroke is timed from its event until the answer, the probabilities and all staircases are drawn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from rows import add_rows

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from workflow.browser import find_browser  # noqa: E402
from workflow.http_server import serving  # noqa: E402

LOADS, KEYSTROKES = 7, 60

MARKS = ".cartesianlayer :is(.trace path, .hm image), svg:not(.main-svg) path, canvas"
FIRST = f"document.querySelector('.addlib-figure')?.querySelector('{MARKS}')"

READY = "window.addlibLive?.last && !document.querySelector('#live[hidden]')"


def seconds_until(chromium: Browser, url: str, condition: str) -> list[float]:
    """Seconds of several loads of a page, each until the condition holds."""
    found = []
    for _ in range(LOADS):
        page = chromium.new_context().new_page()
        page.goto(url, wait_until="commit")
        page.wait_for_function(condition)
        found.append(page.evaluate("performance.now()") / 1000)
        page.context.close()
    return found


def first_figures(chromium: Browser, url: str, site: Path) -> dict[str, float]:
    """Median seconds until the first figure of each page that has one is drawn."""
    pages = sorted(
        path for folder in ("book", "notebooks") for path in (site / folder).glob("*.html")
    )
    names = [
        str(page.relative_to(site))
        for page in pages
        if 'class="addlib-figure"' in page.read_text("utf-8")
    ]
    return {name: round(median(seconds_until(chromium, url + name, FIRST)), 2) for name in names}


def live_page(chromium: Browser, url: str) -> dict[str, Any]:
    """Medians of several loads of the live page, and of many keystrokes there."""
    loads, keys = seconds_until(chromium, url + "book/live.html", READY), []
    page = chromium.new_page()
    page.goto(url + "book/live.html")
    page.wait_for_function(READY)
    for number in range(KEYSTROKES):
        page.locator("#live-x").fill(str(12345 + 7 * number))
        page.wait_for_function(f"addlibLive.last.q.x[0] === {(12345 + 7 * number) % 10}")
        keys.append(page.evaluate("addlibLive.last.ms"))
    return {
        "usable_s": round(median(loads), 2),
        "keystroke_ms": round(median(keys), 1),
        "keystroke_ms_worst_of_ten": round(sorted(keys)[-len(keys) // 10], 1),
        "keystrokes": KEYSTROKES,
    }


def main() -> None:
    site = ROOT / "_build" / "html"
    if not (site / "_static" / "live" / "model.js").is_file():
        raise SystemExit("There is no site with a live page yet: run 'make book' first.")
    with sync_playwright() as playwright, serving(site) as url:
        chromium = playwright.chromium.launch(
            executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"]
        )
        figures, live = first_figures(chromium, url, site), live_page(chromium, url)
        chromium.close()
    here = {"loads": LOADS, "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)}
    add_rows({"first_figure_s": figures | here, "live_page": live | here})
    slowest = max(figures, key=lambda name: figures[name])
    print(
        f"first figure after {median(figures.values()):.2f} s, slowest {slowest}: "
        f"{figures[slowest]} s (medians)"
    )
    print(
        f"live page: usable after {live['usable_s']} s, a keystroke answered in "
        f"{live['keystroke_ms']} ms (medians)"
    )
    print(f"one keystroke in ten takes {live['keystroke_ms_worst_of_ten']} ms or more")


if __name__ == "__main__":
    main()
