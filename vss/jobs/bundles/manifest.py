"""What a bundle says of itself: `manifest.json`. Read as what strangers wrote: every name in it is checked."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vss.errors import Code, VssError
from vss.schema import Schema, check_schema
from vss.storage.artifacts import Artifact
from vss.storage.catalog import check_name
from vss.storage.manifest import ModelRecord, VectorsRecord

FORMAT = 1
"""Version of everything in a bundle. A newer one is refused."""


class BlobsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Byte strings by row: `offsets` `(n+1,)` int64 into `bytes` `(b,)` uint8, both `.npy`."""

    offsets: Artifact
    bytes: Artifact


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One built segment and what it was built for.

    collection: the name that it is published as when nothing else is said
    rows:       rows, those that a later row of the same id replaces included
    source:     what made it, for people; created: when; version: by which version of this program
    """

    format: int = FORMAT
    collection: str
    source: str
    created: str
    version: str
    schema: Schema
    rows: int
    ids: BlobsRecord
    payloads: BlobsRecord
    vectors: dict[str, VectorsRecord]
    models: dict[str, ModelRecord] = {}

    def files(self) -> dict[str, Artifact]:
        """Every file of the bundle, by what it is to people."""
        return dict(self._files())

    def _files(self) -> Iterator[tuple[str, Artifact]]:
        for what, blobs in (("ids", self.ids), ("payloads", self.payloads)):
            yield f"{what}.offsets", blobs.offsets
            yield f"{what}.bytes", blobs.bytes
        for name, record in self.vectors.items():
            shown = f"vectors {name!r}" if name else "vectors"
            yield shown, record.vectors
            if record.rows is not None:
                yield f"{shown}: rows", record.rows
            for file, artifact in record.files.items():
                yield f"{shown}: {file}", artifact
        for name, model in self.models.items():
            yield f"canaries {name!r}" if name else "canaries", model.canaries


def encode_manifest(manifest: BundleManifest) -> bytes:
    """The bytes of `manifest.json`."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def decode_manifest(data: bytes, uri: str) -> BundleManifest:
    """The manifest of a bundle. VssError: UNSUPPORTED for a newer format, CORRUPT for what contradicts itself."""
    try:
        found = msgspec.json.decode(data, type=_FormatOnly).format
        if found > FORMAT:
            raise VssError(
                Code.UNSUPPORTED,
                f"the bundle {uri} has format {found}, this program reads up to {FORMAT}",
                hint="publish it with a newer version of vss",
            )
        manifest = msgspec.json.decode(data, type=BundleManifest)
        check_name(manifest.collection)
        check_schema(manifest.schema)
    except msgspec.MsgspecError as error:
        raise corrupt(uri, str(error)) from error
    except VssError as error:
        raise corrupt(uri, str(error)) if error.code is Code.INVALID else error from error
    if manifest.rows < 1:
        raise corrupt(uri, f"got {manifest.rows} rows")
    if set(manifest.vectors) != set(manifest.schema.vectors):
        raise corrupt(uri, "its vectors are not those of its schema")
    for name, vector in manifest.schema.vectors.items():
        index = manifest.vectors[name].index
        if (index.metric, index.dim) != (vector.metric, vector.dim):
            raise corrupt(
                uri,
                f"the index is for {index.dim} numbers under {index.metric}, the schema says {vector.dim} under "
                f"{vector.metric}",
            )
        model = manifest.models.get(name)
        if (model.name, model.fingerprint) != (vector.model, vector.fingerprint) if model else vector.model is not None:
            raise corrupt(uri, f"its canaries are not of the model {vector.model} that its schema names")
    if not set(manifest.models) <= set(manifest.schema.vectors):
        raise corrupt(uri, "it has canaries of vectors that its schema does not name")
    return manifest


def corrupt(uri: str, reason: str) -> VssError:
    """The error for a bundle that is not what it says."""
    return VssError(Code.CORRUPT, f"the bundle {uri} is damaged: {reason}", hint="build it again with vss index --out")


class _FormatOnly(msgspec.Struct):
    format: int
