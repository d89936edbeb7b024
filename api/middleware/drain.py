"""While the server stops, each answer ends its connection: the client's next request then goes to whoever stays."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware.auth import on_unix_socket
from api.service import Service


class Drain:
    """Adds `Connection: close` while the service drains, but for the readers, which come over the Unix socket."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or on_unix_socket(scope):
            await self.app(scope, receive, send)
            return

        async def send_and_end(message: Message) -> None:
            if message["type"] == "http.response.start" and self._service.draining:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self.app(scope, receive, send_and_end)
