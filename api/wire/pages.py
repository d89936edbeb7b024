"""Scrolling and counting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from api.wire.base import Harmless, Unsupported, Wire, refuse_unsupported
from api.wire.filters import FilterWire, read_filter
from api.wire.ids import read_id
from api.wire.payloads import read_path
from api.wire.points import RecordReply
from api.wire.select import Selection, WithPayload, WithVector, read_selection
from vss.errors import invalid
from vss.filters import Filter
from vss.schema import Schema
from vss.storage.ordering import Order
from vss.types import PointId

MAX_LIMIT = 10_000
"""Points in one answer."""

MAX_OFFSET = 100_000
"""Hits that a query may skip; they are searched for all the same."""


class OrderByWire(Wire):
    """The payload field (a number or a datetime) to order by; points without one are left out."""

    key: str
    direction: Literal["asc", "desc"] | None = None
    start_from: int | float | str | None = None


class ScrollWire(Wire):
    """`POST /collections/{collection}/points/scroll`. `offset` is the id where the page starts."""

    offset: int | str | None = None
    limit: int | None = None
    filter: FilterWire | None = None
    with_payload: WithPayload = None
    with_vector: WithVector = None
    order_by: str | OrderByWire | None = None
    shard_key: Unsupported = None

    unsupported: ClassVar[Harmless] = {"shard_key": ()}


class ScrollReply(msgspec.Struct, kw_only=True):
    """One page, and the id where the next one starts (null after the last)."""

    points: list[RecordReply]
    next_page_offset: int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scroll:
    """A page as it was asked for: from the id `start` on, or in an order."""

    start: PointId | None
    order: Order | None
    limit: int
    where: Filter | None
    selection: Selection


class CountWire(Wire):
    """`POST /collections/{collection}/points/count`. The count is always exact."""

    filter: FilterWire | None = None
    exact: bool | None = None
    shard_key: Unsupported = None

    unsupported: ClassVar[Harmless] = {"shard_key": ()}


class CountReply(msgspec.Struct, kw_only=True):
    """How many points match."""

    count: int


def read_scroll(wire: ScrollWire, schema: Schema) -> Scroll:
    """Check a request for a page. VssError: INVALID, UNSUPPORTED."""
    refuse_unsupported(wire)
    order = None if wire.order_by is None else read_order(wire.order_by)
    if order is not None and wire.offset is not None:
        raise invalid(
            "got an offset beside order_by, wanted one of them",
            field="offset",
            hint="go on with order_by.start_from, and leave out the ids that were seen by a filter",
        )
    return Scroll(
        start=None if wire.offset is None else read_id(wire.offset, "offset"),
        order=order,
        limit=read_limit(wire.limit),
        where=read_filter(wire.filter),
        selection=read_selection(wire.with_payload, wire.with_vector, schema, payload=True),
    )


def read_order(wire: str | OrderByWire) -> Order:
    """The order. VssError (INVALID)."""
    if isinstance(wire, str):
        return Order(key=read_path(wire, "order_by"))
    return Order(
        key=read_path(wire.key, "order_by.key"), descending=wire.direction == "desc", start_from=wire.start_from
    )


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
