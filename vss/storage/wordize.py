"""Makes the words of the texts at one path of a segment, text by text; `vss.storage.words` says what they are."""

from __future__ import annotations

from array import array
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vss.filters import words
from vss.storage.words import MAX_WORD

MAX_DISTINCT = 1 << 20
"""Different words of one path; about 100 MB while they are gathered."""

Arrays = dict[str, NDArray[Any]]


class Texts:
    """The words of one path so far.

    postings: pairs of word and row, 8 bytes each; a word that is in several texts of a row counts for each of them
    """

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._words, self._rows = array("i"), array("i")
        self._many: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._several: list[int] = []
        self._long: list[int] = []
        self._last = -1
        self.postings = 0

    @property
    def too_many(self) -> bool:
        """Whether there are more different words than a path may have."""
        return len(self._codes) > MAX_DISTINCT

    def add(self, text: str, row: int) -> int:
        """Take one text; how many postings it added. Rows never fall."""
        found = self._coded(text, row)
        self._words.extend(found)
        self._rows.extend([row] * len(found))
        self.postings += len(found)
        if row == self._last:
            self._several.append(row)
        self._last = row
        return len(found)

    def add_all(self, texts: dict[str, int], codes: NDArray[Any], rows: NDArray[Any]) -> None:
        """Take texts that come again. They have numbers in `texts`; number `codes[i]` is in row `rows[i]`, rising."""
        before = len(self._long)
        found = [self._coded(text, place) for place, text in enumerate(texts)]
        long = self._long[before:]
        del self._long[before:]
        self._long += rows[np.isin(codes, long)].tolist()
        sizes = np.fromiter(map(len, found), np.int64, len(found))
        flat = np.fromiter(chain.from_iterable(found), np.int32, int(sizes.sum()))
        starts, taken = np.cumsum(sizes) - sizes, sizes[codes]
        within = np.arange(int(taken.sum())) - np.repeat(np.cumsum(taken) - taken, taken)
        self._many.append((flat[np.repeat(starts[codes], taken) + within], np.repeat(rows.astype(np.int32), taken)))
        self.postings += len(within)
        self._several += rows[1:][rows[1:] == rows[:-1]].tolist()
        self._last = int(rows[-1]) if len(rows) else self._last

    def _coded(self, text: str, place: int) -> list[int]:
        codes, found, long = self._codes, [], False
        for word in set(words(text)):
            if len(word) <= MAX_WORD:
                found.append(codes.setdefault(word, len(codes)))
            else:
                long = True
        if long:
            self._long.append(place)
        return found

    def arrays(self) -> Arrays:
        """What the column holds."""
        names = sorted(self._codes)  # by code point, which is the order of their bytes too
        rank = np.empty(len(names), np.int64)
        rank[[self._codes[name] for name in names]] = np.arange(len(names))
        parts = [*self._many, (np.asarray(self._words, np.int64), np.asarray(self._rows, np.int64))]
        keys = np.concatenate([rank[codes] << 32 | rows for codes, rows in parts])
        keys.sort()
        keys = keys[np.diff(keys, prepend=-1) > 0]
        texts = [name.encode() for name in names]
        whole = {
            "several": np.unique(np.asarray(self._several, np.int32)),
            "long": np.unique(np.asarray(self._long, np.int32)),
        }
        return {
            "offsets": _small(np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])),
            "bytes": np.frombuffer(b"".join(texts), np.uint8),
            "starts": _small(np.searchsorted(keys, np.arange(len(names) + 1) << 32)),
            "rows": (keys & 0xFFFFFFFF).astype(np.int32),
        } | {role: rows for role, rows in whole.items() if len(rows)}


def _small(rising: NDArray[Any]) -> NDArray[Any]:
    return rising.astype(np.int32 if rising[-1] < 1 << 31 else np.int64)
