"""Payloads in requests: checked once, with the place where they stand."""

from __future__ import annotations

from typing import Any

import msgspec

from api.wire.base import located
from vss.errors import VssError, invalid
from vss.paths import parse_path
from vss.points import EMPTY_PAYLOAD, MAX_PAYLOAD_BYTES, check_payload

MAX_DEPTH = 64
"""Objects and lists of a payload inside each other."""

MAX_PATH = 1_024
"""Characters of a payload path."""


def read_payload(raw: msgspec.Raw, where: str) -> bytes:
    """The payload as JSON bytes. VssError (INVALID): no object, too large, nested too deeply."""
    payload = bytes(raw)
    if not payload:
        return EMPTY_PAYLOAD
    checked = check_payload(payload, where=where)
    # More levels than brackets there cannot be; nearly every payload passes without a look at its values.
    if checked.count(b"{") + checked.count(b"[") > MAX_DEPTH:
        _check_depth(msgspec.json.decode(checked), where)
    return checked


def read_values(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Values to set in payloads, within the limits of a payload. VssError (INVALID)."""
    _check_depth(values, where)
    size = len(msgspec.json.encode(values))
    if size > MAX_PAYLOAD_BYTES:
        raise invalid(f"got a payload of {size} bytes, wanted at most {MAX_PAYLOAD_BYTES}", field=where)
    return values


def read_path(path: str, where: str) -> str:
    """A payload path like `a.b` or `a[].b`. VssError (INVALID)."""
    if len(path) > MAX_PATH:
        raise invalid(f"got a path of {len(path)} characters, wanted at most {MAX_PATH}", field=where)
    try:
        parse_path(path)
    except VssError as error:
        raise located(error, where) from None
    return path


def _check_depth(value: object, where: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [below for one in level for below in _below(one)]
        if not level:
            return
    raise invalid(f"got a payload nested more than {MAX_DEPTH} deep, wanted at most that", field=where)


def _below(value: object) -> list[object]:
    if isinstance(value, dict):
        return [one for one in value.values() if isinstance(one, dict | list)]
    return [one for one in value if isinstance(one, dict | list)] if isinstance(value, list) else []
