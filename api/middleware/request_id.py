"""A request id on every answer: the client's own `X-Request-Id` when it is sane, else a new one."""

from __future__ import annotations

import random
import re
import secrets
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SANE = re.compile(rb"[\w.:/+=-]{1,128}", re.ASCII)


class RequestId:
    """Puts `vss.request_id` and `vss.started` (`perf_counter` seconds) into the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # Ids are no secrets, and asking the system for each lets go of the interpreter lock.
        self._random = random.Random(secrets.randbits(128))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        own = given if _SANE.fullmatch(given) else b"%016x" % self._random.getrandbits(64)
        scope["vss.request_id"] = own.decode()
        scope["vss.started"] = perf_counter()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", own)]
            await send(message)

        await self.app(scope, receive, send_with_id)
