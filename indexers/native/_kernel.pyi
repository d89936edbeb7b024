"""The compiled kernel: graph search, scans and graph building over quantised vectors (sources in `kernel/`).

Arrays must be in C order and aligned, and of the very type named: none is converted or copied. What a `Searcher` or
`Builder` is given must not be written to while it lives, and what a call is given not while it runs (other threads may
run then). Everything else is checked: ValueError for values, shapes and row numbers, TypeError for types. All methods
may run in many threads at once; what takes longer than about a tenth of a millisecond lets go of the interpreter lock.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

PAD: int
"""Rows of codes are padded to a multiple of this many components."""

BLOCK: int
"""Rows whose sketches stand together."""

def kernels() -> list[str]:
    """The sets of instructions that run here, the fastest first: "avx512vnni", "avx2", "neon", "portable"."""

def dots(codes: NDArray[np.uint8], query: NDArray[np.int8], kernel: str = "") -> NDArray[np.int32]:
    """`(n,)` products of `(n, stride)` codes and a query of `(stride,)` components from -64 to 64.

    stride: a multiple of `PAD`, 65,536 at most
    kernel: one of `kernels()`; "" is the fastest. Every one gives the same integers.
    """

def listed(allow: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The places of what is not 0 in `(n,)` bytes, rising."""

def widened(width: int, k: int, share: float) -> float:
    """The width of the walk that `Searcher.search_allowed` makes first where this share of the rows is allowed."""

def sketch(
    codes: NDArray[np.uint8],
    first: int,
    count: int,
    moments: NDArray[np.float32],
    blocks: NDArray[np.uint8],
    kernel: str = "",
) -> None:
    """Write the sketches of rows `first` to `first + count - 1` of `(n, stride)` codes to their places in `blocks`.

    moments: `(2, dim)` mean and spread of each component of the codes, 128 taken off
    blocks:  `(b, BLOCK * (dim / 4, rounded up, + 4))`, b * BLOCK at least first + count; a row has bytes of its own, so
             that the others may be read meanwhile
    """

