"""How large a body may be and how many requests are answered at once. Both are refused early."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware.auth import on_unix_socket
from vss.errors import Code, VssError, invalid

ALWAYS = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
"""Answered under any load."""


class Limits:
    """Refuses with TOO_LARGE (413) and OVERLOADED (429). Figures are of this process."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_in_flight: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.max_in_flight = max_in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS or _of_this_service(scope):
            await self.app(scope, receive, send)
            return
        if self._in_flight >= self.max_in_flight:
            raise VssError(
                Code.OVERLOADED,
                f"{self._in_flight} requests are being answered, which is the limit",
                hint="send it again after Retry-After",
            )
        self._check_length(scope)
        read = 0

        async def receive_limited() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self.max_body_bytes:
                    raise self._too_large(f"more than {self.max_body_bytes}")
            return message

        self._in_flight += 1
        try:
            await self.app(scope, receive_limited, send)
        finally:
            self._in_flight -= 1

    def _check_length(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name == b"content-length":
                if not value.isdigit():
                    raise invalid("got a content-length that is no number", field="content-length")
                if int(value) > self.max_body_bytes:
                    raise self._too_large(value.decode())

    def _too_large(self, got: str) -> VssError:
        return VssError(
            Code.TOO_LARGE,
            f"got a body of {got} bytes, wanted at most {self.max_body_bytes}",
            field="body",
            hint="send fewer points in each request",
        )


def _of_this_service(scope: Scope) -> bool:
    """Whether a process of this service asks, whose own limits the request has passed."""
    return bool(scope["path"].startswith("/internal/")) and on_unix_socket(scope)
