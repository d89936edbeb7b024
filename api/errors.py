"""One error type inside, two shapes outside: OpenAI's under `/v1`, Qdrant's everywhere else."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.wire.items import RefusedItem, RefusedItems
from vss.errors import Code, VssError

STATUS: dict[Code, int] = {
    Code.INVALID: 400,
    Code.UNSUPPORTED: 400,
    Code.UNAUTHENTICATED: 401,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.CONFLICT: 409,
    Code.FINGERPRINT_MISMATCH: 409,
    Code.TOO_LARGE: 413,
    Code.OVERLOADED: 429,
    Code.CORRUPT: 503,
    Code.LOCKED: 503,
    Code.MODEL_FAILED: 503,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE: 504,
    Code.NO_SPACE: 507,
    Code.STORAGE: 503,
}

RETRIED = frozenset({Code.OVERLOADED, Code.UNAVAILABLE, Code.NO_SPACE, Code.STORAGE})
"""What goes away by itself, or when somebody has made room: a client may send the same request again."""

RETRY_AFTER_SECONDS = 1
"""What a client is told to wait when it is turned away for load or a failing disk, or while a process starts again."""

INTERNAL = "internal"


def render(path: str, error: VssError, seconds: float) -> Response:
    """The error in the dialect of the route."""
    headers = {}
    if error.code in RETRIED:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if error.code is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    items = error.items if isinstance(error, RefusedItems) else None
    return _body(
        path, STATUS[error.code], error.code.value, str(error), error.field, error.hint, seconds, headers, items
    )


def render_http(path: str, error: HTTPException, seconds: float) -> Response:
    """What the router refuses: unknown paths and methods."""
    code = {404: Code.NOT_FOUND.value, 405: "method_not_allowed"}.get(error.status_code, Code.INVALID.value)
    said = {404: f"there is nothing at {path[:200]}", 405: "this path does not take this method"}
    message = f"{said.get(error.status_code, error.detail)} (GET /docs lists the operations)"
    return _body(path, error.status_code, code, message, None, None, seconds, dict(error.headers or {}))


def render_unexpected(path: str, request_id: str, seconds: float) -> Response:
    """A fault of ours: the id that stands in the log, and nothing of the fault."""
    message = f"internal error; the log has it under {request_id}"
    return _body(path, 500, INTERNAL, message, None, None, seconds, {})


def _body(
    path: str,
    status: int,
    code: str,
    message: str,
    field: str | None,
    hint: str | None,
    seconds: float,
    headers: dict[str, str],
    items: Sequence[RefusedItem] | None = None,
) -> Response:
    body: dict[str, object]
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        body = {"error": {"message": message, "type": kind, "param": field, "code": code}}
    else:
        vss: dict[str, object] = {"code": code, "field": field, "hint": hint}
        if items is not None:
            vss["items"] = items
        body = {"status": {"error": message}, "time": seconds, "vss": vss}
    return Response(msgspec.json.encode(body), status, headers, "application/json")
