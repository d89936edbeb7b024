"""Writes of several points where some cannot be taken: what is wrong with each, told at once.

By default nothing is written then, and the error lists every such point. With `"vss": {"on_error": "skip"}` the others
are written, and the answer has the same list. A point is never left out without being named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from api.wire.base import Reply
from vss.errors import VssError
from vss.types import PointId


class OnError(StrEnum):
    """What to do when some points of a request cannot be taken: nothing at all, or the others."""

    REFUSE = "refuse"
    SKIP = "skip"


class RefusedItem(Reply):
    """One point that was not written.

    index:     its place among the points of its request, or of its operation in a batch
    id:        its id as it was sent, where it could be read
    operation: its operation's place in a batch
    """

    index: int
    code: str
    error: str
    id: PointId | None = None
    field: str | None = None
    hint: str | None = None
    operation: int | None = None


class RefusedItems(VssError):
    """The error of a write that has bad points; `items` lists them all. It reads like the first one's own error."""

    def __init__(self, bad: Mapping[int, VssError], ids: Sequence[PointId | None]) -> None:
        first = bad[min(bad)]
        more = f"; {len(bad)} of {len(ids)} points are wrong, vss.items lists them" if len(bad) > 1 else ""
        super().__init__(first.code, first.message + more, field=first.field, hint=first.hint)
        self.items = refused_items(bad, ids)


def refused_items(
    bad: Mapping[int, VssError], ids: Sequence[PointId | None], operation: int | None = None
) -> list[RefusedItem]:
    """What is wrong with each bad point, in the order of the request."""
    return [
        RefusedItem(
            index=index,
            id=ids[index],
            code=error.code.value,
            error=error.message,
            field=error.field,
            hint=error.hint,
            operation=operation,
        )
        for index, error in sorted(bad.items())
    ]


def report(bad: Sequence[RefusedItem], taken: int) -> dict[str, Any]:
    """What an answer says about a write that was told to skip bad points."""
    return {"taken": taken, "refused": len(bad), "items": bad}
