"""What a raw library shows to `vss bench`: built into a file, opened, asked. Nothing of ours stands in between.

A backend of `indexers` answers `Hits` with scores that mean the same everywhere; a raw library answers its own rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from vss.types import Mask, Metric, Progress, Vectors

M, EF_CONSTRUCTION = 16, 200
"""Of every graph, as the backends have them by default."""

FILE = "index.raw"


class RawIndex(Protocol):
    """An index that can be asked. `effort` holds for every thread that asks."""

    def effort(self, effort: int) -> None:
        """What the searches from now on spend (ef, efSearch); an exact index ignores it."""

    def rows(self, queries: Vectors, k: int) -> NDArray[Any]:
        """`(q, k)` integers, best first, on the calling thread alone."""


@runtime_checkable
class RawFiltered(RawIndex, Protocol):
    """One that also takes a mask of the rows that it may return."""

    def rows_allowed(self, queries: Vectors, k: int, allow: Mask) -> NDArray[Any]:
        """As `rows` among the rows of `(n,)` allow; -1 behind the last one found."""


class RawLibrary(Protocol):
    """One library, with its fixed parameters."""

    kind: str
    params: dict[str, int | float | str]
    supports: frozenset[Metric]

    def build(self, vectors: Vectors, metric: Metric, out: Path, *, threads: int, progress: Progress) -> None:
        """Write the index of `(n, dim)` vectors, of unit length under Cosine, as FILE into the folder `out`."""

    def open(self, folder: Path, metric: Metric, dim: int) -> RawIndex:
        """Read what `build` wrote."""
