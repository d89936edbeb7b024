"""What jobs and servers say to each other. Without an HTTP client: a server that starts has no use for one."""

from __future__ import annotations

import msgspec

from vss.errors import Code, VssError


class Retire(msgspec.Struct):
    """The body of `POST /internal/retire`; see `vss.jobs.remote.Writer.retire`."""

    collection: str
    keep: int
    erase: bool


def error_of(status: int, body: bytes) -> VssError:
    """The `VssError` that a server's answer stands for."""
    try:
        answer = msgspec.json.decode(body, type=_Refusal)
        # The message already names the field and the hint.
        return VssError(Code(answer.vss.code), answer.status.error)
    except ValueError:
        shown = body[:200].decode(errors="replace")
        return VssError(Code.UNAVAILABLE, f"the server answered {status}: {shown}", hint="its log says more")


class _Said(msgspec.Struct):
    error: str


class _Reason(msgspec.Struct):
    code: str


class _Refusal(msgspec.Struct):
    status: _Said
    vss: _Reason
