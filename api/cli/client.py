"""Talks to a server: at a URL, or over the Unix socket of its data directory. Errors become `VssError`.

A server at a URL may want a key: it is taken from VSS_API_KEY, as the server takes its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import msgspec

from vss.errors import Code, VssError, invalid
from vss.jobs.messages import error_of
from vss.jobs.remote import socket_transport
from vss.storage.datadir import DataDir


class Client:
    """One server. VssError: UNAVAILABLE when nothing answers, else what the server says."""

    def __init__(self, url: str | None, data: Path, *, timeout: float = 60.0) -> None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise invalid(f"got the URL {url!r}, wanted one that begins with http:// or https://", field="--url")
        self._shown = url or f"the socket in {data}"
        try:
            transport = None if url else socket_transport(DataDir(data))
        except OSError as error:
            raise self._silent(error) from error
        key = os.environ.get("VSS_API_KEY")
        self._http = httpx.Client(
            base_url=url or "http://vss",
            transport=transport,
            timeout=timeout,
            trust_env=False,
            headers={"api-key": key} if key else {},
        )

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """The whole answer's JSON."""
        content = None if body is None else msgspec.json.encode(body)
        try:
            answer = self._http.request(method, path, content=content, headers={"content-type": "application/json"})
        except (httpx.HTTPError, OSError, httpx.InvalidURL) as error:
            raise self._silent(error) from error
        if answer.is_error:
            raise error_of(answer.status_code, answer.content)
        return msgspec.json.decode(answer.content)

    def _silent(self, error: Exception) -> VssError:
        return VssError(
            Code.UNAVAILABLE,
            f"no server answers at {self._shown}: {error}",
            hint="start one with vss serve, or name one with --url",
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
