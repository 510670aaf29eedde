"""Static files of figures (SVG, PDF, PNG), drawn by one browser that starts at the first export and
is reused.
"""

from __future__ import annotations

import asyncio
import atexit
from concurrent.futures import TimeoutError as NoAnswer
from functools import cache
from pathlib import Path
from threading import Thread

import plotly.graph_objects as go

from addlib.figures.palette import themed
from addlib.files import write_whole

FORMATS = ("svg", "pdf", "png")


START_TIMEOUT, DRAW_TIMEOUT = 60, 120  # seconds


REMEDY = (
    "Static exports need a Chromium or Chrome. Install one (Debian, Ubuntu: `apt-get install "
    "chromium`; elsewhere: "
    "`kaleido_get_chrome`) or set BROWSER_PATH to its program. Figures in the notebook do not need "
    "it."
)


class NoBrowserError(RuntimeError):
    """No browser to draw with; the message says what to install."""


def save(
    fig: go.Figure,
    path: str | Path,
    *,
    width: int = 720,
    height: int | None = None,
    scale: float = 1,
    dark: bool = False,
) -> Path:
    """Write `fig` to a file whose ending names the format; the file appears whole or not at all.

    The first export starts a browser (3 to 7 s), the following ones take about 0.2 s each.

    Args:
        fig: the figure; it is not changed.
        path: target, ending in .svg, .pdf or .png; missing folders are made.
        width, height: size in CSS pixels; without a height the figure's own.
        scale: pixels of a PNG per CSS pixel.
        dark: draw on the dark page colour instead of on white.

    Returns:
        The path written.

    Raises:
        ValueError: for another ending.
        NoBrowserError: where no browser is found or it does not start.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ValueError(
            f"path = {str(path)!r}: must end in one of {', '.join('.' + kind for kind in FORMATS)}"
        )
    drawn = themed(fig, dark)
    options = dict(
        format=kind, width=width, height=height or drawn.layout.height or 380, scale=scale
    )
    loop, browser = _browser()
    image = asyncio.run_coroutine_threadsafe(browser.calc_fig(drawn, opts=options), loop).result(
        DRAW_TIMEOUT
    )
    write_whole(path, image)
    return path


@cache
def _browser() -> tuple:
    """The event loop and the browser shared by all exports of this process; both close at exit.

    Kaleido's own `start_sync_server` blocks for ever where its browser does not start, hence this
    loop.
    """
    from choreographer.channels import ChannelClosedError
    from kaleido import Kaleido
    from kaleido.errors import BrowserFailedError, ChromeNotFoundError

    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, daemon=True, name="figure-export").start()

    async def start() -> Kaleido:
        browser = Kaleido(n=1, mathjax=False)  # its default mathjax is fetched from the network
        await browser.open()
        return browser

    try:
        browser = asyncio.run_coroutine_threadsafe(start(), loop).result(START_TIMEOUT)
    except (ChromeNotFoundError, BrowserFailedError, ChannelClosedError, NoAnswer) as error:
        loop.call_soon_threadsafe(loop.stop)
        raise NoBrowserError(f"{REMEDY} (reported: {error or type(error).__name__})") from error

    def close() -> None:
        asyncio.run_coroutine_threadsafe(browser.close(), loop).result(START_TIMEOUT)
        loop.call_soon_threadsafe(loop.stop)

    atexit.register(close)
    return loop, browser
