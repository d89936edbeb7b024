"""From a bundle's verified files to a segment's record: checked row by row, and what follows from them made anew."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from vss.jobs.bundles.arrays import (
    CANARIES,
    check_canaries,
    check_places,
    check_vectors,
    checked_keys,
    checked_payload,
    opened,
    opened_blobs,
)
from vss.jobs.bundles.index_check import measured
from vss.jobs.bundles.manifest import BundleManifest
from vss.jobs.progress import Reporter
from vss.points import EMPTY_PAYLOAD
from vss.protocols import Indexers
from vss.storage.artifacts import Artifact, ArtifactStore
from vss.storage.build import store_arrays, store_rows
from vss.storage.columnize import ColumnsBuilder
from vss.storage.columns import FORM
from vss.storage.ids import write_ids
from vss.storage.manifest import ColumnRecord, SegmentRecord, VectorsRecord
from vss.storage.npy import save_npy
from vss.types import Rows, Vectors


@dataclass(slots=True)
class CheckedBundle:
    """What passed. vectors: the records with this machine's calibration; canaries: by vector name."""

    manifest: BundleManifest
    keys: list[bytes]
    columns: ColumnsBuilder
    vectors: dict[str, VectorsRecord]
    canaries: dict[str, Vectors]


def check(
    manifest: BundleManifest, files: Mapping[Artifact, Path], indexers: Indexers, uri: str, reporter: Reporter
) -> CheckedBundle:
    """Every row and every index of a bundle. files: where its verified files lie.

    Raises VssError: INVALID for a point that REST would refuse, CORRUPT for what does not hold together.
    """
    rows = manifest.rows
    ids = opened_blobs((files[manifest.ids.offsets], files[manifest.ids.bytes]), uri, "ids", rows)
    payloads = opened_blobs((files[manifest.payloads.offsets], files[manifest.payloads.bytes]), uri, "payloads", rows)
    reporter.phase("check points", rows, "points")
    keys, columns = [], ColumnsBuilder()
    for row, (key, point_id) in enumerate(checked_keys(ids)):
        keys.append(key)
        payload = checked_payload(payloads[row], row, point_id)
        if payload != EMPTY_PAYLOAD:
            columns.add(row, msgspec.json.decode(payload))
        if row % 1_024 == 0:
            reporter.update(row, row)
    reporter.update(rows, rows)
    checked = CheckedBundle(manifest, keys, columns, {}, {})
    for name, record in manifest.vectors.items():
        checked.vectors[name] = _vectors(manifest, name, record, files, indexers, uri, reporter)
    for name, model in manifest.models.items():
        dim = manifest.schema.vectors[name].dim
        canaries = opened(files[model.canaries], uri, f"canaries {name!r}", np.float32, (CANARIES, dim))
        check_canaries(canaries, f"canaries {name!r}")
        checked.canaries[name] = canaries
    return checked


def _vectors(
    manifest: BundleManifest,
    name: str,
    record: VectorsRecord,
    files: Mapping[Artifact, Path],
    indexers: Indexers,
    uri: str,
    reporter: Reporter,
) -> VectorsRecord:
    what, schema = f"vectors {name!r}" if name else "vectors", manifest.schema.vectors[name]
    count = manifest.rows
    if record.rows is not None:
        places: Rows = opened(files[record.rows], uri, f"{what}: rows", np.int64, (None,))
        check_places(places, uri, what, manifest.rows)
        count = len(places)
    vectors: Vectors = opened(files[record.vectors], uri, what, np.float32, (count, schema.dim))
    reporter.phase("check vectors", count, "vectors")
    done = 0

    def progress(more: int) -> None:
        nonlocal done
        done += more
        reporter.update(done, done)

    check_vectors(vectors, schema, what, progress)
    reporter.phase("check recall", 1, "")
    return measured(record, vectors, {file: files[one] for file, one in record.files.items()}, indexers, uri, what)


def store(
    checked: CheckedBundle, files: Mapping[Artifact, Path], artifacts: ArtifactStore, staged: Path, version: int
) -> SegmentRecord:
    """Hand the files to a collection's store, and make what follows from them in the folder `staged`.

    version: the sequence number that the rows count as written at
    """
    manifest = checked.manifest
    for artifact, path in files.items():
        if artifacts.holds(artifact):
            artifacts.borrow(artifact, staged)
        else:
            artifacts.keep(path)
    id_paths, replaced = write_ids(staged, checked.keys)
    versions = staged / "versions.npy"
    save_npy(versions, np.full(manifest.rows, version, np.int64))
    payloads = {"offsets": manifest.payloads.offsets, "bytes": manifest.payloads.bytes}
    return SegmentRecord(
        id=secrets.token_hex(8),
        rows=manifest.rows,
        ids={name: artifacts.add(path) for name, path in id_paths.items()},
        payloads=payloads,
        versions=artifacts.add(versions),
        vectors=checked.vectors,
        columns=tuple(
            ColumnRecord(path=path, type=type_, arrays=store_arrays(artifacts, staged, arrays))
            for (path, type_), arrays in checked.columns.finish()
        ),
        scanned=tuple(sorted(checked.columns.scanned)),
        columns_complete=checked.columns.complete,
        columns_form=FORM,
        shapes_complete=checked.columns.shapes_complete,
        tombstones=store_rows(artifacts, staged, replaced),
        deleted=len(replaced),
    )
