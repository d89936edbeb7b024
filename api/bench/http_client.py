"""A raw HTTP/1.1 client for load: whole requests made before, answers read no further than status and length.

    connection = Connection(answered, lost)
    await loop.create_connection(lambda: connection, host, port)
    connection.send(post("/collections/c/points/query", host, body))

A full client costs more than the server that is measured. One request at a time on each connection, kept alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

UNREADABLE = 0
"""The status of an answer that is not HTTP/1.1 with a content-length."""

_LENGTH = b"content-length:"


def request(method: str, path: str, host: str, body: bytes = b"", key: str | None = None) -> bytes:
    """The bytes of one request with a JSON body. path: percent-encoded; host: as in a URL, with the port."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if key:
        lines.append(f"api-key: {key}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection.

    answered: called with this connection, the status and the body, once for each request sent
    lost:     called once, when the connection has ended, by whomever
    """

    def __init__(self, answered: Callable[[Connection, int, bytes], None], lost: Callable[[Connection], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._read = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio calls it."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        """Send one request; the one before must be answered."""
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """asyncio calls it."""
        if self._read:
            data = self._read + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._read = data
            return
        head = data[:end].lower()
        at = head.find(_LENGTH)
        length = head[at + len(_LENGTH) :].split(b"\r\n", 1)[0].strip() if at >= 0 else b""
        if not head.startswith(b"http/1.1 ") or not length.isdigit():
            self._answered(self, UNREADABLE, data)
            self.close()
            return
        whole = end + 4 + int(length)
        if len(data) < whole:
            self._read = data
            return
        self._read = b""
        self._answered(self, int(head[9:12]), data[end + 4 : whole])

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio calls it."""
        self._transport = None
        self._lost(self)

    def close(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()