class Searcher:
    """Searches one set of vectors. Keeps the arrays alive that it is made of."""

    def __init__(
        self,
        measure: str,
        codes: NDArray[Any],
        scale: float,
        centre: NDArray[np.float32] | None,
        extra: NDArray[np.float32] | None,
        graph: NDArray[np.int32],
        entries: NDArray[np.int32],
        vectors: NDArray[np.float32] | NDArray[np.float16],
        kernel: str = "",
    ) -> None:
        """
        measure: "dot" or "euclid"
        codes:   `(n, stride)`: uint8, round(128 + scale * (x - centre)), or float16, the same without the 128
        scale:   1e-18 to 1e18
        centre:  `(dim,)` finite; None: the origin
        extra:   `(n,)` finite, added to a row's score by codes; None: nothing
        graph:   `(n, degree)` neighbours; what stands behind the first -1 of a row is not looked at
        entries: rows that walks start from, at least one where n > 0
        vectors: `(n, dim)` float32 or float16 for the exact scores
        kernel:  one of `kernels()`; "" is the fastest
        """

    def search(self, queries: NDArray[np.float32], k: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and scores, `(q, k)`, the best first, -1 and -inf where fewer were found.

        A walk keeps the max(width, k) best rows by codes, at most n, and scores them again on the vectors: the
        inner product, or minus the distance. A score that is no number is -inf.
        """

    def sketch(self, blocks: NDArray[np.uint8], moments: NDArray[np.float32]) -> None:
        """Let scans look at sketches of the codes first (see `_kernel.sketch`). Once, before any search."""

    def gather(self, rows: NDArray[np.int32], moments: NDArray[np.float32]) -> Gathered:
        """Listed rows of codes that are bytes, with sketches of their own side by side. moments: as in `sketch`."""

    def scan_gathered(
        self, queries: NDArray[np.float32], k: int, rescore: int, gathered: Gathered
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `scan` of the rows that this searcher gathered."""

    def probe_gathered(
        self, queries: NDArray[np.float32], k: int, budget: int, rescore: int, gathered: Gathered
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `probe` of the rows that this searcher gathered once it was divided, and of some that lie beside them."""

    def divide(self, centres: NDArray[Any], extra: NDArray[np.float32] | None, of: NDArray[np.uint16]) -> None:
        """Let `probe` know the cell of each row, `(n,)`. Once, before any search.

        centres: 1 to 65,535, in the form of the codes; extra: theirs, where the codes have any
        """

    def probe(
        self, queries: NDArray[np.float32], k: int, budget: int, rescore: int, allow: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `scan` of the rows that `allow` lets through in the cells whose centres are nearest to the query.

        budget: so many of them; where allowed rows are rarer near the query than elsewhere, more, and at least k
        """

    def probe_listed(
        self, queries: NDArray[np.float32], k: int, budget: int, rescore: int, rows: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same of listed rows."""

    def search_allowed(
        self,
        queries: NDArray[np.float32],
        k: int,
        width: int,
        rescore: int,
        allow: NDArray[np.bool_],
        budget: int = 0,
        counted: int | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `search` among the rows that `allow`, `(n,)`, lets through: k of them, or all.

        A walk is so wide that about `width` of what it keeps is allowed, and wider again where less is; once a scan of
        the allowed rows is the faster way it is taken, as `scan` does it.
        budget:  not 0 where the rows are divided into cells: instead of a second walk or a scan, `probe` so many
        counted: how many rows `allow` lets through, where that is known; to count 1,000,000 takes as long as a walk
        """

    def scan(
        self, queries: NDArray[np.float32], k: int, rescore: int, rows: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `search` among listed rows, each of which is looked at; max(rescore, k) of them are scored exactly.

        So are all others that the codes cannot tell from the k-th of these; how far codes are off is seen on a sample
        of the rows. A row that is listed twice is found twice.
        """

    def scan_allowed(
        self, queries: NDArray[np.float32], k: int, rescore: int, allow: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `scan` of the rows that `allow`, `(n,)`, lets through."""

    def scan_range(
        self, queries: NDArray[np.float32], k: int, rescore: int, first: int, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `scan` of the `count` rows from `first` on."""

class Gathered:
    """Rows of a searcher; see `Searcher.gather`."""

    def __len__(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class Builder:
    """Makes a graph, batch by batch. Each batch is placed in the graph before it, so threads change nothing."""

    def __init__(
        self,
        codes: NDArray[Any],
        dim: int,
        scale: float,
        extra: NDArray[np.float32] | None,
        base: NDArray[np.float32],
        entry: int,
        degree: int,
        width: int,
        alpha: float,
        kernel: str = "",
    ) -> None:
        """
        codes, dim, scale: as of a `Searcher`; `dim` components of a row are used
        extra:  `(n,)` finite, added to a row's score; None: nothing
        base:   `(n,)` finite; base[p] - 2 * score of x for p counts as their distance
        entry:  the row that walks start from; it need not be inserted
        degree: 1 to 1024, most edges of a row
        width:  1 or more, of the walk that finds a row's candidates
        alpha:  > 0; an edge is left out where another leads that many times nearer
        """

    def adopt(self, graph: NDArray[np.int32], rows: NDArray[np.int32], threads: int) -> None:
        """Start from a graph of other rows: they count as inserted. ValueError where one of them is already.

        graph: `(o, degree)` neighbours, as `finish` gives them
        rows:  `(o,)` which row here its rows are, each at most once, -1 for one that is gone: in place of links to it
               come its own
        """

    def insert(self, rows: NDArray[np.int32], threads: int) -> None:
        """Insert rows that are not in the graph yet. ValueError, and none is inserted, where one is, or is given twice.

        threads: 1 to 256; what lies beyond is brought there
        """

    def finish(self, threads: int) -> NDArray[np.int32]:
        """`(n, degree)` neighbours, -1 behind the last one of a row."""
