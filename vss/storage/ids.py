"""The ids of a segment: keys in row order, and the permutation that sorts them.

Keys (`vss.points.id_key`) sort as scrolling does, so finding an id is a binary search and scrolling a slice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vss.storage.npy import map_npy, save_npy
from vss.types import Rows


def write_ids(folder: Path, keys: Sequence[bytes]) -> tuple[dict[str, Path], Rows]:
    """Write the three arrays of `SegmentRecord.ids`; also return the rows whose key a later row has again."""
    order = sorted(range(len(keys)), key=keys.__getitem__)  # stable: of equal keys the later row comes last
    replaced = [row for row, after in pairwise(order) if keys[row] == keys[after]]
    paths = {name: folder / f"ids.{name}.npy" for name in ("offsets", "bytes", "order")}
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum([len(key) for key in keys], out=offsets[1:])
    save_npy(paths["offsets"], offsets)
    save_npy(paths["bytes"], np.frombuffer(b"".join(keys), np.uint8))
    save_npy(paths["order"], np.asarray(order, np.int64))
    return paths, np.asarray(sorted(replaced), np.int64)


class Blobs:
    """Byte strings by row: "offsets" `(n+1,)` int64 into "bytes" `(b,)` uint8, both mapped."""

    def __init__(self, offsets: NDArray[Any], data: NDArray[Any]) -> None:
        # Offsets that leave the data would read garbage: they are checked once, here.
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(data) or bool((np.diff(offsets) < 0).any()):
            raise ValueError("the offsets do not fit the data")
        self._offsets = offsets
        self._places = np.ascontiguousarray(offsets).data  # gives an int in half the time
        self._data = data.data

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> bytes:
        return bytes(self._data[self._places[row] : self._places[row + 1]])

    @cached_property
    def alike(self) -> NDArray[np.bytes_] | None:
        """`(n,)` the strings as one array, where all are equally long (ids that are integers, UUIDs); else None.

        numpy takes zeros at their ends off, and so compares them rightly only with others of that length.
        """
        size = int(self._offsets[1]) if len(self) else 0
        if not size or (np.diff(self._offsets) != size).any():
            return None
        return np.frombuffer(self._data, np.dtype((np.bytes_, size)))

    def lower_bound(self, wanted: bytes) -> int:
        """Of sorted strings, the first one that is not before `wanted`; their number when there is none."""
        return bisect_left(self, wanted)


class Ids:
    """An opened segment's ids. Without "order" the keys are sorted here."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._keys = Blobs(map_npy(paths["offsets"]), map_npy(paths["bytes"]))
        if "order" in paths:
            self._order = map_npy(paths["order"])
        else:
            self._order = np.asarray(sorted(range(len(self._keys)), key=self._keys.__getitem__), np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, row: int) -> bytes:
        """The key of a row."""
        return self._keys[row]

    def find(self, key: bytes) -> int:
        """The row of a key (of several the last one written), or -1."""
        at = self._upper(key) - 1
        if at >= 0:
            row = int(self._order[at])
            if self._keys[row] == key:
                return row
        return -1

    def find_all(self, keys: Sequence[bytes]) -> Rows:
        """`(n,)` int64 what `find` says of each."""
        alike = self._keys.alike
        if alike is None:
            return np.asarray([self.find(key) for key in keys], np.int64)
        found = np.full(len(keys), -1, np.int64)
        places = [place for place, key in enumerate(keys) if len(key) == alike.itemsize]
        if places:
            wanted = np.asarray([keys[place] for place in places], alike.dtype)
            at = np.searchsorted(alike, wanted, side="right", sorter=self._order) - 1
            rows = self._order[np.maximum(at, 0)]
            found[places] = np.where((at >= 0) & (alike[rows] == wanted), rows, -1)
        return found

    def after(self, key: bytes | None, *, inclusive: bool) -> Iterator[tuple[bytes, int]]:
        """(key, row) in scroll order, from `key` on; from the start for None."""
        start = 0 if key is None else (self._lower(key) if inclusive else self._upper(key))
        for at in range(start, len(self._order)):
            row = int(self._order[at])
            yield self._keys[row], row

    def _upper(self, key: bytes) -> int:
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            if key < self._keys[self._order[middle]]:
                high = middle
            else:
                low = middle + 1
        return low

    def _lower(self, key: bytes) -> int:
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            if self._keys[self._order[middle]] < key:
                low = middle + 1
            else:
                high = middle
        return low
