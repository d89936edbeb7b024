"""The destination of `vss index --out`: a bundle. Built in a temporary folder, then copied; needs no data directory."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

from vss.jobs.bundles.folder import BundleFolder
from vss.jobs.bundles.manifest import BlobsRecord, BundleManifest, encode_manifest
from vss.jobs.destination import Site
from vss.jobs.progress import Reporter
from vss.schema import Schema, check_schema
from vss.storage.artifacts import ArtifactStore
from vss.storage.catalog import check_name
from vss.storage.manifest import ModelRecord, SegmentRecord
from vss.types import Vectors


class Bundle:
    """A `Destination`: a folder at `uri` that must be empty. name: the collection that it is meant for.

    VssError: INVALID (the name, or something is there already), STORAGE.
    """

    resumes = False

    def __init__(self, uri: str, name: str) -> None:
        self.name = check_name(name)
        self._folder = BundleFolder(uri)
        try:
            self._folder.check_empty()
            self._folder.check_writable()
        except BaseException:
            self._folder.close()
            raise
        self.created = False
        self._schema: Schema | None = None
        self._temporary = tempfile.TemporaryDirectory(prefix="vss-bundle-")

    def schema(self) -> Schema | None:
        """As `Destination.schema`: a bundle is always new."""
        return None

    def canaries(self, vector_name: str) -> Vectors | None:
        """As `Destination.canaries`."""
        return None

    def create(self, schema: Schema) -> Schema:
        """As `Destination.create`."""
        self._schema = check_schema(schema)
        return schema

    def begin(self) -> Site:
        """As `Destination.begin`."""
        place = Path(self._temporary.name)
        return Site(place / "staged", ArtifactStore(place / "artifacts"), 0)

    def hold(self, site: Site) -> None:
        """As `Destination.hold`: nobody writes to a bundle."""

    def publish(
        self, site: Site, segment: SegmentRecord, models: dict[str, ModelRecord], source: str, reporter: Reporter
    ) -> BundleManifest:
        """As `Destination.publish`: copies the files, and the manifest when all are there."""
        assert self._schema is not None
        manifest = BundleManifest(
            collection=self.name,
            source=source,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            version=version("vss-service"),
            schema=self._schema,
            rows=segment.rows,
            ids=BlobsRecord(offsets=segment.ids["offsets"], bytes=segment.ids["bytes"]),
            payloads=BlobsRecord(offsets=segment.payloads["offsets"], bytes=segment.payloads["bytes"]),
            vectors=segment.vectors,
            models=models,
        )
        files = set(manifest.files().values())
        reporter.phase("copy", sum(one.bytes for one in files), "files")
        self._folder.check_empty()
        done = 0
        for count, artifact in enumerate(files, start=1):
            self._folder.put(artifact, site.artifacts.path(artifact))
            done += artifact.bytes
            reporter.update(done, count)
        self._folder.put_manifest(encode_manifest(manifest))
        return manifest

    def undo(self) -> None:
        """As `Destination.undo`: what was copied goes, so that another try finds the place empty."""
        self._folder.remove_written()

    def close(self) -> None:
        """Remove what was built here, and close the connection."""
        self._folder.close()
        self._temporary.cleanup()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
