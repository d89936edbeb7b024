"""The live part: operations that no segment covers yet. Bounded, kept in memory, searched exactly.

`LivePart` takes operations as they come; `snapshot` freezes it for a view. Row buffers only grow, so a snapshot is the
number of rows at that moment and a copy of which of them count.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec
import numpy as np

from vss.filters import Condition, matches
from vss.points import key_id
from vss.schema import Schema
from vss.storage.log import Kind, Operation, unpack_vectors
from vss.storage.segment import Segment
from vss.types import Mask, Rows, Vectors

_FIRST_ROOM = 256


class _Buffer:
    """Vectors of one name by live row, doubling as it fills; `has` says which rows have one."""

    def __init__(self, dim: int) -> None:
        self.data = np.zeros((_FIRST_ROOM, dim), np.float32)
        self.has = np.zeros(_FIRST_ROOM, np.bool_)

    def put(self, row: int, vector: Vectors | None) -> None:
        if row == len(self.has):
            # New arrays, so that snapshots keep reading the old ones.
            self.data = np.concatenate([self.data, np.zeros_like(self.data)])
            self.has = np.concatenate([self.has, np.zeros_like(self.has)])
        if vector is not None:
            self.data[row] = vector
            self.has[row] = True


class LivePart:
    """Operations after `covered_seq`, applied in the order of their seq. Not thread-safe: its collection locks."""

    def __init__(self, schema: Schema, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._buffers = {name: _Buffer(vector.dim) for name, vector in schema.vectors.items()}
        self._keys: list[bytes] = []
        self._payloads: list[bytes] = []
        self._versions: list[int] = []
        self._row: dict[bytes, int] = {}
        self._alive: list[bool] = []
        self._hidden: list[set[int]] = [set() for _ in segments]
        self._masks: list[Mask | None] = [segment.alive for segment in segments]
        self.operations = 0
        self.bytes = 0

    def apply(self, operations: Sequence[Operation]) -> None:
        """Take operations whose seq is higher than all before."""
        touched = set()
        for operation in operations:
            superseded = False
            for number, segment in enumerate(self._segments):
                row = segment.find(operation.key)
                if row < 0 or (segment.alive is not None and not segment.alive[row]):
                    continue
                if segment.version(row) >= operation.seq:
                    superseded = True  # a bulk import that started later has this point
                else:
                    self._hidden[number].add(row)
                    touched.add(number)
            before = self._row.pop(operation.key, None)
            if before is not None:
                self._alive[before] = False
            if operation.kind is Kind.UPSERT and not superseded:
                self._add(operation)
            self.operations += 1
            self.bytes += len(operation.vectors) + len(operation.payload) + len(operation.key)
        for number in touched:
            mask = np.ones(len(self._segments[number]), np.bool_)
            base = self._segments[number].alive
            if base is not None:
                mask[:] = base
            mask[list(self._hidden[number])] = False
            self._masks[number] = mask

    def _add(self, operation: Operation) -> None:
        row = len(self._keys)
        vectors = unpack_vectors(operation.vectors)
        for name, buffer in self._buffers.items():
            buffer.put(row, vectors.get(name))
        self._keys.append(operation.key)
        self._payloads.append(operation.payload)
        self._versions.append(operation.seq)
        self._alive.append(True)
        self._row[operation.key] = row

    def snapshot(self) -> tuple[LiveSnapshot, list[Mask | None]]:
        """The live rows now, and for each segment which of its rows count (None: all)."""
        rows = len(self._keys)
        live = LiveSnapshot(
            np.asarray(self._alive, np.bool_),
            self._keys,
            self._payloads,
            self._versions,
            {name: (buffer.data[:rows], buffer.has[:rows]) for name, buffer in self._buffers.items()},
        )
        return live, list(self._masks)


class LiveSnapshot:
    """The live part at one moment; reads like a segment. Rows beyond `len` are of a later moment."""

    def __init__(
        self,
        alive: Mask,
        keys: Sequence[bytes],
        payloads: Sequence[bytes],
        versions: Sequence[int],
        vectors: dict[str, tuple[Vectors, Mask]],
    ) -> None:
        self.alive = alive
        self._keys = keys
        self._payloads = payloads
        self._versions = versions
        self.vectors = vectors

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
        data, has = self.vectors[name]
        return data[row] if has[row] else None

    def mask(self, condition: Condition) -> Mask:
        """`(n,)` which rows pass, answered from their payloads; rows that do not count are False."""
        mask = np.zeros(len(self), np.bool_)
        rows: Rows = np.flatnonzero(self.alive)
        for row in rows.tolist():
            mask[row] = matches(condition, key_id(self._keys[row]), msgspec.json.decode(self._payloads[row]))
        return mask
