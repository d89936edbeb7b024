"""Exceptions become answers in the dialect of the route; what nobody expected is logged, and answered with an id."""

from __future__ import annotations

import logging
from time import perf_counter

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import render, render_http, render_unexpected
from vss.errors import VssError

log = logging.getLogger("vss.errors")


class Errors:
    """The one place where errors are rendered; everything inside just raises."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = False

        async def send_and_see(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, receive, send_and_see)
        except ClientDisconnect:
            return
        except Exception as error:
            if began:
                # The status is out; cutting the connection is all that tells the client.
                raise
            path, seconds = scope["path"], perf_counter() - scope["vss.started"]
            if isinstance(error, VssError):
                response = render(path, error, seconds)
            elif isinstance(error, HTTPException):
                response = render_http(path, error, seconds)
            else:
                log.exception("request %s failed", scope["vss.request_id"])
                response = render_unexpected(path, scope["vss.request_id"], seconds)
            await response(scope, receive, send)
