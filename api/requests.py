"""What requests say in their query strings and headers."""

from __future__ import annotations

import hashlib
import math

from starlette.requests import Request

from vss.errors import invalid
from vss.protocols import Deadline

IDEMPOTENCY_KEY = "Idempotency-Key"
"""The header by which a write that is sent again is known: 1 to 255 visible ASCII characters of the client's choice."""

MAX_KEY = 255

_TRUTHS = {"true": True, "1": True, "": True, "false": False, "0": False}


def read_flag(request: Request, name: str) -> bool:
    """A query parameter that is true or false, false without one. VssError (INVALID)."""
    value = request.query_params.get(name, "false").lower()
    if value not in _TRUTHS:
        raise invalid(f"got {value[:40]!r}, wanted true or false", field=name)
    return _TRUTHS[value]


def deadline_of(request: Request) -> Deadline:
    """The deadline that `timeout` (seconds) sets; none without one. VssError (INVALID)."""
    value = request.query_params.get("timeout")
    if value is None:
        return Deadline()
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:
        raise invalid(f"got {value[:40]!r}, wanted a number of seconds", field="timeout")
    return Deadline.after_ms(seconds * 1000)


def read_key(request: Request) -> str | None:
    """The request's idempotency key; None without one. VssError (INVALID)."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and not (0 < len(key) <= MAX_KEY and all("!" <= one <= "~" for one in key)):
        raise invalid(
            f"got {key[:40]!r}, wanted 1 to {MAX_KEY} visible ASCII characters without spaces", field=IDEMPOTENCY_KEY
        )
    return key


def digest(request: Request, body: bytes) -> bytes:
    """What tells one request to a collection from another: method, path below the collection, body."""
    path = request.url.path.split("/", 3)[-1]
    return hashlib.sha256(b"\0".join((request.method.encode(), path.encode(), body))).digest()
