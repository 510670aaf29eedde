"""A hub and a package index on this machine, which fall silent where a test wants them to."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from workflow.http_server import answering

REPOSITORY = "someone/something"
REVISION = "c0ffee" + "0" * 34


@dataclass
class Content:
    """What the server has, by path, and where it falls silent."""

    pages: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    silent: str = "nothing"  # a part of the requests ("GET /path") that get no answer at all
    midway: str = "nothing"  # and of those that get the first half of a page, and then nothing
    asked: list[str] = field(default_factory=list)  # all requests in their order

    def add_repository(self, folder: Path) -> None:
        """The files of a folder as :data:`REPOSITORY` of a hub, at :data:`REVISION`."""
        api = f"/api/models/{REPOSITORY}"
        tree = []
        for file in sorted(folder.iterdir()):
            data = file.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            tree.append({"type": "file", "path": file.name, "size": len(data), "oid": digest[:40]})
            page = f"/{REPOSITORY}/resolve/{REVISION}/{file.name}"
            self.pages[page] = data
            self.headers[page] = {"ETag": f'"{digest}"', "X-Repo-Commit": REVISION}
        about = {"id": REPOSITORY, "sha": REVISION, "siblings": []}
        for revision in ("main", REVISION):
            self.pages[f"{api}/revision/{revision}"] = json.dumps(about).encode()
        self.pages[f"{api}/tree/{REVISION}"] = json.dumps(tree).encode()

    def add_wheel(self, wheel: Path) -> None:
        """A wheel in an index of packages, ``/simple/``."""
        package = wheel.name.split("-")[0].replace("_", "-")
        self.pages[f"/wheels/{wheel.name}"] = wheel.read_bytes()
        self.pages[f"/simple/{package}/"] = f'<a href="/wheels/{wheel.name}">it</a>'.encode()
        self.headers[f"/simple/{package}/"] = {"Content-Type": "text/html"}


@contextmanager
def stalling_server(content: Content) -> Iterator[str]:
    """Serve what there is, and what is added later; what is given is the address."""
    closing = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Keep requests out of the terminal."""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            request = f"{self.command} {path}"
            content.asked.append(request)
            if content.silent in request:
                closing.wait()
                return
            page = content.pages.get(path)
            if page is None:
                self.send_error(404)
                return
            start = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
            part = page[int(start) :]
            self.send_response(206 if int(start) else 200)
            for name, value in content.headers.get(path, {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if content.midway in request:
                self.wfile.write(part[: len(part) // 2])
                closing.wait()
            else:
                self.wfile.write(part)

        do_HEAD = do_GET

    with answering(Handler) as address:
        try:
            yield address
        finally:
            closing.set()
