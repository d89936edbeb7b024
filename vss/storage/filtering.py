"""Which rows of a segment pass a filter: by its columns, and by reading payloads where these do not tell."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from vss.filters import Condition, Filter, HasId, HasVector, name_of, predicate
from vss.points import id_key, key_id
from vss.storage.bounds import Bounds
from vss.storage.columns import Columns
from vss.storage.ids import Blobs, Ids
from vss.storage.marks import Marks
from vss.storage.segment_vectors import SegmentVectors
from vss.storage.selection import Cache
from vss.storage.spans import RowTest
from vss.types import Mask, Rows

MASK_BYTES = 64 << 20
"""Masks kept for each segment; the least recently used go first."""

ASKED = 4096
"""Conditions of which it is remembered how often they were asked for."""


class Filtering:
    """Over what a segment has opened; tombstones are not its matter. Thread-safe, with the masks of conditions kept."""

    def __init__(self, columns: Columns, ids: Ids, payloads: Blobs, vectors: Mapping[str, SegmentVectors]) -> None:
        self._rows = len(ids)
        self._columns = columns
        self._ids = ids
        self._payloads = payloads
        self._vectors = vectors
        self._marks = Marks(self._rows)
        self._masks: Cache[Mask] = Cache(MASK_BYTES)
        self._lock = threading.Lock()
        self._asked: dict[int, int] = {}

    def mask(self, condition: Condition) -> tuple[Mask, int]:
        """`(n,)` which rows pass, never to be written to, and how many payloads were read for it now."""
        name = name_of(condition)
        mask = self._masks.get(name)
        if mask is not None:
            return mask, 0
        mask, read = self._evaluate(condition)
        mask.flags.writeable = False
        self._masks.put(name, mask, mask.nbytes)
        return mask, read

    def passing(self, where: Condition) -> NDArray[np.int32] | Mask | None:
        """The rows that pass, rising, or a mask of all, whichever is less work; None where columns do not tell."""
        if not isinstance(where, Filter):
            return self._told(where)
        if where.should or where.min_should is not None:
            return None
        must, must_not = ([self._told(one) for one in some] for some in (where.must, where.must_not))
        if not (must or must_not) or any(one is None for one in (*must, *must_not)):
            return None
        wanted, unwanted = ([one for one in some if one is not None] for some in (must, must_not))
        shortest = min((one for one in wanted if one.dtype != np.bool_), key=len, default=None)
        if shortest is not None:
            left = shortest.astype(np.int32, copy=False)
            for one in wanted:
                left = left if one is shortest else left[self._among(one, left)]
            for one in unwanted:
                left = left[~self._among(one, left)]
            return left
        passing = reduce(np.logical_and, wanted) if wanted else np.ones(self._rows, np.bool_)
        if len(wanted) == 1 and unwanted:
            passing = passing.copy()  # a mask that is kept is not written to
        for one in unwanted:
            if one.dtype == np.bool_:
                np.greater(passing, one, out=passing)  # the one and not the other
            else:
                passing[one] = False
        return passing

    def _among(self, one: NDArray[np.int32] | Mask, rows: NDArray[np.int32]) -> Mask:
        """Which of the rows are in a list, or in a mask."""
        return cast(Mask, one).take(rows) if one.dtype == np.bool_ else self._marks.among(one, rows)

    def _told(self, condition: Condition) -> NDArray[np.int32] | Mask | None:
        """As `Columns.passing`. A mask is kept once it was asked for twice: to keep one that comes once costs more, for
        memory that is to be had first, than to make it in what the last one left."""
        name = name_of(condition)
        known = self._masks.get(name)
        if known is not None:
            return known
        found = self._columns.passing(condition)
        if found is not None and found.dtype == np.bool_ and self.times_asked(name):
            found.flags.writeable = False
            self._masks.put(name, cast(Mask, found), found.nbytes)
        return found

    def test(self, where: Condition) -> RowTest | None:
        """For a filter that all of its conditions have to pass, or not to; None for others, and where columns do not
        tell. Conditions are taken to have nothing to do with each other."""
        if not isinstance(where, Filter):
            return self._columns.test(where)
        if where.should or where.min_should is not None or not (where.must or where.must_not):
            return None
        conditions = [(one, True) for one in where.must] + [(one, False) for one in where.must_not]
        tests = [(test, wanted) for one, wanted in conditions if (test := self._columns.test(one)) is not None]
        if len(tests) < len(conditions):
            return None
        share = math.prod(one.share if wanted else 1 - one.share for one, wanted in tests)
        return RowTest(share, lambda: _joined_tests([(one.made(), wanted) for one, wanted in tests]))

    def times_asked(self, name: str) -> int:
        """How often this was asked before, as far as it is remembered."""
        known = hash(name)  # of names that are long; should two have one, they count as the same
        with self._lock:
            times = self._asked.pop(known, 0)
            self._asked[known] = times + 1
            if len(self._asked) > ASKED:
                del self._asked[next(iter(self._asked))]
        return times

    def _evaluate(self, condition: Condition) -> tuple[Mask, int]:
        match condition:
            case HasId(ids):
                mask = np.zeros(self._rows, np.bool_)
                rows = (self._ids.find(id_key(one)) for one in ids)
                mask[[row for row in rows if row >= 0]] = True
                return mask, 0
            case HasVector(name):
                one = self._vectors.get(name)
                mask = np.full(self._rows, one is not None and one.rows is None)
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
            return np.ones(self._rows, np.bool_), 0
        return self._read(where, reduce(Bounds.both, known))

    def _bounds(self, condition: Condition) -> Bounds:
        """What is known of a condition without reading a payload; of a filter in a filter everything, for it may be
        one that comes again."""
        if isinstance(condition, Filter | HasId | HasVector) or self._columns.answers(condition):
            mask, read = self.mask(condition)
            return Bounds(mask, mask, read)
        known = self._masks.get(name_of(condition))
        return Bounds(*self._columns.bounds(condition)) if known is None else Bounds(known, known)

    def _at_least(self, count: int, conditions: Sequence[Condition]) -> Bounds:
        sure, maybe = np.zeros(self._rows, np.int32), np.zeros(self._rows, np.int32)
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
        mask = np.zeros(self._rows, np.bool_)
        for row in np.flatnonzero(within).tolist():
            payload = msgspec.json.decode(self._payloads[row])
            mask[row] = passes(key_id(self._ids.key(row)), payload, _VectorNames(self._vectors, row))
        return mask


def _joined_tests(tests: Sequence[tuple[Callable[[Rows], Mask] | None, bool]]) -> Callable[[Rows], Mask] | None:
    """What each of them says as it is wanted to."""
    told = [(test, wanted) for test, wanted in tests if test is not None]
    if len(told) < len(tests):
        return None
    return lambda rows: reduce(np.logical_and, [test(rows) == wanted for test, wanted in told])


class _VectorNames:
    """The names of the vectors that a row has, looked up when they are asked for."""

    __slots__ = ("_row", "_vectors")

    def __init__(self, vectors: Mapping[str, SegmentVectors], row: int) -> None:
        self._vectors = vectors
        self._row = row

    def __contains__(self, name: object) -> bool:
        one = self._vectors.get(name) if isinstance(name, str) else None
        return one is not None and one.position(self._row) >= 0
