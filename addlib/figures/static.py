"""Static files of figures (SVG, PDF, PNG), drawn by one browser that the first export starts."""

from __future__ import annotations

import asyncio
import atexit
import logging
from concurrent.futures import TimeoutError as NoAnswer
from functools import cache
from pathlib import Path
from threading import Thread

import plotly.graph_objects as go

from addlib.files import write_whole

START_TIMEOUT = 60  # seconds
DRAW_TIMEOUT = 120  # seconds

BROWSER_REMEDY = (
    "Static exports need a Chromium or Chrome. Install one (Debian, Ubuntu: `apt-get install "
    "chromium`; elsewhere: `kaleido_get_chrome`) or set BROWSER_PATH to its program. Figures in "
    "the notebook do not need it."
)


class NoBrowserError(RuntimeError):
    """No browser to draw with; the message says what to install."""


def save(fig: go.Figure, path: str | Path, *, width: int = 720, height: int | None = None) -> Path:
    """Write `fig` on a white page; the file appears whole or not at all.

    The first export starts a browser (3 to 7 s), the following ones take about 0.2 s each.

    Args:
        fig: the figure; it is not changed.
        path: target, ending in .svg, .pdf or .png; missing folders are made.
        width, height: size in CSS pixels; without a height the figure's own.

    Returns:
        The path written.

    Raises:
        NoBrowserError: where no browser is found or it does not start.
    """
    path = Path(path)
    drawn = go.Figure(fig)
    drawn.update_layout(paper_bgcolor="#ffffff", plot_bgcolor="#ffffff", font_color="#1f1f1f")
    options = dict(
        format=path.suffix.removeprefix("."),
        width=width,
        height=height or fig.layout.height or 380,
    )
    loop, browser = _browser()
    drawing = asyncio.run_coroutine_threadsafe(browser.calc_fig(drawn, opts=options), loop)
    write_whole(path, drawing.result(DRAW_TIMEOUT))
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
        raise NoBrowserError(
            f"{BROWSER_REMEDY} (reported: {error or type(error).__name__})"
        ) from error

    def close() -> None:
        # Its last message may come in two halves, which the library reports and ignores.
        logging.getLogger("choreographer.channels.pipe").setLevel(logging.CRITICAL)
        asyncio.run_coroutine_threadsafe(browser.close(), loop).result(START_TIMEOUT)
        loop.call_soon_threadsafe(loop.stop)

    atexit.register(close)
    return loop, browser
