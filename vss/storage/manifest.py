"""What a generation is: one immutable JSON file that names every artifact of every segment.

`manifests/000007.json` is written and fsynced before the pointer in `log.db` moves to it; the pointer holds the
manifest's own sha256, so a changed manifest is found at open.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from vss.errors import Code, VssError
from vss.protocols import IndexSpec
from vss.schema import Schema
from vss.storage.artifacts import Artifact, fsync_folder

FORMAT = 2
"""Version of everything below a collection's folder. A newer one is refused, an older one stays readable.

2: operations carry checksums, `log.seq` says how far the log has come, and the log knows the retained generations
"""


class CalibrationPoint(msgspec.Struct, frozen=True):
    """What one effort gave when it was measured: recall@10 against exact search, and microseconds per query."""

    effort: int
    recall: float
    microseconds: float


class VectorsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One vector name of one segment.

    vectors: `(m, dim)` float32 `.npy`
    rows:    `(m,)` int64 `.npy`, the segment row of each vector, rising; None when every row has one
    files:   what the index builder wrote, by its file names
    scan_ns: nanoseconds that a scan by the index took for each scattered row when it was built; 0: not measured
    """

    vectors: Artifact
    rows: Artifact | None
    index: IndexSpec
    files: dict[str, Artifact]
    calibration: tuple[CalibrationPoint, ...] = ()
    scan_ns: float = 0


class ColumnRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One payload column, by path and type; `arrays` are its `.npy` files by role (see `storage.columns`)."""

    path: str
    type: str
    arrays: dict[str, Artifact]


class SegmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable set of points.

    ids:        "offsets" `(n+1,)` int64, "bytes" `(b,)` uint8: the keys, row by row;
                "order" `(n,)` int64: rows in the order of their keys
    payloads:   "offsets" `(n+1,)` int64, "bytes" `(b,)` uint8: JSON objects, row by row
    versions:   `(n,)` int64, the sequence number of each row
    columns:    payload columns; `scanned` paths have none and are answered by reading payloads;
                `columns_complete` is False when paths beyond these exist, and so is `shapes_complete` for shapes;
                `columns_form` says which columns there are at all (records of form 1 do not have it);
                `added` paths got their columns later, those of the newest form, and what has none there has no values
    tombstones: `(t,)` int64, rows that are deleted or replaced, rising; None for none
    """

    id: str
    rows: int
    ids: dict[str, Artifact]
    payloads: dict[str, Artifact]
    versions: Artifact
    vectors: dict[str, VectorsRecord]
    columns: tuple[ColumnRecord, ...] = ()
    scanned: tuple[str, ...] = ()
    columns_complete: bool = True
    columns_form: int = 1
    added: tuple[str, ...] = ()
    shapes_complete: bool = False
    tombstones: Artifact | None = None
    deleted: int = 0


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The embedder of one vector name; `canaries` `(32, dim)` float32 is what it must reproduce."""

    name: str
    fingerprint: str
    canaries: Artifact


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of one collection.

    covered_seq: operations up to here are in the segments; later ones are overlaid from the log
    source:      what made it ("import docs.jsonl", "fold", "seal"), for people
    """

    format: int = FORMAT
    collection: str
    generation: int
    parent: int
    created: str
    source: str
    schema: Schema
    covered_seq: int
    segments: tuple[SegmentRecord, ...] = ()
    models: dict[str, ModelRecord] = {}


def derived_of(record: SegmentRecord) -> list[object]:
    """The parts of a segment's record whose files can be built again from the others."""
    indexes = [one.files for one in record.vectors.values()]
    return [record.ids["order"], *indexes, *(column.arrays for column in record.columns)]


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write it durably under its number and return its sha256. An unpublished leftover of that number is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    draft = folder / f".{manifest.generation:06d}.{os.getpid()}.tmp"
    with open(draft, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, manifest_path(folder, manifest.generation))
    fsync_folder(folder)
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path, generation: int, sha256: str) -> Manifest:
    """Read and check one. Raises VssError (CORRUPT) when it is missing, changed or of a newer format."""
    path = manifest_path(folder, generation)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VssError(
            Code.CORRUPT,
            f"the manifest of generation {generation} cannot be read: {error.strerror}",
            hint="restore the collection from a snapshot",
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise VssError(
            Code.CORRUPT,
            f"the manifest of generation {generation} was changed after it was published",
            hint="restore the collection from a snapshot",
        )
    found = _decode_format(data).format
    if found > FORMAT:
        raise VssError(
            Code.UNSUPPORTED,
            f"generation {generation} has format {found}, this program reads up to {FORMAT}",
            hint="start a newer version of vss",
        )
    return _decode_manifest(data)


def artifacts_of(value: object) -> set[Artifact]:
    """Every artifact that a manifest, or a part of one, names."""
    if isinstance(value, Artifact):
        return {value}
    if isinstance(value, msgspec.Struct):
        return artifacts_of([getattr(value, name) for name in value.__struct_fields__])
    if isinstance(value, dict):
        return artifacts_of(value.values())
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return set().union(*map(artifacts_of, value))
    return set()


def manifest_path(folder: Path, generation: int) -> Path:
    """Where the manifest of a generation lies."""
    return folder / f"{generation:06d}.json"


class _FormatOnly(msgspec.Struct):
    format: int


# Made here, where one thread imports: two threads that decode a struct for the first time at once crash msgspec 0.22.
_decode_format = msgspec.json.Decoder(_FormatOnly).decode
_decode_manifest = msgspec.json.Decoder(Manifest).decode
