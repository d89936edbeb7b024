"""What requests say in their query strings."""

from __future__ import annotations

import math

from starlette.requests import Request

from vss.errors import invalid
from vss.protocols import Deadline

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
