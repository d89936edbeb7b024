"""One point, and what a write does to it.

Payloads stay JSON bytes from the request to the answer: they are checked once at the gate (an object, within
limits) and parsed again only where a filter or a text needs them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vss.errors import invalid
from vss.types import PointId, Vectors

EMPTY_PAYLOAD = b"{}"

MAX_ID_BYTES = 512
"""Longest string id, in UTF-8 bytes."""

MAX_PAYLOAD_BYTES = 1 << 20
"""Largest payload of one point, in bytes of JSON."""

_INT_BIAS = 1 << 63
_INT_TAG = b"\x00"
_STRING_TAG = b"\x01"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One item as it is written or read.

    vectors: name -> `(dim,)` float32, as `vss.vectors.as_vectors` made it; names may be missing
    payload: a JSON object as bytes
    version: the sequence number of the operation that wrote it (0 before it is written)
    """

    id: PointId
    vectors: Mapping[str, Vectors] = msgspec.field(default_factory=dict)
    payload: bytes = EMPTY_PAYLOAD
    version: int = 0


def id_key(point_id: PointId) -> bytes:
    """Bytes that name the id and sort as scrolling does: integers ascending, then strings by their UTF-8 bytes.

    Integers of 64 bits, signed or unsigned. Raises VssError (INVALID).
    """
    if type(point_id) is int and -_INT_BIAS <= point_id < 1 << 64:  # most ids
        return _INT_TAG + (point_id + _INT_BIAS).to_bytes(9, "big")
    if isinstance(point_id, bool) or not isinstance(point_id, int | str):
        raise invalid(f"got an id of type {type(point_id).__name__}, wanted a string or an integer", field="id")
    if isinstance(point_id, int):
        if not -_INT_BIAS <= point_id < 1 << 64:
            raise invalid(f"got id {point_id}, wanted an integer of 64 bits", field="id")
        return _INT_TAG + (point_id + _INT_BIAS).to_bytes(9, "big")
    try:
        text = point_id.encode()
    except UnicodeEncodeError as error:
        raise invalid("got an id with a lone surrogate, wanted valid Unicode", field="id") from error
    if not text:
        raise invalid("got an empty id, wanted at least one character", field="id")
    if len(text) > MAX_ID_BYTES:
        raise invalid(f"got an id of {len(text)} bytes, wanted at most {MAX_ID_BYTES}", field="id")
    return _STRING_TAG + text


def key_id(key: bytes) -> PointId:
    """The id that `id_key` made the key of."""
    if key[:1] == _INT_TAG:
        return int.from_bytes(key[1:], "big") - _INT_BIAS
    return key[1:].decode()


def check_payload(payload: bytes, *, where: str = "payload") -> bytes:
    """The payload itself when it is a JSON object within the limit; `null` and nothing become `{}`.

    Raises VssError (INVALID, TOO_LARGE is the request's own limit).
    """
    if payload in (b"", b"null"):
        return EMPTY_PAYLOAD
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise invalid(f"got a payload of {len(payload)} bytes, wanted at most {MAX_PAYLOAD_BYTES}", field=where)
    try:
        value = msgspec.json.decode(payload)
    except (ValueError, RecursionError) as error:
        raise invalid(f"got a payload that is not JSON: {error}", field=where) from error
    if not isinstance(value, dict):
        raise invalid(f"got a payload of type {type(value).__name__}, wanted an object", field=where)
    return payload
