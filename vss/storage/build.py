"""Writes one segment: rows stream in, files grow in a staging folder, and `finish` turns them into artifacts.

Memory stays bounded by the keys (a few dozen bytes a row) and the columns (16 bytes a value); vectors and payloads go
straight to disk and are mapped for the index build.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from vss.points import EMPTY_PAYLOAD
from vss.protocols import Indexers
from vss.recall import calibrate
from vss.schema import IndexSettings, Schema
from vss.storage.artifacts import Artifact, ArtifactStore
from vss.storage.columnize import ColumnsBuilder
from vss.storage.columns import FORM
from vss.storage.ids import write_ids
from vss.storage.manifest import CalibrationPoint, ColumnRecord, SegmentRecord, VectorsRecord
from vss.storage.npy import NpyWriter, map_npy, save_npy
from vss.types import Progress, Rows, Vectors, no_progress

log = logging.getLogger(__name__)

CALIBRATION_QUERIES = 200
"""Held-in queries whose recall is measured for each effort (standard error about .005 at .95)."""

CALIBRATION_SEED = 7
"""Of their choice: who measures the same vectors again asks the same."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows on their way into a segment, columnar.

    keys, payloads: one for each row
    versions:       `(n,)` int64
    vectors:        name -> (rows of this block that have one, rising; their `(m, dim)` float32)
    """

    keys: Sequence[bytes]
    payloads: Sequence[bytes]
    versions: Rows
    vectors: Mapping[str, tuple[Rows, Vectors]] = field(default_factory=dict)


class SegmentBuilder:
    """Collects blocks, then builds the indexes and hands every file to the artifact store.

    Used in a `with` statement, whose end closes and removes the staging folder, finished or not.
    """

    def __init__(self, schema: Schema, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.rows = 0
        self._schema = schema
        self._folder = folder
        self._keys: list[bytes] = []
        self._columns = ColumnsBuilder()
        self._versions = NpyWriter(folder / "versions.npy", np.int64)
        self._payloads = NpyWriter(folder / "payloads.bytes.npy", np.uint8)
        self._payload_ends = NpyWriter(folder / "payloads.offsets.npy", np.int64)
        self._payload_ends.append(np.zeros(1, np.int64))
        self._payload_bytes = 0
        self._vectors = {
            name: (
                NpyWriter(folder / f"{number}.vectors.npy", np.float32, (vector.dim,)),
                NpyWriter(folder / f"{number}.rows.npy", np.int64),
            )
            for number, (name, vector) in enumerate(schema.vectors.items())
        }

    def __enter__(self) -> SegmentBuilder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _close(self) -> None:
        for writer in (
            self._versions,
            self._payloads,
            self._payload_ends,
            *chain.from_iterable(self._vectors.values()),
        ):
            writer.close()

    def add(self, block: Block) -> None:
        """Append the rows of one block. Vectors and ids were checked at the gate."""
        self._keys.extend(block.keys)
        self._versions.append(block.versions)
        self._payloads.append(np.frombuffer(b"".join(block.payloads), np.uint8))
        ends = self._payload_bytes + np.cumsum([len(payload) for payload in block.payloads], dtype=np.int64)
        self._payload_ends.append(ends)
        self._payload_bytes = int(ends[-1]) if len(ends) else self._payload_bytes
        for row, payload in enumerate(block.payloads, start=self.rows):
            if payload != EMPTY_PAYLOAD:
                self._columns.add(row, msgspec.json.decode(payload))
        for name, (rows, vectors) in block.vectors.items():
            data, places = self._vectors[name]
            data.append(vectors)
            places.append(rows + self.rows)
        self.rows += len(block.keys)

    def finish(
        self,
        artifacts: ArtifactStore,
        indexers: Indexers,
        settings: IndexSettings,
        *,
        threads: int,
        progress: Progress = no_progress,
    ) -> SegmentRecord:
        """Build what `settings` ask for, calibrate it, and store every file. `progress` counts indexed vectors."""
        self._close()
        id_paths, replaced = write_ids(self._folder, self._keys)
        vectors = {
            name: self._index(name, artifacts, indexers, settings, threads, progress) for name in self._schema.vectors
        }
        return SegmentRecord(
            id=secrets.token_hex(8),
            rows=self.rows,
            ids={name: artifacts.add(path) for name, path in id_paths.items()},
            payloads={
                "offsets": artifacts.add(self._payload_ends.path),
                "bytes": artifacts.add(self._payloads.path),
            },
            versions=artifacts.add(self._versions.path),
            vectors=vectors,
            columns=tuple(
                ColumnRecord(path=path, type=type_, arrays=store_arrays(artifacts, self._folder, arrays))
                for (path, type_), arrays in self._columns.finish()
            ),
            scanned=tuple(sorted(self._columns.scanned)),
            columns_complete=self._columns.complete,
            columns_form=FORM,
            shapes_complete=self._columns.shapes_complete,
            tombstones=store_rows(artifacts, self._folder, replaced),
            deleted=len(replaced),
        )

    def _index(
        self,
        name: str,
        artifacts: ArtifactStore,
        indexers: Indexers,
        settings: IndexSettings,
        threads: int,
        progress: Progress,
    ) -> VectorsRecord:
        data, places = self._vectors[name]
        schema = self._schema.vectors[name]
        vectors = map_npy(data.path)
        spec = indexers.choose(settings.kind, schema.metric, schema.dim, len(vectors), settings.params)
        builder = indexers.builder(spec.kind)
        out = self._folder / f"index-{len(list(self._folder.glob('index-*')))}"
        out.mkdir()
        builder.build(vectors, spec, out, threads=threads, progress=progress)
        files = {path.name: path for path in sorted(out.iterdir())}
        calibration: tuple[CalibrationPoint, ...] = ()
        efforts = builder.efforts(spec)
        if efforts:
            index = builder.open(files, spec, vectors)
            try:
                calibration = tuple(
                    CalibrationPoint(*point)
                    for point in calibrate(
                        index,
                        vectors,
                        schema.metric,
                        efforts=efforts,
                        sample=CALIBRATION_QUERIES,
                        seed=CALIBRATION_SEED,
                    )
                )
            finally:
                index.close()
        stored = {file: artifacts.add(path) for file, path in files.items()}
        return VectorsRecord(
            vectors=artifacts.add(data.path),
            rows=None if places.rows == self.rows else artifacts.add(places.path),
            index=spec,
            files=stored,
            calibration=calibration,
        )


def store_arrays(artifacts: ArtifactStore, folder: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Artifact]:
    """Store each array of a column; `folder` is the job's own."""
    stored = {}
    for role, array in arrays.items():
        path = folder / "column.npy"
        save_npy(path, array)
        stored[role] = artifacts.add(path)
    return stored


def store_rows(artifacts: ArtifactStore, folder: Path, rows: Rows) -> Artifact | None:
    """Store rising row numbers as an artifact; None for none."""
    if not len(rows):
        return None
    # The folder may be shared with other jobs, in other processes.
    path = folder / f"rows-{secrets.token_hex(8)}.npy"
    save_npy(path, rows)
    return artifacts.add(path)
