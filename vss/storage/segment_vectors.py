"""The vectors of one name in an opened segment, and their index."""

from __future__ import annotations

import numpy as np

from vss.errors import Code, VssError
from vss.protocols import Index, Indexers
from vss.recall import CurvePoint
from vss.storage.artifacts import ArtifactStore
from vss.storage.manifest import VectorsRecord
from vss.storage.npy import map_npy
from vss.types import Rows, Vectors

EXACT = "flat"
"""The index kind that needs no files."""


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
