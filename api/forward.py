"""Forwarding: a reader hands a request whole to the writer, and its answer back unchanged."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.writer import Writer

_OF_THE_CONNECTION = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that belong to one connection (RFC 9110, 7.6.1); each side writes its own."""

_NOT_SENT = _OF_THE_CONNECTION | {b"api-key", b"authorization", b"vss-forwarded", b"x-request-id"}
"""The key was checked here, and the writer trusts whoever may open the socket."""

_NOT_RETURNED = _OF_THE_CONNECTION | {b"date", b"x-request-id"}


async def forward(writer: Writer, request: Request) -> Response:
    """Let the writer carry out a request. VssError (UNAVAILABLE) while it is away."""
    scope = request.scope
    target: bytes = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    headers = [(name, value) for name, value in scope["headers"] if name not in _NOT_SENT]
    headers.append((b"x-request-id", scope["vss.request_id"].encode()))
    answer = await writer.send(scope["method"], target, headers, await request.body())
    response = Response(answer.body, answer.status)
    response.raw_headers += [one for one in answer.headers if one[0] not in _NOT_RETURNED]
    return response
