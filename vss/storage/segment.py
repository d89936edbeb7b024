"""An opened segment: immutable, mapped, shared by every view that names it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from typing import Any, cast

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from vss.errors import Code, VssError
from vss.filters import Condition, name_of
from vss.protocols import Indexers
from vss.storage.artifacts import ArtifactStore
from vss.storage.columns import Columns
from vss.storage.filtering import Filtering
from vss.storage.ids import Blobs, Ids
from vss.storage.manifest import SegmentRecord
from vss.storage.npy import map_npy
from vss.storage.segment_vectors import SegmentVectors
from vss.storage.selection import Cache, Selection, selected
from vss.storage.spans import Arrays, Column
from vss.types import Mask, Rows, Vectors

SELECTION_BYTES, SELECTION_BYTES_A_ROW, MOST_SELECTION_BYTES = 64 << 20, 128, 256 << 20
"""What a segment keeps of filters takes no more than the greater of the first two (the codes of 128 components), and
never more than the last; the least recently used go first."""


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
        self._filtering = Filtering(self._columns, self._ids, self._payloads, self.vectors)
        self.test = self._filtering.test
        self.times_asked = self._filtering.times_asked
        self.walks: dict[Any, Any] = {}
        """How filters that are new to it are answered, by what was asked for (`vss.search.tested`)."""
        self._selections: Cache[tuple[Mask | None, Selection]] = Cache(self.selection_bytes)

    def read_as(self, record: SegmentRecord, artifacts: ArtifactStore) -> Segment | None:
        """This segment with other tombstones, over the same open files; None when it differs in more than that."""
        if record == self.record:
            return self
        if replace(record, tombstones=self.record.tombstones, deleted=self.record.deleted) != self.record:
            return None
        again = copy(self)
        again.record, again._tombstones = record, _tombstones(record, artifacts)
        again._selections = Cache(self.selection_bytes)
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
        return self._filtering.mask(condition)

    def select(self, name: str, where: Condition | None, alive: Mask | None) -> tuple[Selection, bool]:
        """The vectors by that name in rows that are `alive` (None: all) and pass; and whether it was known already."""
        kept = _kept_as(name, where)
        known = self._known(kept, name, where, alive)
        if known is not None:
            return known, True
        passing, read = None if where is None else self._filtering.passing(where), 0
        if where is not None and passing is None:
            passing, read = self.filtered(where)
        if passing is not None and passing.dtype != np.bool_:
            selection = self._left(name, cast("NDArray[np.int32]", passing), alive)
        else:
            selection = self.among(name, cast("Mask | None", passing), read, alive)
        self._selections.put(kept, (alive, selection), selection.nbytes)
        return selection, False

    def keep(self, name: str, where: Condition | None, alive: Mask | None, selection: Selection) -> None:
        """Remember that `select` gave this, of as many bytes as it has now."""
        self._selections.put(_kept_as(name, where), (alive, selection), selection.nbytes)

    @property
    def selection_bytes(self) -> int:
        """Bytes that what it keeps of filters may take."""
        return min(max(SELECTION_BYTES, SELECTION_BYTES_A_ROW * len(self)), MOST_SELECTION_BYTES)

    @property
    def gathered_bytes(self) -> int:
        """Bytes of all that was gathered for filters and is kept."""
        return sum([one.gathered.nbytes for _, one in self._selections.kept() if one.gathered is not None])

    def known(self, name: str, where: Condition | None, alive: Mask | None) -> Selection | None:
        """What `select` would give, where it is known already."""
        return self._known(_kept_as(name, where), name, where, alive)

    def _known(self, kept_as: str, name: str, where: Condition | None, alive: Mask | None) -> Selection | None:
        one = self.vectors.get(name)
        if one is None:  # the name was added after the segment was built
            return Selection(None, 0)
        if where is None and alive is None:
            return Selection(None, len(one.vectors))
        kept = self._selections.get(kept_as)
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

    def ordered(self, key: str) -> dict[str, tuple[NDArray[Any], NDArray[Any]]] | None:
        """The rows by a payload field (see `Columns.ordered`); tombstones too."""
        return self._columns.ordered(key)

    def close(self) -> None:
        """Free the indexes."""
        for one in self.vectors.values():
            one.index.close()


def _kept_as(vector: str, where: Condition | None) -> str:
    return f"{vector} {None if where is None else name_of(where)}"


def _tombstones(record: SegmentRecord, artifacts: ArtifactStore) -> Rows | None:
    return None if record.tombstones is None else map_npy(artifacts.path(record.tombstones))


def _columns(record: SegmentRecord, artifacts: ArtifactStore) -> dict[Column, Arrays]:
    return {
        (column.path, column.type): {
            role: map_npy(artifacts.path(artifact)) for role, artifact in column.arrays.items()
        }
        for column in record.columns
    }
