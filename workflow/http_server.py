"""A folder on localhost, for the browser tests, the timings and the printing of the site."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The folder on localhost; what is given is its address, with a slash at the end."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Keep requests out of the terminal."""

    with answering(functools.partial(Quiet, directory=str(folder))) as address:
        yield f"{address}/"


@contextmanager
def answering(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on localhost whose requests the handler answers; what is given is its address."""

    class Patient(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that leaves before all of it came is no fault."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    with Patient(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
