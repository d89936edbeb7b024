"""Answers: Qdrant's envelope, our additions beside the result, and the same in headers."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.wire.base import Envelope
from vss.storage.view import View

JSON = "application/json"


def elapsed(request: Request) -> float:
    """Seconds since the request came."""
    started: float = request.scope["vss.started"]
    return perf_counter() - started


def answer(request: Request, result: Any, *, view: View | None = None, vss: dict[str, Any] | None = None) -> Response:
    """A result in its envelope. `vss` may hold `complete` and `reason`, which become headers too."""
    extra = vss or {}
    headers = {}
    if view is not None:
        extra = {"generation": view.generation} | extra
        headers["VSS-Generation"] = str(view.generation)
    if "complete" in extra:
        headers["VSS-Complete"] = "true" if extra["complete"] else "false"
    if extra.get("reason"):
        headers["VSS-Reason"] = extra["reason"].encode("ascii", "replace").decode()
    body = msgspec.json.encode(Envelope(result=result, time=elapsed(request), vss=extra))
    return Response(body, 200, headers, JSON)


def plain(value: Any, status: int = 200) -> Response:
    """JSON without an envelope, for the routes of other dialects."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)
