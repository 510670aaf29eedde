"""How long the live page takes to be usable, and to answer a keystroke, in Chromium on this machine.

    python benchmarks/live_page.py             # adds to benchmarks/results.json and prints a table

The site must be built. Each load starts with an empty cache; a keystroke is timed from its event until the answer, the
probabilities and all staircases are drawn.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright
from train_step import RESULTS

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "workflow"))

from browser import find_browser  # noqa: E402
from served import served  # noqa: E402

LOADS, KEYSTROKES = 7, 60

READY = "window.addlibLive?.last && !document.querySelector('#live[hidden]')"


def main() -> None:
    """Medians of several loads, and of many keystrokes on the last page that was loaded."""
    site = ROOT / "_build" / "html"
    if not (site / "_static" / "live" / "model.js").is_file():
        raise SystemExit("There is no site with a live page yet: run 'make book' first.")
    loads, keys = [], []
    with sync_playwright() as playwright, served(site) as url:
        chromium = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        for _ in range(LOADS):
            page = chromium.new_context().new_page()
            page.goto(url + "book/live.html", wait_until="commit")
            page.wait_for_function(READY)
            loads.append(page.evaluate("performance.now()"))
        for number in range(KEYSTROKES):
            page.locator("#live-x").fill(str(12345 + 7 * number))
            page.wait_for_function(f"addlibLive.last.q.x[0] === {(12345 + 7 * number) % 10}")
            keys.append(page.evaluate("addlibLive.last.ms"))
        chromium.close()
    row = {
        "usable_s": round(median(loads) / 1000, 2),
        "keystroke_ms": round(median(keys), 1),
        "keystroke_ms_worst_of_ten": round(sorted(keys)[-len(keys) // 10], 1),
        "loads": LOADS,
        "keystrokes": KEYSTROKES,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**results, "live_page": row}, indent=1) + "\n")
    print(f"live page: usable after {row['usable_s']} s, a keystroke answered in {row['keystroke_ms']} ms (medians)")
    print(f"one keystroke in ten takes {row['keystroke_ms_worst_of_ten']} ms or more")


if __name__ == "__main__":
    main()
