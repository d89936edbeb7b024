"""The rows of the live part at one moment, as a view reads them; `vss.storage.live` makes them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np

from vss.filters import Condition, predicate
from vss.points import key_id
from vss.protocols import Index
from vss.storage.selection import Selection, selected
from vss.types import Mask, Rows, Vectors


class LiveVectors:
    """Vectors of one name at one moment.

    vectors: `(n, dim)` float32, zeros where a row has none
    has:     `(n,)` which rows have one
    grow:    makes the index of vectors, for all moments of the same live part
    """

    def __init__(self, vectors: Vectors, has: Mask, grow: Callable[[Vectors], Index]) -> None:
        self.vectors = vectors
        self.has = has
        self._grow = grow

    @cached_property
    def index(self) -> Index:
        """Looks at all of them. Made for the first search: a live part that is only sealed needs none."""
        return self._grow(self.vectors)


@dataclass(slots=True)
class Newest:
    """Key -> its live row now, and a number that changes before the rows do."""

    rows: dict[bytes, int] = field(default_factory=dict)
    moment: int = 0


class LiveSnapshot:
    """The live part at one moment; reads like a segment. Rows beyond `len` are of a later moment."""

    def __init__(
        self,
        alive: Mask,
        keys: Sequence[bytes],
        payloads: Sequence[bytes],
        versions: Sequence[int],
        vectors: dict[str, LiveVectors],
        newest: Newest,
    ) -> None:
        self.alive = alive
        self._keys = keys
        self._payloads = payloads
        self._versions = versions
        self.vectors = vectors
        self._newest = newest
        self._moment = newest.moment
        self._selections: dict[str, Selection] = {}

    def __len__(self) -> int:
        return len(self.alive)

    @cached_property
    def _order(self) -> list[tuple[bytes, int]]:
        return sorted((self._keys[row], row) for row in np.flatnonzero(self.alive).tolist())

    def key(self, row: int) -> bytes:
        """The key of a row's id."""
        return self._keys[row]

    def find(self, key: bytes) -> int:
        """The row of a key that counts, or -1."""
        # The live part's own rows, which move on: what they say holds here when they have not, or when they still name
        # a row of this moment. Otherwise the rows of this moment are sorted, once.
        row = self._newest.rows.get(key)
        if row is not None and row < len(self):
            return row
        if self._newest.moment == self._moment:
            return -1
        at = bisect_left(self._order, (key, 0))
        return self._order[at][1] if at < len(self._order) and self._order[at][0] == key else -1

    def after(self, key: bytes | None, *, inclusive: bool) -> Iterator[tuple[bytes, int]]:
        """(key, row) in scroll order from `key` on."""
        cut = bisect_left if inclusive else bisect_right
        start = 0 if key is None else cut(self._order, key, key=lambda pair: pair[0])
        yield from self._order[start:]

    def payload(self, row: int) -> bytes:
        """The JSON object of a row."""
        return self._payloads[row]

    def version(self, row: int) -> int:
        """The sequence number that wrote the row."""
        return self._versions[row]

    def vector(self, name: str, row: int) -> Vectors | None:
        """`(dim,)` float32, or None when the row has no such vector."""
        one = self.vectors[name]
        return one.vectors[row] if one.has[row] else None

    def some_vectors(self, name: str, rows: Rows) -> tuple[Rows, Vectors]:
        """As `Segment.some_vectors`."""
        one = self.vectors.get(name)
        if one is None:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        have = np.flatnonzero(one.has[rows])
        return have, one.vectors[rows[have]]

    def select(self, name: str) -> Selection:
        """The vectors by that name in rows that count."""
        known = self._selections.get(name)
        if known is None:
            known = self._selections[name] = selected(self.alive & self.vectors[name].has)
        return known

    def filtered(self, condition: Condition) -> tuple[Mask, int]:
        """`(n,)` which rows pass, those that do not count being False, and how many payloads were read for it."""
        mask, passes = np.zeros(len(self), np.bool_), predicate(condition)
        rows: Rows = np.flatnonzero(self.alive)
        for row in rows.tolist():
            names = [name for name, one in self.vectors.items() if one.has[row]]
            mask[row] = passes(key_id(self._keys[row]), msgspec.json.decode(self._payloads[row]), names)
        return mask, len(rows)
