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
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from vss.points import EMPTY_PAYLOAD
from vss.protocols import Extender, Indexers, Scanner
from vss.recall import calibrate, scan_ns
from vss.schema import IndexSettings, Schema
from vss.storage.artifacts import Artifact, ArtifactStore, fsync_folder
from vss.storage.columnize import ColumnsBuilder
from vss.storage.columns import FORM
from vss.storage.ids import write_ids
from vss.storage.manifest import CalibrationPoint, ColumnRecord, SegmentRecord, VectorsRecord
from vss.storage.npy import NpyWriter, map_npy, save_npy
from vss.types import Mask, Progress, Rows, Vectors, no_progress

log = logging.getLogger(__name__)

CALIBRATION_QUERIES = 200
"""Held-in queries whose recall is measured for each effort (standard error about .005 at .95)."""

PARSED_ROWS = 2_048
"""Payloads that are held parsed at a time."""

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


@dataclass(frozen=True, slots=True)
class Base:
    """A stored segment whose living rows, in their order, are the first ones of a new segment.

    alive: `(n,)` which of its rows those are
    """

    record: SegmentRecord
    alive: Mask


class SegmentBuilder:
    """Collects blocks, then builds the indexes and hands every file to the artifact store.

    Used in a `with` statement, whose end closes its files, finished or not; the folder is its owner's to remove.
    """

    def __init__(self, schema: Schema, folder: Path, kept: Mapping[str, int] | None = None) -> None:
        """kept: what `checkpoint` returned in a process that ended since, to go on from there in its folder.

        Raises OSError or ValueError when the files there do not hold that.
        """
        if kept is None:
            folder.mkdir(parents=True)
        self.rows = 0
        self._schema = schema
        self._folder = folder
        self._kept = kept
        self._writers: list[NpyWriter] = []
        self._keys: list[bytes] = []
        self._staged_keys: tuple[NpyWriter, NpyWriter] | None = None
        self._columns = ColumnsBuilder()
        try:
            self._open()
        except BaseException:
            self._close()
            raise

    def _open(self) -> None:
        self._versions = self._writer("versions.npy", np.int64)
        self._payloads = self._writer("payloads.bytes.npy", np.uint8)
        self._payload_ends = self._writer("payloads.offsets.npy", np.int64)
        self._vectors = {
            name: (
                self._writer(f"{number}.vectors.npy", np.float32, (vector.dim,)),
                self._writer(f"{number}.rows.npy", np.int64),
            )
            for number, (name, vector) in enumerate(self._schema.vectors.items())
        }
        if self._kept is None:
            self._payload_ends.append(np.zeros(1, np.int64))
        else:
            self._read_kept()

    def _writer(self, name: str, dtype: DTypeLike, row_shape: tuple[int, ...] = ()) -> NpyWriter:
        kept = None if self._kept is None else self._kept.get(name, 0)
        writer = NpyWriter(self._folder / name, dtype, row_shape, kept=kept)
        self._writers.append(writer)
        return writer

    def _stage_keys(self) -> tuple[NpyWriter, NpyWriter]:
        return self._writer("keys.bytes.npy", np.uint8), self._writer("keys.sizes.npy", np.int64)

    def _read_kept(self) -> None:
        data, sizes = self._staged_keys = self._stage_keys()
        # What an unfinished build has left may be an artifact too, and must not be written to.
        for path in set(self._folder.iterdir()) - {writer.path for writer in self._writers}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        whole, end = data.written().tobytes(), 0
        for size in sizes.written().tolist():
            self._keys.append(whole[end : end + size])
            end += size
        ends = self._payload_ends.written().tolist()
        if end != len(whole) or len(ends) != len(self._keys) + 1 or ends[-1] != self._payloads.rows:
            raise ValueError("the staged files do not fit each other")
        payloads = self._payloads.written().data
        self._take_payloads(0, [bytes(payloads[start:end]) for start, end in pairwise(ends)])
        self.rows = len(self._keys)

    def checkpoint(self) -> dict[str, int]:
        """Hand all rows so far to the operating system; the rows of each file, from which another process can go on."""
        if self._staged_keys is None:
            self._staged_keys = self._stage_keys()
        data, sizes = self._staged_keys
        new = self._keys[sizes.rows :]
        data.append(np.frombuffer(b"".join(new), np.uint8))
        sizes.append(np.asarray([len(key) for key in new], np.int64))
        for writer in self._writers:
            writer.flush()
        return {writer.path.name: writer.rows for writer in self._writers}

    def sync(self) -> None:
        """Make the last checkpoint survive a power cut."""
        for writer in self._writers:
            writer.sync()
        fsync_folder(self._folder)

    def __enter__(self) -> SegmentBuilder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._close()

    def _close(self) -> None:
        for writer in self._writers:
            writer.close()

    def add(self, block: Block) -> None:
        """Append the rows of one block. Vectors and ids were checked at the gate."""
        self._keys.extend(block.keys)
        self._versions.append(block.versions)
        self._payloads.append(np.frombuffer(b"".join(block.payloads), np.uint8))
        # `rows` of the bytes counts this block already.
        before = self._payloads.rows - sum(map(len, block.payloads))
        self._payload_ends.append(before + np.cumsum([len(payload) for payload in block.payloads], dtype=np.int64))
        self._take_payloads(self.rows, block.payloads)
        for name, (rows, vectors) in block.vectors.items():
            data, places = self._vectors[name]
            data.append(vectors)
            places.append(rows + self.rows)
        self.rows += len(block.keys)

    def _take_payloads(self, row: int, payloads: Sequence[bytes]) -> None:
        for start in range(0, len(payloads), PARSED_ROWS):
            some = payloads[start : start + PARSED_ROWS]
            if any(payload != EMPTY_PAYLOAD for payload in some):
                self._columns.add_all(row + start, [msgspec.json.decode(payload) for payload in some])

    def finish(
        self,
        artifacts: ArtifactStore,
        indexers: Indexers,
        settings: IndexSettings,
        *,
        threads: int,
        progress: Progress = no_progress,
        extends: Base | None = None,
    ) -> SegmentRecord:
        """Build what `settings` ask for, calibrate it, and store every file. `progress` counts indexed vectors.

        extends: what was added first; where its indexes are such as are asked for, theirs are extended
        """
        self._close()
        id_paths, replaced = write_ids(self._folder, self._keys)
        vectors = {
            name: self._index(name, artifacts, indexers, settings, threads, progress, extends)
            for name in self._schema.vectors
        }
        return SegmentRecord(
            id=secrets.token_hex(8),
            rows=self.rows,
            ids={name: artifacts.add(path) for name, path in id_paths.items()},
            payloads={
                "offsets": artifacts.keep(self._payload_ends.path),
                "bytes": artifacts.keep(self._payloads.path),
            },
            versions=artifacts.keep(self._versions.path),
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
        extends: Base | None,
    ) -> VectorsRecord:
        data, places = self._vectors[name]
        schema = self._schema.vectors[name]
        vectors = map_npy(data.path)
        spec = indexers.choose(settings.kind, schema.metric, schema.dim, len(vectors), settings.params)
        builder = indexers.builder(spec.kind)
        out = self._folder / f"index-{len(list(self._folder.glob('index-*')))}"
        out.mkdir()
        before = None if extends is None else extends.record.vectors.get(name)
        if extends is not None and before is not None and before.index == spec and isinstance(builder, Extender):
            living = extends.alive if before.rows is None else extends.alive[map_npy(artifacts.path(before.rows))]
            built = {file: artifacts.path(one) for file, one in before.files.items()}
            kept = np.flatnonzero(living)
            builder.extend(built, spec, kept, vectors, out, threads=threads, progress=progress)
        else:
            builder.build(vectors, spec, out, threads=threads, progress=progress)
        files = {path.name: path for path in sorted(out.iterdir())}
        calibration: tuple[CalibrationPoint, ...] = ()
        scanned = 0.0
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
                scanned = scan_ns(index, vectors) if isinstance(index, Scanner) else 0.0
            finally:
                index.close()
        stored = {file: artifacts.add(path) for file, path in files.items()}
        return VectorsRecord(
            vectors=artifacts.keep(data.path),
            rows=None if places.rows == self.rows else artifacts.keep(places.path),
            index=spec,
            files=stored,
            calibration=calibration,
            scan_ns=scanned,
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
