"""What must be true of a page of the built site; each check returns its faults, in words."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

from playwright.sync_api import Browser, Page

MAX_PAGE_BYTES = 3_000_000

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

PATIENCE_MS = 60_000
"""How long a page may take on a busy machine before what it lacks counts as a fault."""

FAULTS = Path(__file__).with_name("faults.js").read_text(encoding="utf-8")
"""Runs in the page and returns the faults that only a browser can see."""


class _Links(HTMLParser):
    """The anchors that a page has and the links that it makes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := found.get(key))}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])


@functools.cache
def _links(path: Path, changed: int) -> _Links:
    return _Links(path.read_text(encoding="utf-8"))


def file_faults(site: Path, page: Path) -> list[str]:
    """Size and links of one HTML file; links to other hosts are left alone."""
    faults = []
    if page.stat().st_size > MAX_PAGE_BYTES:
        faults.append(f"the page has {page.stat().st_size / 1e6:.1f} MB")
    for link in _links(page, page.stat().st_mtime_ns).links:
        address, anchor = urldefrag(link)
        if ":" in address or address.startswith("//"):
            continue
        target = (page.parent / unquote(address)).resolve() if address else page
        if not target.is_file() or site.resolve() not in target.resolve().parents:
            faults.append(f"link {link} leads nowhere")
        elif anchor and target.suffix == ".html":
            anchors = _links(target, target.stat().st_mtime_ns).anchors
            if unquote(anchor) not in anchors:
                faults.append(f"link {link}: the page has no such place")
    return faults


def browser_faults(
    browser: Browser,
    url: str,
    themes: Sequence[str] = ("light",),
    viewport: dict | None = None,
    patience: float = PATIENCE_MS,
    tries: int = 12,
) -> list[str]:
    """Open one page as a reader would; on a fault keep a picture in ``_build/screenshots``.

    Args:
        themes: the one in which it is opened, then those to which it is changed.
    """
    faults: list[str] = []
    context = browser.new_context(viewport=viewport or DESKTOP)
    first = themes[0]
    context.add_init_script(
        f"localStorage.setItem('mode', '{first}'); localStorage.setItem('theme', '{first}')"
    )
    page = context.new_page()
    origin = url.split("/", 3)[:3]
    local = (
        ("/".join(origin) + "/") if url.startswith("http") else "file:",
        "data:",
        "blob:",
        "about:",
    )

    def guard(route) -> None:
        if route.request.url.startswith(local):
            route.continue_()
        else:
            faults.append(f"asks another host: {route.request.url}")
            route.abort()

    page.route("**/*", guard)
    page.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.on(
        "response",
        lambda r: faults.append(f"status {r.status}: {r.url}") if r.status >= 400 else None,
    )
    try:
        page.goto(url, timeout=PATIENCE_MS)
        for theme in themes:
            if theme != first:
                page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            faults += lasting_faults(page, theme, patience, tries)
        if faults:
            folder = Path("_build/screenshots")
            folder.mkdir(parents=True, exist_ok=True)
            width = (viewport or DESKTOP)["width"]
            name = "-".join(url.split("?")[0].split("/")[-2:]).removesuffix(".html")
            page.screenshot(path=folder / f"{name}-{theme}-{width}.png", full_page=True)
    finally:
        context.close()
    return faults


def lasting_faults(
    page: Page, theme: str, patience: float = PATIENCE_MS, tries: int = 12
) -> list[str]:
    """What is wrong on an open page at rest: on a busy machine scripts may recolour and fit late."""
    wait_until_drawn(page, patience)
    for _ in range(tries):
        if not (faults := page.evaluate(FAULTS, [theme])):
            break
        page.wait_for_timeout(250)
    return faults


def wait_until_drawn(page: Page, timeout: float = PATIENCE_MS) -> None:
    """Wait for figures and formulas; of a page that never gets there the checks name what lacks."""
    every = "[...document.querySelectorAll({})].every((node) => node.querySelector({}))".format
    plots = every(
        '".addlib-figure [id^=plot-]:not(button)"', '".cartesianlayer :is(.trace, .hm image)"'
    )
    formulas = every('".math"', '"mjx-container"')
    done = f"() => {plots} && {formulas}"
    try:
        page.wait_for_function(done, timeout=timeout)
    except Exception as error:
        if "Timeout" not in str(error):
            raise
