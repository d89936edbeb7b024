"""What one query reads: one generation and the live part, at one moment. Immutable, safe from any thread."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from vss.filters import Condition, predicate
from vss.points import Point, id_key, key_id
from vss.schema import Schema
from vss.storage.live import Overlay, Patches
from vss.storage.live_rows import LiveSnapshot
from vss.storage.manifest import Manifest
from vss.storage.segment import Segment
from vss.storage.selection import Selection, selected
from vss.types import Mask, PointId, Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A segment or the live part, which of its rows count in this view (None: all), and payloads laid over it."""

    body: Segment | LiveSnapshot
    alive: Mask | None
    patches: Patches = field(default_factory=dict)

    def count(self) -> int:
        """Rows that count."""
        return len(self.body) if self.alive is None else int(np.count_nonzero(self.alive))

    def allowed(self, where: Condition | None) -> Mask | None:
        """`(n,)` rows that count and pass the filter; None when all rows do."""
        return self.alive if where is None else self._passing(where)[0]

    def _passing(self, where: Condition) -> tuple[Mask, int]:
        """`(n,)` rows that count and pass the filter, and how many payloads were read for it now."""
        mask, read = self.body.filtered(where)
        if self.patches:
            mask, passes = mask.copy(), predicate(where)
            for row, (payload, _) in self.patches.items():
                mask[row] = passes(key_id(self.body.key(row)), msgspec.json.decode(payload), self.vectors(row))
            read += len(self.patches)
        return mask if self.alive is None else mask & self.alive, read

    def select(self, name: str, where: Condition | None) -> tuple[Selection, bool]:
        """The vectors by that name in rows that count and pass the filter; and whether they were known already."""
        body = self.body
        if isinstance(body, Segment):
            if not self.patches or where is None:
                return body.select(name, where, self.alive)
            if name not in body.vectors:
                return Selection(None, 0), True
            return body.among(name, *self._passing(where)), False
        if where is None:
            return body.select(name), True
        allowed, read = self._passing(where)
        return selected(allowed & body.vectors[name].has, read), False

    def known(self, name: str, where: Condition | None) -> Selection | None:
        """What `select` would give, where it is known already."""
        body = self.body
        if isinstance(body, Segment):
            return None if self.patches and where is not None else body.known(name, where, self.alive)
        return body.select(name) if where is None else None

    def find(self, key: bytes) -> int:
        """The row of a key that counts, or -1."""
        row = self.body.find(key)
        return row if row >= 0 and (self.alive is None or self.alive[row]) else -1

    def point(self, row: int, *, vectors: bool = True) -> Point:
        """The point of a row. Vectors are views into the part."""
        return Point(
            id=key_id(self.body.key(row)),
            vectors=self.vectors(row) if vectors else {},
            payload=self.payload(row),
            version=self.version(row),
        )

    def payload(self, row: int) -> bytes:
        """The JSON object of a row."""
        patch = self.patches.get(row)
        return patch[0] if patch else self.body.payload(row)

    def version(self, row: int) -> int:
        """The sequence number that wrote or patched the row."""
        patch = self.patches.get(row)
        return patch[1] if patch else self.body.version(row)

    def vectors(self, row: int) -> dict[str, Vectors]:
        """The named vectors that the row has."""
        found = {name: self.body.vector(name, row) for name in self.body.vectors}
        return {name: vector for name, vector in found.items() if vector is not None}


class View:
    """The parts of a collection at one moment; the live part is the last one.

    generation: the manifest, or None before the first one
    seq:        the last operation that this view contains
    """

    def __init__(
        self,
        schema: Schema,
        manifest: Manifest | None,
        seq: int,
        segments: Sequence[Segment],
        live: LiveSnapshot,
        overlays: Sequence[Overlay],
    ) -> None:
        self.schema = schema
        self.manifest = manifest
        self.seq = seq
        self.live = live
        sealed = [Part(body, over.alive, over.patches) for body, over in zip(segments, overlays, strict=True)]
        self.parts = (*sealed, Part(live, live.alive))
        self.predicted_ms: dict[tuple[str, bool], float] = {}
        """What searches without a filter are predicted to cost (`vss.search.retrieve.cost_ms`)."""
        self.plans: dict[Any, Any] = {}
        """What they do, by what was asked for (`vss.search.retrieve.search`)."""

    @property
    def generation(self) -> int:
        """The number of the generation; 0 before the first one."""
        return self.manifest.generation if self.manifest else 0

    @cached_property
    def points(self) -> int:
        """How many points there are."""
        return sum(part.count() for part in self.parts)

    def find(self, point_id: PointId) -> tuple[Part, int] | None:
        """Where a point is, or None when there is none of that id."""
        key = id_key(point_id)
        for part in reversed(self.parts):
            row = part.find(key)
            if row >= 0:
                return part, row
        return None

    def retrieve(self, ids: Sequence[PointId]) -> list[Point]:
        """The points that exist, in the order asked for."""
        found = (self.find(one) for one in ids)
        return [part.point(row) for part, row in filter(None, found)]

    def count(self, where: Condition | None = None) -> int:
        """How many points pass the filter."""
        if where is None:
            return self.points
        return sum(replace(part, alive=part.allowed(where)).count() for part in self.parts)

    def scroll(
        self, where: Condition | None, start: PointId | None, limit: int
    ) -> tuple[list[tuple[Part, int]], PointId | None]:
        """Up to `limit` places in scroll order from the id `start` on, and the id where the next page starts."""
        key = None if start is None else id_key(start)
        page: list[tuple[Part, int]] = []
        # Keys are unique among the rows that count, so the merge never compares parts.
        merged = heapq.merge(*(self._walk(part, where, key) for part in self.parts), key=lambda item: item[0])
        for found, part, row in merged:
            if len(page) == limit:
                return page, key_id(found)
            page.append((part, row))
        return page, None

    @staticmethod
    def _walk(part: Part, where: Condition | None, key: bytes | None) -> Iterator[tuple[bytes, Part, int]]:
        allowed = part.allowed(where)
        for found, row in part.body.after(key, inclusive=True):
            if allowed is None or allowed[row]:
                yield found, part, row
