"""What a write asks for, before the writer turns it into operations: a closed union of frozen values.

    Upsert(points)                      points replaced whole
    Delete(select)                      points removed
    PatchPayload(select, patch)         payloads changed, vectors untouched
    UpdateVectors(points)               some named vectors of existing points replaced, payloads untouched
    DeleteVectors(select, names)        some named vectors removed

`select` is ids or a filter; a filter selects what matches at the moment when the writer carries the change out, after
everything that was acknowledged before. Ids that do not exist are no error, as in Qdrant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vss.filters import Filter
from vss.patches import PayloadPatch
from vss.points import Point
from vss.types import PointId

Selector = tuple[PointId, ...] | Filter


class UpdateMode(StrEnum):
    """Which points an upsert writes: all, those that are not there yet, or those that are."""

    UPSERT = "upsert"
    INSERT_ONLY = "insert_only"
    UPDATE_ONLY = "update_only"


@dataclass(frozen=True, slots=True)
class Upsert:
    """Write points whole; a later one of the same id wins.

    where: of the points that are there, those that do not pass stay as they are; new ones are written whatever it says
    """

    points: Sequence[Point]
    mode: UpdateMode = UpdateMode.UPSERT
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove points."""

    select: Selector


@dataclass(frozen=True, slots=True)
class PatchPayload:
    """Change payloads."""

    select: Selector
    patch: PayloadPatch


@dataclass(frozen=True, slots=True)
class UpdateVectors:
    """Replace the vectors that each point names; its payload and other vectors stay. Payloads here are ignored.

    where: points that do not pass stay as they are
    """

    points: Sequence[Point]
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class DeleteVectors:
    """Remove vectors by name."""

    select: Selector
    names: tuple[str, ...]


Change = Upsert | Delete | PatchPayload | UpdateVectors | DeleteVectors
