"""With this folder on PYTHONPATH, Python and what it starts have no network but this machine's."""

from __future__ import annotations

import socket

HERE = ("127.0.0.1", "::1", "localhost", "", None)

_connect, _connect_ex, _getaddrinfo = (
    socket.socket.connect,
    socket.socket.connect_ex,
    socket.getaddrinfo,
)


def _refuse(host: object) -> None:
    if host not in HERE:
        raise OSError(
            101, f"Network is unreachable: {host} was asked for in a test without a network"
        )


def connect(self: socket.socket, address: object) -> None:
    """Connect to this machine only."""
    if self.family != socket.AF_UNIX:
        _refuse(address[0])
    return _connect(self, address)


def connect_ex(self: socket.socket, address: object) -> int:
    """The same, with a number for an answer."""
    if self.family != socket.AF_UNIX:
        _refuse(address[0])
    return _connect_ex(self, address)


def getaddrinfo(host: object, *arguments: object, **options: object) -> list:
    """Look up this machine only."""
    _refuse(host.decode() if isinstance(host, bytes) else host)
    return _getaddrinfo(host, *arguments, **options)


socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = (
    connect,
    connect_ex,
    getaddrinfo,
)
