"""Points as answers show them, and reading them by id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from api.wire.base import Harmless, Reply, Unsupported, Wire, refuse_unsupported
from api.wire.ids import read_ids
from api.wire.select import Selection, WithPayload, WithVector
from vss.points import Point
from vss.types import PointId


class RetrieveWire(Wire):
    """`POST /collections/{collection}/points`."""

    ids: list[int | str]
    with_payload: WithPayload = None
    with_vector: WithVector = None
    shard_key: Unsupported = None

    unsupported: ClassVar[Harmless] = {"shard_key": ()}


class RecordReply(Reply):
    """A point as it is stored. `order_value` is what a page was ordered by (microseconds for a datetime)."""

    id: int | str
    version: int = 0
    payload: msgspec.Raw | None = None
    vector: Any = None
    order_value: int | float | None = None


def read_retrieve(wire: RetrieveWire) -> Sequence[PointId]:
    """The ids to read. VssError: INVALID, TOO_LARGE, UNSUPPORTED."""
    refuse_unsupported(wire)
    return read_ids(wire.ids, "ids")


def show_record(point: Point, shown: Selection, order_value: float | None = None) -> RecordReply:
    """A point as far as it was asked for."""
    return RecordReply(
        id=point.id,
        version=point.version,
        payload=shown.show_payload(point.payload),
        vector=shown.show_vectors(point.vectors),
        order_value=order_value,
    )
