"""The live part: operations that no segment covers yet. Bounded, kept in memory, every row looked at by each search.

`LivePart` takes operations as they come; `snapshot` freezes it for a view. Row buffers only grow, so a snapshot is the
number of rows at that moment and a copy of which of them count.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec
import numpy as np

from vss.patches import patched, unpack_patch
from vss.protocols import Growing, Index, Indexers
from vss.schema import Schema, VectorSchema
from vss.storage.live_rows import LiveSnapshot, LiveVectors, Newest
from vss.storage.log import Kind, Operation, pack_vectors, unpack_vectors, vector_bytes
from vss.storage.segment import Segment
from vss.types import Mask, Rows, Vectors

_FIRST_ROOM = 256
_FLOAT = np.dtype("<f4")

Patches = dict[int, tuple[bytes, int]]
"""Segment row -> its payload now, and the sequence number that made it so."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What the live part says of one segment.

    alive:   `(n,)` which of its rows count; None for all
    patches: payloads that changed while their vectors stay sealed
    """

    alive: Mask | None
    patches: Patches


class _Buffer:
    """Vectors of one name by live row, doubling as it fills; `has` says which rows have one."""

    def __init__(self, schema: VectorSchema, indexers: Indexers, before: _Buffer | None) -> None:
        """before: one that was sealed, from which an index of like vectors learns what to expect"""
        sealed = before if before is not None and before._schema == schema else None
        # It will be about as full as the one before; memory that is never written to takes none.
        room = _FIRST_ROOM if sealed is None else len(sealed.has)
        self._schema: VectorSchema = schema
        self.data: Vectors = np.zeros((room, schema.dim), np.float32)
        self.has: Mask = np.zeros(room, np.bool_)
        self._growing: Growing = (
            indexers.growing(schema.metric, schema.dim) if sealed is None else sealed._growing.anew()
        )
        self._alone = threading.Lock()

    def show(self, rows: int) -> LiveVectors:
        """The first `rows` of them, as they are now."""
        return LiveVectors(self.data[:rows], self.has[:rows], self._grow)

    def _grow(self, vectors: Vectors) -> Index:
        with self._alone:
            return self._growing.index(vectors)

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
        before = room = len(self.has)
        while room < rows:
            room *= 2
        if room > before:
            # New arrays, so that snapshots keep reading the old ones.
            data, has = np.zeros((room, self._schema.dim), np.float32), np.zeros(room, np.bool_)
            data[:before], has[:before] = self.data, self.has
            self.data, self.has = data, has

    def put_all(self, start: int, vectors: Vectors) -> None:
        """Take `(n, dim)` for the rows from `start` on."""
        end = start + len(vectors)
        self.reserve(end)
        self.data[start:end] = vectors
        self.has[start:end] = True

    def put(self, start: int, vectors: Sequence[bytes | None]) -> None:
        """Take the vectors of the rows from `start` on, as little-endian float32."""
        self.reserve(start + len(vectors))
        rows: slice | list[int] = slice(start, start + len(vectors))
        there = [vector for vector in vectors if vector]
        if len(there) < len(vectors):
            rows = [row for row, vector in enumerate(vectors, start) if vector]
        if there:
            self.data[rows] = np.frombuffer(b"".join(there), _FLOAT).reshape(len(there), -1)
            self.has[rows] = True


class LivePart:
    """Operations after `covered_seq`, applied in the order of their seq. Not thread-safe: its collection locks."""

    def __init__(
        self, schema: Schema, segments: Sequence[Segment], indexers: Indexers, before: LivePart | None = None
    ) -> None:
        """before: the live part that was sealed"""
        self._segments = segments
        sealed: dict[str, _Buffer] = {} if before is None else before._buffers
        self._buffers: dict[str, _Buffer] = {
            name: _Buffer(vector, indexers, sealed.get(name)) for name, vector in schema.vectors.items()
        }
        self._keys: list[bytes] = []
        self._payloads: list[bytes] = []
        self._versions: list[int] = []
        self._newest = Newest()
        self._alive = np.zeros(_FIRST_ROOM, np.bool_)
        self._patches: list[Patches] = [{} for _ in segments]
        self._masks: list[Mask | None] = [segment.alive for segment in segments]
        self._shown = [True] * len(segments)
        self.operations = 0
        self.bytes = 0

    @property
    def points(self) -> int:
        """Points that it holds."""
        return len(self._newest.rows)

    def apply(self, operations: Sequence[Operation]) -> None:
        """Take operations whose seq is higher than all before."""
        self._newest.moment += 1
        for upserts, run in groupby(operations, key=_is_upsert):
            if upserts:
                self._upsert(list(run))
            else:
                for operation in run:
                    self._apply(operation)
        self.operations += len(operations)
        self.bytes += sum([len(one.vectors) + len(one.payload) + len(one.key) for one in operations])

    def _upsert(self, run: Sequence[Operation]) -> None:
        """Nearly all that is ever written comes in runs of these: their vectors are copied together."""
        run = self._superseding(run)
        keys, packed = [one.key for one in run], [one.vectors for one in run]
        payloads, seqs = [one.payload for one in run], [one.seq for one in run]
        alike = self._alike(packed)
        if alike is None:
            self._append(keys, [vector_bytes(one) for one in packed], payloads, seqs)
        else:
            (buffer,) = self._buffers.values()
            buffer.put_all(len(self._keys), alike)
            self._add_rows(keys, payloads, seqs)

    def _alike(self, packed: Sequence[bytes]) -> Vectors | None:
        """`(n, dim)`, where every row has exactly the one vector that there is: then they differ in nothing else."""
        if len(self._buffers) != 1 or not packed or len(set(map(len, packed))) != 1:
            return None
        ((name, buffer),) = self._buffers.items()
        head = pack_vectors({name: buffer.data[0]})[: -buffer.data.itemsize * buffer.data.shape[1]]
        rows = np.frombuffer(b"".join(packed), np.uint8).reshape(len(packed), -1)
        if rows.shape[1] != len(head) + buffer.data.itemsize * buffer.data.shape[1]:
            return None
        if (rows[:, : len(head)] != np.frombuffer(head, np.uint8)).any():
            return None
        return np.ascontiguousarray(rows[:, len(head) :]).view(_FLOAT)

    def _superseding(self, run: Sequence[Operation]) -> Sequence[Operation]:
        """The upserts that count; what is sealed of their points then does no longer."""
        keys, seqs = [one.key for one in run], np.array([one.seq for one in run], np.int64)
        late: set[int] = set()  # a bulk import that started later has these points
        for number, segment in enumerate(self._segments):
            found = segment.find_all(keys)
            places = np.flatnonzero(found >= 0)
            mask, patches = self._masks[number], self._patches[number]
            if mask is not None:
                places = places[mask[found[places]]]
            if not len(places):
                continue
            rows = found[places]
            versions = segment.versions[rows]
            if patches:
                versions = np.array([self._version(number, row) for row in rows.tolist()], np.int64)
            newer = versions < seqs[places]
            late.update(places[~newer].tolist())
            self._hide(number, rows[newer])
        return [one for place, one in enumerate(run) if place not in late] if late else run

    def _apply(self, operation: Operation) -> None:
        sealed = self._sealed(operation.key)
        if sealed is not None and self._version(*sealed) >= operation.seq:
            return
        match operation.kind:
            case Kind.DELETE:
                self._remove(operation.key, sealed)
            case Kind.PATCH_PAYLOAD:
                self._patch(operation, sealed)
            case Kind.UPDATE_VECTORS | Kind.DELETE_VECTORS:
                self._change_vectors(operation, sealed)

    def _sealed(self, key: bytes) -> tuple[int, int] | None:
        """The segment (by number) and row that hold the point and still count: at most one does."""
        for number, segment in enumerate(self._segments):
            row = segment.find(key)
            if row >= 0 and self._counts(number, row):
                return number, row
        return None

    def _counts(self, number: int, row: int) -> bool:
        mask = self._masks[number]
        return mask is None or bool(mask[row])

    def _version(self, number: int, row: int) -> int:
        patch = self._patches[number].get(row)
        return patch[1] if patch else self._segments[number].version(row)

    def _payload(self, number: int, row: int) -> bytes:
        patch = self._patches[number].get(row)
        return patch[0] if patch else self._segments[number].payload(row)

    def _hide(self, number: int, rows: Rows) -> None:
        """Sealed rows that count no longer."""
        if not len(rows):
            return
        self._unshare(number)
        mask = self._masks[number]
        if mask is None:
            mask = self._masks[number] = np.ones(len(self._segments[number]), np.bool_)
        mask[rows] = False
        patches = self._patches[number]
        for row in rows.tolist() if patches else ():
            patches.pop(row, None)

    def _unshare(self, number: int) -> None:
        """Before anything over a segment changes: snapshots hold what was there."""
        if self._shown[number]:
            self._shown[number] = False
            mask = self._masks[number]
            self._masks[number] = None if mask is None else mask.copy()
            self._patches[number] = dict(self._patches[number])

    def _remove(self, key: bytes, sealed: tuple[int, int] | None) -> None:
        if sealed is not None:
            number, row = sealed
            self._hide(number, np.array([row], np.int64))
        before = self._newest.rows.pop(key, None)
        if before is not None:
            self._alive[before] = False

    def _patch(self, operation: Operation, sealed: tuple[int, int] | None) -> None:
        """A sealed point keeps its vectors where they are: only its payload is overlaid."""
        patch = unpack_patch(operation.payload)
        live = self._newest.rows.get(operation.key)
        if live is not None:
            vectors, payload = self._live_vectors(live), patched(self._payloads[live], patch)
            self._remove(operation.key, None)
            self._add(operation.key, vectors, payload, operation.seq)
        elif sealed is not None:
            number, row = sealed
            self._unshare(number)
            self._patches[number][row] = (patched(self._payload(number, row), patch), operation.seq)

    def _change_vectors(self, operation: Operation, sealed: tuple[int, int] | None) -> None:
        live = self._newest.rows.get(operation.key)
        if live is not None:
            vectors, payload = self._live_vectors(live), self._payloads[live]
        elif sealed is not None:
            number, row = sealed
            segment = self._segments[number]
            found = {name: segment.vector(name, row) for name in self._buffers}
            vectors = {name: vector for name, vector in found.items() if vector is not None}
            payload = self._payload(number, row)
        else:
            return
        if operation.kind is Kind.UPDATE_VECTORS:
            vectors |= unpack_vectors(operation.vectors)
        else:
            gone = msgspec.json.decode(operation.payload, type=frozenset[str])
            vectors = {name: vector for name, vector in vectors.items() if name not in gone}
        self._remove(operation.key, sealed)
        self._add(operation.key, vectors, payload, operation.seq)

    def _live_vectors(self, row: int) -> dict[str, Vectors]:
        return {name: buffer.data[row] for name, buffer in self._buffers.items() if buffer.has[row]}

    def _add(self, key: bytes, vectors: Mapping[str, Vectors], payload: bytes, seq: int) -> None:
        packed = {name: vector.astype(_FLOAT, copy=False).tobytes() for name, vector in vectors.items()}
        self._append([key], [packed], [payload], [seq])

    def _append(
        self,
        keys: Sequence[bytes],
        vectors: Sequence[Mapping[str, bytes]],
        payloads: Sequence[bytes],
        seqs: Sequence[int],
    ) -> None:
        """Add rows; of one key the last counts."""
        for name, buffer in self._buffers.items():
            buffer.put(len(self._keys), [one.get(name) for one in vectors])
        self._add_rows(keys, payloads, seqs)

    def _add_rows(self, keys: Sequence[bytes], payloads: Sequence[bytes], seqs: Sequence[int]) -> None:
        """Add rows whose vectors are there already."""
        start, end = len(self._keys), len(self._keys) + len(keys)
        while end > len(self._alive):
            self._alive = np.concatenate([self._alive, np.zeros_like(self._alive)])
        self._alive[start:end] = True
        rows = self._newest.rows
        for row, key in enumerate(keys, start):
            before = rows.get(key)
            if before is not None:
                self._alive[before] = False
            rows[key] = row
        self._keys += keys
        self._payloads += payloads
        self._versions += seqs

    def snapshot(self) -> tuple[LiveSnapshot, list[Overlay]]:
        """The live rows now, and what lies over each segment."""
        rows = len(self._keys)
        live = LiveSnapshot(
            self._alive[:rows].copy(),
            self._keys,
            self._payloads,
            self._versions,
            {name: buffer.show(rows) for name, buffer in self._buffers.items()},
            self._newest,
        )
        self._shown = [True] * len(self._segments)
        return live, [Overlay(*both) for both in zip(self._masks, self._patches, strict=True)]


def _is_upsert(operation: Operation) -> bool:
    return operation.kind is Kind.UPSERT
