"""How an index that finds most of the nearest, and cannot be told which rows to leave out, answers a filtered search.

It is asked for more rows as the allowed part shrinks, and the allowed ones are kept. k of them among the nearest are
the k nearest allowed, however the mask lies to the query; where fewer are among them, or where it is cheaper from the
start, the allowed rows are scanned exactly.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from vss.distance import best_of, exact_search, score_rows
from vss.errors import Code, VssError, invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Mask, Vectors

MASKED_SLACK = 2
"""Allowed rows expected among the candidates per wanted row, so that few searches come home with too little."""


class Approximate:
    """`vss.protocols.Index` over `(n, dim)` vectors; a backend is a subclass with three methods.

    Searches may run in many threads at once.
    """

    default_effort: ClassVar[int]

    def __init__(self, spec: IndexSpec, handle: Any, vectors: Vectors, rescore: int = 1) -> None:
        """
        handle:  what the library searches with; it may point into the vectors
        rescore: candidates per wanted row that are scored again on the vectors; 1 where scores are exact already
        """
        self.spec = spec
        self._count = len(vectors)
        self._rescore = rescore
        # A search holds both while it runs, so `close` cannot pull the vectors away under the handle.
        self._open: tuple[Any, Vectors] | None = (handle, vectors)

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Vectors, k: int, *, allow: Mask | None = None, effort: int | None = None) -> Hits:
        """As `Index.search`; the effort counts as if nothing were filtered, None is `default_effort`."""
        if self._open is None:
            raise VssError(Code.UNAVAILABLE, "the index was closed", hint="open it again")
        handle, vectors = self._open
        if queries.ndim != 2 or queries.shape[1] != self.spec.dim:
            raise invalid(f"got queries of shape {queries.shape}, wanted (q, {self.spec.dim})")
        allowed = self._count
        if allow is not None:
            if len(allow) != self._count:
                raise invalid(f"got a mask of {len(allow)} rows, wanted {self._count}")
            allowed = int(np.count_nonzero(allow))
        take = min(k, allowed)
        if take == 0 or len(queries) == 0:
            return exact_search(queries, vectors[:0], k, self.spec.metric)
        wide = take * (self._rescore if allow is None else max(self._rescore, MASKED_SLACK))
        spent = self._effort(self.default_effort if effort is None else effort, wide) * self._count // allowed
        if allowed <= self._scan_rows(spent):
            return exact_search(queries, vectors, k, self.spec.metric, allow)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if allow is None:
            hits = self._nearest(handle, queries, take, spent)
            short = hits.rows[:, take - 1] < 0
        else:
            hits = self._candidates(handle, queries, min(wide * self._count // allowed, self._count), spent)
            refused = (hits.rows < 0) | ~allow[hits.rows]
            hits.rows[refused], hits.scores[refused] = -1, -np.inf
            hits = best_of(hits.rows, hits.scores, take * self._rescore)
            # Rough scores may have let the wrong ones in: k of them are enough only among about as many as usual.
            short = hits.rows[:, max(take, take * self._rescore // 2) - 1] < 0
            if self._rescore > 1:
                hits = best_of(hits.rows, score_rows(queries, vectors, hits.rows, self.spec.metric), take)
        if short.any():
            found = exact_search(queries[short], vectors, take, self.spec.metric, allow)
            hits.rows[short], hits.scores[short] = found.rows, found.scores
        return hits if take == k else _padded(hits, k)

    def close(self) -> None:
        """Let go of the handle and the vectors; searches under way finish."""
        self._open = None

    def _effort(self, asked: int, wide: int) -> int:
        """What to spend where `wide` candidates are needed."""
        return max(asked, 1)

    def _scan_rows(self, effort: int) -> float:
        """How many rows a scan scores in the time that this effort takes; so many allowed rows are scanned."""
        raise NotImplementedError

    def _nearest(self, handle: Any, queries: Vectors, k: int, effort: int) -> Hits:
        """The `(q, k)` nearest of all rows with exact scores, of as many candidates as `rescore` says."""
        raise NotImplementedError

    def _candidates(self, handle: Any, queries: Vectors, k: int, effort: int) -> Hits:
        """At least the `(q, k)` nearest of all rows, by the scores that the library gives."""
        raise NotImplementedError


def _padded(hits: Hits, k: int) -> Hits:
    more = ((0, 0), (0, k - hits.rows.shape[1]))
    return Hits(np.pad(hits.rows, more, constant_values=-1), np.pad(hits.scores, more, constant_values=-np.inf))
