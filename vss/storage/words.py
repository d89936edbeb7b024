"""The words of the texts at one path of a segment: which rows may pass a text filter, found without reading payloads.

A column of type "words" holds the distinct words, as `vss.filters.words` makes them, sorted ("bytes" of UTF-8 with
"offsets"), and the rising "rows" of word i at "starts"[i] to "starts"[i+1]. The rising rows of "several" have more than
one text there, and those of "long" a word of more than `MAX_WORD` characters, which is not among the words; either is
left out when there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vss.filters import Text, TextMode, words
from vss.storage.ids import Blobs
from vss.types import Mask

MAX_WORD = 128
"""Characters of a word that is kept. Texts with longer ones are read when such a word, or part of one, is asked for."""

SHORT_PART = 3
"""Characters of a part of a word below which it is not looked for: it would be in too many."""

MAX_CONTAINING = 4_096
"""Words that contain a part, past which it tells too little."""

LOOKED_UP = 20
"""A row is looked up in a sorted list in the time of writing so many of its rows into a mask."""

RowNumbers = NDArray[Any]
NONE: RowNumbers = np.zeros(0, np.int32)


class Words:
    """One such column, opened from mapped arrays."""

    def __init__(self, rows: int, arrays: dict[str, NDArray[Any]]) -> None:
        self._count = rows
        self._names = Blobs(arrays["offsets"], arrays["bytes"])
        self._text = arrays["bytes"]
        self._offsets = arrays["offsets"]
        self._starts = arrays["starts"]
        self._rows: RowNumbers = arrays["rows"]
        self._several: RowNumbers = arrays.get("several", NONE)
        self._long: RowNumbers = arrays.get("long", NONE)

    def bounds(self, condition: Text) -> tuple[Mask, Mask]:
        """`(n,)` the rows that pass, as far as words tell it, and the rows beside which none passes."""
        wanted = list(dict.fromkeys(words(condition.text)))
        single = len(wanted) == 1 and len(wanted[0]) <= MAX_WORD
        match condition.mode:
            case TextMode.ANY_WORD:
                sure = self._of(self._having(word) for word in wanted if len(word) <= MAX_WORD)
                return sure, sure | self._of(self._long for word in wanted if len(word) > MAX_WORD)
            case TextMode.ALL_WORDS | TextMode.PHRASE if not wanted:
                nothing = self._of([])
                return nothing, nothing
            case TextMode.ALL_WORDS:
                maybe = self._all(map(self._having, wanted))
                if single:
                    return maybe, maybe
                sure = maybe.copy()
                # The words of such a row may stand in different texts.
                sure[self._several] = False
                return sure & (not any(len(word) > MAX_WORD for word in wanted)), maybe
            case TextMode.PHRASE:
                maybe = self._all(map(self._having, wanted))
                # "a a" asks for more than the word "a".
                return (maybe, maybe) if single and len(words(condition.text)) == 1 else (self._of([]), maybe)
            case TextMode.PREFIX | TextMode.SUBSTRING:
                return self._of([]), self._all(self._clues(condition.text, condition.mode is TextMode.PREFIX))

    def listed(self, condition: Text) -> RowNumbers | None:
        """The rows that pass, rising, where words alone tell which have all that are asked for; None elsewhere."""
        wanted = list(dict.fromkeys(words(condition.text)))
        short = all(len(word) <= MAX_WORD for word in wanted)
        whole = condition.mode is TextMode.ALL_WORDS and (len(wanted) == 1 or not len(self._several))
        if not (wanted and short and whole):
            return None
        return self._in_all(map(self._having, wanted))

    def _clues(self, text: str, prefix: bool) -> Iterator[RowNumbers]:
        """Rows, of which each array holds all that have the text as a beginning or a part."""
        parts = words(text)
        if not parts:
            return
        head = not prefix and text[0].isalnum()  # the first word may go on to the left, the last one to the right
        tail = text[-1].isalnum()
        yield from map(self._having, parts[head : len(parts) - tail])
        if head:
            yield from self._containing(parts[0])
        if tail and not (head and len(parts) == 1):
            yield from self._beginning(parts[-1])

    def _having(self, word: str) -> RowNumbers:
        """The rows with a word; of one that is not kept, all that can have it."""
        if len(word) > MAX_WORD:
            return self._long
        name = word.encode(errors="surrogatepass")
        at = self._names.lower_bound(name)
        return self._of_words(at, at + 1) if at < len(self._names) and self._names[at] == name else NONE

    def _of_words(self, start: int, stop: int) -> RowNumbers:
        return self._rows[int(self._starts[start]) : int(self._starts[stop])]

    def _beginning(self, part: str) -> Iterator[RowNumbers]:
        name = _part(part)
        if name:
            start, stop = self._names.lower_bound(name), self._names.lower_bound(name + b"\xff")
            yield np.concatenate([self._of_words(start, stop), self._long])

    def _containing(self, part: str) -> Iterator[RowNumbers]:
        name = _part(part)
        if len(part) < SHORT_PART or not name:
            return
        data, found, at = self._text.tobytes(), [self._long], 0
        while (at := data.find(name, at)) >= 0:
            word = int(np.searchsorted(self._offsets, at, "right")) - 1
            end = int(self._offsets[word + 1])
            if at + len(name) > end:  # over the end of a word into the next one
                at += 1
                continue
            found.append(self._of_words(word, word + 1))
            if len(found) > MAX_CONTAINING:
                return
            at = end
        yield np.concatenate(found)

    def _of(self, several: Iterable[RowNumbers]) -> Mask:
        mask = np.zeros(self._count, np.bool_)
        for rows in several:
            mask[rows] = True
        return mask

    def _all(self, several: Iterable[RowNumbers]) -> Mask:
        """The rows that are in each; all rows for none."""
        left = self._in_all(several)
        return np.ones(self._count, np.bool_) if left is None else self._of([left])

    def _in_all(self, several: Iterable[RowNumbers]) -> RowNumbers | None:
        """The same, rising; None for all rows."""
        ordered = sorted(several, key=len)
        if not ordered:
            return None
        left = ordered[0]
        for rows in ordered[1:]:
            left = left[self._among(left, rows)]
        return left

    def _among(self, some: RowNumbers, rows: RowNumbers) -> Mask:
        """Which of some rows are among other rising ones."""
        if len(some) * LOOKED_UP < len(rows):
            at = np.minimum(np.searchsorted(rows, some), len(rows) - 1)
            found: Mask = rows[at] == some
            return found
        return self._of([rows]).take(some)


def _part(part: str) -> bytes:
    """What a word in lower case has of it; nothing where that hangs on the rest of the word (sigma at its end)."""
    return b"" if "\u03c3" in part or "\u03c2" in part else part.encode(errors="surrogatepass")
