"""Arrays and small values that every package passes around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""`(n, dim)` float32, C order, finite; made by `vss.vectors.as_vectors`. Callees never write into it."""

Rows = NDArray[np.int64]
"""Positions inside one part (segment or live part); -1 means none."""

Mask = NDArray[np.bool_]
"""`(n,)` one truth value for each row of one part."""

Scores = NDArray[np.float32]
"""Similarity; higher is better for every metric."""

PointId = int | str
"""A point's name. The integer `1` and the string `"1"` are two points."""

Progress = Callable[[int], None]
"""Called with the number of items finished since the last call."""


def no_progress(done: int) -> None:
    """The `Progress` of a caller that shows none."""


class Metric(StrEnum):
    """How two vectors are compared. Values are Qdrant's names."""

    COSINE = "Cosine"
    DOT = "Dot"
    EUCLID = "Euclid"
    MANHATTAN = "Manhattan"


class Role(StrEnum):
    """What a text is embedded for; some models prefix the two differently."""

    QUERY = "query"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Hits:
    """The answer of a search: always a batch, and one query is a batch of one.

    rows:   `(q, k)` int64, best first; -1 on the right where fewer than k rows exist.
    scores: `(q, k)` float32, higher is better for every metric; -inf beside a row of -1.
    """

    rows: Rows
    scores: Scores
