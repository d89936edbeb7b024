"""Metrics of every request, and a log line for those that failed of our side (or all, when asked for)."""

from __future__ import annotations

import logging
from time import perf_counter

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from api.middleware.auth import on_unix_socket
from api.writer import FORWARDED

log = logging.getLogger("vss.access")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observe:
    """Counts and times requests by method, route and status. No ids, no queries, no keys are logged.

    What a reader sends to the writer was counted by the reader.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, log_all: bool) -> None:
        self.app = app
        self.metrics = metrics
        self.log_all = log_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _forwarded(scope):
            await self.app(scope, receive, send)
            return
        status = 499  # the client went before an answer was sent

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_and_see)
        finally:
            self.metrics.in_flight.dec()
            self._done(scope, status)

    def _done(self, scope: Scope, status: int) -> None:
        seconds = perf_counter() - scope["vss.started"]
        # Both labels come from clients unless they are known: keep their number bounded.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.request_seconds.labels(method, route).observe(seconds)
        if self.log_all or status >= 500:
            line = {
                "method": method,
                "route": route,
                "status": status,
                "milliseconds": round(seconds * 1000, 3),
                "request_id": scope["vss.request_id"],
            }
            log.log(logging.WARNING if status >= 500 else logging.INFO, "%s", msgspec.json.encode(line).decode())


def _forwarded(scope: Scope) -> bool:
    return on_unix_socket(scope) and any(name == FORWARDED for name, _ in scope["headers"])
