"""Scrolling and counting."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from api.wire.base import Harmless, Unsupported, Wire
from api.wire.filters import FilterWire
from api.wire.points import RecordReply
from api.wire.select import WithPayload, WithVector
from vss.errors import invalid

MAX_LIMIT = 10_000
"""Points in one answer."""

MAX_OFFSET = 100_000
"""Hits that a query may skip; they are searched for all the same."""


class ScrollWire(Wire):
    """`POST /collections/{collection}/points/scroll`. `offset` is the id where the page starts."""

    offset: int | str | None = None
    limit: int | None = None
    filter: FilterWire | None = None
    with_payload: WithPayload = None
    with_vector: WithVector = None
    order_by: Unsupported = None
    shard_key: Unsupported = None

    unsupported: ClassVar[Harmless] = {"order_by": (), "shard_key": ()}


class ScrollReply(msgspec.Struct, kw_only=True):
    """One page, and the id where the next one starts (null after the last)."""

    points: list[RecordReply]
    next_page_offset: int | str | None


class CountWire(Wire):
    """`POST /collections/{collection}/points/count`. The count is always exact."""

    filter: FilterWire | None = None
    exact: bool | None = None
    shard_key: Unsupported = None

    unsupported: ClassVar[Harmless] = {"shard_key": ()}


class CountReply(msgspec.Struct, kw_only=True):
    """How many points match."""

    count: int


def read_limit(limit: int | None, default: int = 10, *, field: str = "limit") -> int:
    """The limit. VssError (INVALID)."""
    wanted = default if limit is None else limit
    if not 1 <= wanted <= MAX_LIMIT:
        raise invalid(f"got {wanted}, wanted 1 to {MAX_LIMIT}", field=field)
    return wanted


def read_offset(offset: int | None, *, field: str = "offset") -> int:
    """How many hits to skip. VssError (INVALID)."""
    wanted = offset or 0
    if not 0 <= wanted <= MAX_OFFSET:
        raise invalid(f"got {wanted}, wanted 0 to {MAX_OFFSET}", field=field)
    return wanted
