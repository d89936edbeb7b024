"""Point ids in requests: integers and strings, checked with the place where they stand."""

from __future__ import annotations

from collections.abc import Sequence

from api.wire.base import located
from vss.errors import Code, VssError
from vss.points import id_key
from vss.types import PointId

MAX_IDS = 10_000
"""Ids in one request."""


def read_id(value: PointId, where: str) -> PointId:
    """The id itself. VssError (INVALID) names the place."""
    try:
        id_key(value)
    except VssError as error:
        raise located(error, where) from None
    return value


def read_ids(values: Sequence[PointId], where: str) -> tuple[PointId, ...]:
    """The ids themselves. VssError: INVALID, TOO_LARGE."""
    if len(values) > MAX_IDS:
        raise VssError(
            Code.TOO_LARGE,
            f"got {len(values)} ids, wanted at most {MAX_IDS}",
            field=where,
            hint="send them in several requests",
        )
    return tuple(read_id(value, f"{where}[{place}]") for place, value in enumerate(values))


def path_id(text: str) -> PointId:
    """The id in a URL: digits are an integer, as in Qdrant; quotes around them make the string ("1")."""
    if len(text) > 2 and text[0] == text[-1] == '"':
        return read_id(text[1:-1], "id")
    digits = text.removeprefix("-")
    return read_id(int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else text, "id")
