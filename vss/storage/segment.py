"""An opened segment: immutable, mapped, shared by every view that names it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property, reduce
from typing import Any, cast

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from vss.errors import Code, VssError
from vss.filters import Condition, Filter, HasId, HasVector, predicate
from vss.points import id_key, key_id
from vss.protocols import Index, Indexers
from vss.recall import CurvePoint
from vss.storage.artifacts import ArtifactStore
from vss.storage.bounds import Bounds
from vss.storage.columns import Arrays, Column, Columns
from vss.storage.ids import Blobs, Ids
from vss.storage.manifest import SegmentRecord, VectorsRecord
from vss.storage.npy import map_npy
from vss.storage.selection import Cache, Selection, dense, selected
from vss.types import Mask, Rows, Vectors

EXACT = "flat"
"""The index kind that needs no files."""

MASK_CACHE_BYTES = 64 << 20
"""Masks kept for each segment, in bytes, and as much of selections; the least recently used go first."""


class SegmentVectors:
    """One vector name of a segment: the vectors, the rows that they belong to, and their index.

    vectors: `(m, dim)` float32, mapped
    rows:    `(m,)` int64 segment rows, rising; None when vector i belongs to row i
    index:   the one of the record; the exact one of `flat` where that is damaged
    curve:   its calibration, rising by effort
    damage:  what is wrong with the index, or None
    """

    def __init__(self, record: VectorsRecord, artifacts: ArtifactStore, indexers: Indexers, segment_rows: int) -> None:
        self.record = record
        self.curve = tuple(CurvePoint(one.effort, one.recall, one.microseconds) for one in record.calibration)
        self.damage: str | None = None
        self.vectors: Vectors = map_npy(artifacts.path(record.vectors))
        self.rows: Rows | None = None if record.rows is None else map_npy(artifacts.path(record.rows))
        count = segment_rows if self.rows is None else len(self.rows)
        if self.vectors.shape != (count, record.index.dim) or self.vectors.dtype != np.float32:
            raise VssError(
                Code.CORRUPT, f"got vectors of shape {self.vectors.shape}, wanted {(count, record.index.dim)}"
            )
        try:
            files = {name: artifacts.path(artifact) for name, artifact in record.files.items()}
            self.index: Index = indexers.builder(record.index.kind).open(files, record.index, self.vectors)
        except VssError as error:
            if error.code is not Code.CORRUPT:
                raise
            # The vectors are whole: they answer exactly, if slowly, until the index is built again.
            self.damage = f"its {record.index.kind} index: {error.message}"
            exact = indexers.builder(EXACT)
            self.index = exact.open({}, exact.spec(record.index.metric, record.index.dim, {}), self.vectors)

    def position(self, row: int) -> int:
        """Where the vector of a segment row is, or -1 when the row has none."""
        if self.rows is None:
            return row
        at = int(np.searchsorted(self.rows, row))
        return at if at < len(self.rows) and self.rows[at] == row else -1


class Segment:
    """The opened artifacts of one `SegmentRecord`. Thread-safe.

    What ids, payloads, vectors or tombstones tell cannot be had from elsewhere: VssError (CORRUPT) when one of them is
    missing or damaged. Indexes, columns and the order of ids can: without them the same answers take longer, and
    `damage` says so.
    """

    def __init__(self, record: SegmentRecord, artifacts: ArtifactStore, indexers: Indexers) -> None:
        self.record = record
        damage: list[str] = []
        try:
            self._open(record, artifacts, indexers, damage)
        except VssError:
            raise
        except Exception as error:  # a file that was verified, and changed since in a way that hides it
            raise VssError(
                Code.CORRUPT,
                f"segment {record.id} cannot be read: {type(error).__name__}: {error}",
                hint="`vss doctor` says what can be repaired",
            ) from error
        damage += [one.damage for one in self.vectors.values() if one.damage]
        self.damage = tuple(damage)

    def _open(self, record: SegmentRecord, artifacts: ArtifactStore, indexers: Indexers, damage: list[str]) -> None:
        ids = {name: artifacts.path(one) for name, one in record.ids.items() if name != "order"}
        try:
            ids["order"] = artifacts.path(record.ids["order"])
        except VssError as error:
            damage.append(f"its order of ids: {error.message}")
        self._ids = Ids(ids)
        self._payloads = Blobs(*(map_npy(artifacts.path(record.payloads[name])) for name in ("offsets", "bytes")))
        self.versions: Rows = map_npy(artifacts.path(record.versions))
        self.vectors = {
            name: SegmentVectors(one, artifacts, indexers, record.rows) for name, one in record.vectors.items()
        }
        try:
            columns, complete, added = _columns(record, artifacts), record.columns_complete, record.added
        except VssError as error:
            damage.append(f"its columns: {error.message}")
            columns, complete, added = {}, False, ()
        self._columns = Columns(
            record.rows,
            columns,
            scanned=frozenset(record.scanned),
            complete=complete,
            form=record.columns_form,
            shapes_complete=complete and record.shapes_complete,
            added=frozenset(added),
        )
        self._tombstones = _tombstones(record, artifacts)
        sizes = {len(self._ids), len(self._payloads), len(self.versions)}
        if sizes != {record.rows}:
            raise ValueError(f"got files of {sorted(sizes)} rows, wanted {record.rows}")
        self.answers = self._columns.answers
        self._masks: Cache[Mask] = Cache(MASK_CACHE_BYTES)
        self._selections: Cache[tuple[Mask | None, Selection]] = Cache(MASK_CACHE_BYTES)

    def read_as(self, record: SegmentRecord, artifacts: ArtifactStore) -> Segment | None:
        """This segment with other tombstones, over the same open files; None when it differs in more than that."""
        if record == self.record:
            return self
        if replace(record, tombstones=self.record.tombstones, deleted=self.record.deleted) != self.record:
            return None
        again = copy(self)
        again.record, again._tombstones = record, _tombstones(record, artifacts)
        again._selections = Cache(MASK_CACHE_BYTES)
        again.__dict__.pop("alive", None)
        return again

    def __len__(self) -> int:
        return self.record.rows

    @cached_property
    def alive(self) -> Mask | None:
        """`(n,)` False on tombstones; None when there are none."""
        if self._tombstones is None:
            return None
        alive = np.ones(len(self), np.bool_)
        alive[self._tombstones] = False
        return alive

    def key(self, row: int) -> bytes:
        """The key of a row's id."""
        return self._ids.key(row)

    def find(self, key: bytes) -> int:
        """The row of a key, or -1; it may be a tombstone."""
        return self._ids.find(key)

    def find_all(self, keys: Sequence[bytes]) -> Rows:
        """`(n,)` int64 rows of so many keys, as `find` gives each."""
        return self._ids.find_all(keys)

    def after(self, key: bytes | None, *, inclusive: bool) -> Iterator[tuple[bytes, int]]:
        """(key, row) in scroll order from `key` on; tombstones too."""
        return self._ids.after(key, inclusive=inclusive)

    def payload(self, row: int) -> bytes:
        """The JSON object of a row."""
        return self._payloads[row]

    def version(self, row: int) -> int:
        """The sequence number that wrote the row."""
        return int(self.versions[row])

    def vector(self, name: str, row: int) -> Vectors | None:
        """`(dim,)` float32, or None when the row has no such vector."""
        one = self.vectors.get(name)
        at = -1 if one is None else one.position(row)
        return None if one is None or at < 0 else one.vectors[at]

    def some_vectors(self, name: str, rows: Rows) -> tuple[Rows, Vectors]:
        """Of `(n,)` rows: the places of those that have such a vector, rising, and these `(m, dim)` vectors."""
        one = self.vectors.get(name)
        if one is None:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        if one.rows is None:
            return np.arange(len(rows)), one.vectors[rows]
        at = np.minimum(np.searchsorted(one.rows, rows), max(0, len(one.rows) - 1))
        have = np.flatnonzero(one.rows[at] == rows) if len(one.rows) else np.empty(0, np.int64)
        return have, one.vectors[at[have]]

    def mask(self, condition: Condition) -> Mask:
        """`(n,)` which rows pass, cached by condition. Tombstones are the view's matter. Never write into it."""
        return self.filtered(condition)[0]

    def filtered(self, condition: Condition) -> tuple[Mask, int]:
        """The mask, and how many payloads were read for it now."""
        name = repr(condition)  # not the condition itself: to a dict, Match(k, (1,)) and Match(k, (True,)) are one key
        mask = self._masks.get(name)
        if mask is not None:
            return mask, 0
        mask, read = self._evaluate(condition)
        mask.flags.writeable = False
        self._masks.put(name, mask, mask.nbytes)
        return mask, read

    def select(self, name: str, where: Condition | None, alive: Mask | None) -> tuple[Selection, bool]:
        """The vectors by that name in rows that are `alive` (None: all) and pass; and whether it was known already."""
        known = self.known(name, where, alive)
        if known is not None:
            return known, True
        passing, read = None if where is None else self._passing(where), 0
        if where is not None and passing is None:
            passing, read = self.filtered(where)
        if passing is not None and passing.dtype != np.bool_:
            selection = self._left(name, cast("NDArray[np.int32]", passing), alive)
        else:
            selection = self.among(name, cast("Mask | None", passing), read, alive)
        self.keep(name, where, alive, selection)
        return selection, False

    def keep(self, name: str, where: Condition | None, alive: Mask | None, selection: Selection) -> None:
        """Remember that `select` gave this, of as many bytes as it has now."""
        self._selections.put(_name_of(name, where), (alive, selection), selection.nbytes)

    def known(self, name: str, where: Condition | None, alive: Mask | None) -> Selection | None:
        """What `select` would give, where it is known already."""
        one = self.vectors.get(name)
        if one is None:  # the name was added after the segment was built
            return Selection(None, 0)
        if where is None and alive is None:
            return Selection(None, len(one.vectors))
        kept = self._selections.get(_name_of(name, where))
        return kept[1] if kept is not None and kept[0] is alive else None

    def among(self, name: str, mask: Mask | None, read: int, alive: Mask | None = None) -> Selection:
        """The vectors by that name in rows of masks `(n,)`, None: all; `read` as in `Selection`."""
        one = self.vectors[name]
        both = alive if mask is None else mask if alive is None else mask & alive
        if both is None:
            return Selection(None, len(one.vectors))
        return selected(both if one.rows is None else both[one.rows], read)

    def _left(self, name: str, rows: NDArray[np.int32], alive: Mask | None) -> Selection:
        """The vectors by that name in rising rows, those that are `alive`."""
        one = self.vectors[name]
        if alive is not None:
            rows = rows[alive.take(rows)]
        if one.rows is not None:
            at = np.searchsorted(one.rows, rows)
            rows = at[one.rows.take(at, mode="clip") == rows].astype(np.int32)
        return Selection.listed(rows, len(one.vectors))

    def _passing(self, where: Condition) -> NDArray[np.int32] | Mask | None:
        """The rows that pass, rising, or a mask of all, whichever is less work; None where more than columns are asked.

        The shortest list among conditions that have to hold is looked up in what the others let through.
        """
        if not isinstance(where, Filter):
            return self._told(where)
        if where.should or where.min_should is not None:
            return None
        must, must_not = ([self._told(one) for one in some] for some in (where.must, where.must_not))
        if not (must or must_not) or any(one is None for one in (*must, *must_not)):
            return None
        wanted, unwanted = ([one for one in some if one is not None] for some in (must, must_not))
        left = min((one for one in wanted if one.dtype != np.bool_), key=len, default=None)
        if left is not None:
            for one in wanted:
                left = left if one is left else left[dense(one, len(self)).take(left)]
            for one in unwanted:
                left = left[~dense(one, len(self)).take(left)]
            return left
        passing = reduce(np.logical_and, wanted) if wanted else ~dense(unwanted.pop(), len(self))
        for one in unwanted:
            passing = np.greater(passing, dense(one, len(self)))  # the one and not the other
        return passing

    def _told(self, condition: Condition) -> NDArray[np.int32] | Mask | None:
        """As `Columns.passing`; a mask is kept, for it may come again in other filters."""
        name = repr(condition)
        known = self._masks.get(name)
        if known is not None:
            return known
        found = self._columns.passing(condition)
        if found is not None and found.dtype == np.bool_:
            found.flags.writeable = False
            self._masks.put(name, cast(Mask, found), found.nbytes)
        return found

    def _evaluate(self, condition: Condition) -> tuple[Mask, int]:
        match condition:
            case HasId(ids):
                mask = np.zeros(len(self), np.bool_)
                rows = (self._ids.find(id_key(one)) for one in ids)
                mask[[row for row in rows if row >= 0]] = True
                return mask, 0
            case HasVector(name):
                one = self.vectors.get(name)
                mask = np.full(len(self), one is not None and one.rows is None)
                if one is not None and one.rows is not None:
                    mask[one.rows] = True
                return mask, 0
            case Filter():
                return self._joined(condition)
        return self._read(condition, Bounds(*self._columns.bounds(condition)))

    def _joined(self, where: Filter) -> tuple[Mask, int]:
        """What columns answer comes first, so that payloads are read only in the rows that are left, and once."""
        known = [self._bounds(one) for one in where.must]
        known += [self._bounds(one).opposite() for one in where.must_not]
        if where.should:
            known.append(self._at_least(1, where.should))
        if where.min_should is not None:
            known.append(self._at_least(where.min_should.count, where.min_should.conditions))
        if not known:
            return np.ones(len(self), np.bool_), 0
        return self._read(where, reduce(Bounds.both, known))

    def _bounds(self, condition: Condition) -> Bounds:
        """What is known of a condition without reading a payload; of a filter in a filter everything, for it may be
        one that comes again."""
        if isinstance(condition, Filter | HasId | HasVector) or self._columns.answers(condition):
            mask, read = self.filtered(condition)
            return Bounds(mask, mask, read)
        known = self._masks.get(repr(condition))
        return Bounds(*self._columns.bounds(condition)) if known is None else Bounds(known, known)

    def _at_least(self, count: int, conditions: Sequence[Condition]) -> Bounds:
        sure, maybe = np.zeros(len(self), np.int32), np.zeros(len(self), np.int32)
        read = 0
        for one in map(self._bounds, conditions):
            sure += one.sure
            maybe += one.maybe
            read += one.read
        return Bounds(sure >= count, maybe >= count, read)

    def _read(self, condition: Condition, bounds: Bounds) -> tuple[Mask, int]:
        """Read the payloads of the rows that the bounds leave open."""
        if bounds.sure is bounds.maybe:
            return bounds.sure, bounds.read
        left = bounds.maybe & ~bounds.sure
        count = int(np.count_nonzero(left))
        return (bounds.sure | self._scan(condition, left) if count else bounds.sure.copy()), bounds.read + count

    def _scan(self, condition: Condition, within: Mask) -> Mask:
        """Which of the rows `within` pass, read from their payloads."""
        passes = predicate(condition)
        mask = np.zeros(len(self), np.bool_)
        for row in np.flatnonzero(within).tolist():
            payload = msgspec.json.decode(self._payloads[row])
            mask[row] = passes(key_id(self.key(row)), payload, _VectorNames(self, row))
        return mask

    def ordered(self, key: str) -> dict[str, tuple[NDArray[Any], NDArray[Any]]] | None:
        """The rows by a payload field (see `Columns.ordered`); tombstones too."""
        return self._columns.ordered(key)

    def close(self) -> None:
        """Free the indexes."""
        for one in self.vectors.values():
            one.index.close()


def _name_of(vector: str, where: Condition | None) -> str:
    return f"{vector} {where!r}"


def _tombstones(record: SegmentRecord, artifacts: ArtifactStore) -> Rows | None:
    return None if record.tombstones is None else map_npy(artifacts.path(record.tombstones))


def _columns(record: SegmentRecord, artifacts: ArtifactStore) -> dict[Column, Arrays]:
    return {
        (column.path, column.type): {
            role: map_npy(artifacts.path(artifact)) for role, artifact in column.arrays.items()
        }
        for column in record.columns
    }


class _VectorNames:
    """The names of the vectors that a row has, looked up when they are asked for."""

    __slots__ = ("_row", "_segment")

    def __init__(self, segment: Segment, row: int) -> None:
        self._segment = segment
        self._row = row

    def __contains__(self, name: object) -> bool:
        one = self._segment.vectors.get(name) if isinstance(name, str) else None
        return one is not None and one.position(self._row) >= 0
