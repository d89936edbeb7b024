"""`vss publish`: a bundle becomes the next generation of a collection.

    fetch    its files are copied into a staging folder, hashed on the way; those that the collection has are not copied
    check    every point and vector passes the gate of a REST write, and each index answers for its vectors
    adopt    the collection is made if it is not there, and the generation published (`storage.imports`)

Nothing is seen of it before the last step, whatever stops it; writes acknowledged since its start win.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from vss import canary
from vss.errors import Code, VssError, invalid
from vss.jobs.bundles.folder import BundleFolder
from vss.jobs.bundles.manifest import BundleManifest, decode_manifest
from vss.jobs.bundles.segment import CheckedBundle, check, store
from vss.jobs.destination import Site
from vss.jobs.living import LivingCollection
from vss.jobs.measure import best_recall
from vss.jobs.progress import Reporter
from vss.jobs.remote import Writer
from vss.protocols import EmbedderInfo, Indexers
from vss.schema import Schema
from vss.storage.artifacts import Artifact
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode
from vss.storage.manifest import Manifest
from vss.storage.staging import remove_orphans, staging_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Which bundle to publish, and how. collection: None is the name that the bundle was built for."""

    uri: str
    collection: str | None = None
    mode: Mode = Mode.UPSERT


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What a publication did. copied: bytes that the collection did not have yet; recall: best, by vector name."""

    collection: str
    manifest: Manifest
    points: int
    copied: int
    recall: dict[str, float]
    seconds: float


def run_publish(data: DataDir, job: Publication, indexers: Indexers, writer: Writer, reporter: Reporter) -> Adopted:
    """Publish a bundle.

    Raises VssError: NOT_FOUND (no bundle), UNSUPPORTED (of a newer format), CORRUPT (not what its manifest says, or an
    index that does not answer for its vectors), INVALID (a point that REST would refuse, or another schema than the
    collection's), FINGERPRINT_MISMATCH (made with another model), STORAGE, CONFLICT.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        stack.callback(reporter.close)
        folder = stack.enter_context(BundleFolder(job.uri))
        uri = folder.uri
        bundle = decode_manifest(folder.manifest(), uri)
        name = job.collection or bundle.collection
        living = stack.enter_context(LivingCollection(data, name, indexers=indexers, writer=writer, mode=job.mode))
        schema, site = living.schema(), None
        if schema is not None:
            _check_fit(name, schema, bundle)
            site = living.begin()
        for vector in bundle.schema.vectors.values():
            settings = bundle.schema.index
            indexers.choose(settings.kind, vector.metric, vector.dim, 0, settings.params)  # what later builds make
        remove_orphans(data.path / "staging")
        staged = stack.enter_context(staging_folder(data.path / "staging", "publish"))
        if site is not None:
            living.hold(replace(site, staged=staged))
        files, copied = _fetch(folder, bundle, site, staged, reporter)
        checked = check(bundle, files, indexers, uri, reporter)
        try:
            if site is None:
                # A server that has another version of the model makes another schema of it.
                _check_fit(name, living.create(bundle.schema), bundle)
                site = living.begin()
                living.hold(replace(site, staged=staged))
            _check_canaries(living, checked)
            segment = store(checked, files, site.artifacts, staged, site.started_seq)
            manifest = living.publish(site, segment, bundle.models, f"publish {uri}", reporter)
        except BaseException:
            living.undo()
            raise
        return Adopted(
            collection=name,
            manifest=manifest,
            points=segment.rows - segment.deleted,
            copied=copied,
            recall=best_recall(segment),
            seconds=time.monotonic() - began,
        )


def _check_fit(name: str, has: Schema, bundle: BundleManifest) -> None:
    for vector_name, made in bundle.schema.vectors.items():
        known = has.vector(vector_name)
        if (known.dim, known.metric) != (made.dim, made.metric):
            raise invalid(
                f"got a bundle of {made.dim} numbers under {made.metric}, collection {name!r} has {known.dim} under "
                f"{known.metric}",
                field="vectors",
                hint="publish it as another collection with --collection",
            )
        if known.fingerprint != made.fingerprint:
            raise VssError(
                Code.FINGERPRINT_MISMATCH,
                f"got a bundle made with {made.model or 'no model'} {made.fingerprint or ''}, collection {name!r} "
                f"was made with {known.model or 'no model'} {known.fingerprint or ''}".rstrip(),
                hint="build it with that model, or publish it as another collection with --collection",
            )


def _check_canaries(living: LivingCollection, checked: CheckedBundle) -> None:
    """One fingerprint on two machines must still be one model."""
    for name, made in checked.canaries.items():
        stored = living.canaries(name)
        if stored is not None:
            vector = checked.manifest.schema.vectors[name]
            info = EmbedderInfo(
                name=str(vector.model),
                fingerprint=str(vector.fingerprint),
                dim=vector.dim,
                max_tokens=0,
                metric=vector.metric,
                device="where the bundle was built",
            )
            canary.compare(info, made, stored)


def _fetch(
    folder: BundleFolder, bundle: BundleManifest, site: Site | None, staged: Path, reporter: Reporter
) -> tuple[dict[Artifact, Path], int]:
    """Where each file lies, verified, and how many bytes had to be copied."""
    named = {artifact: what for what, artifact in bundle.files().items()}
    files = {one: site.artifacts.borrow(one, staged) for one in named if site and site.artifacts.holds(one)}
    missing = [one for one in named if one not in files]
    size, free = sum(one.bytes for one in missing), shutil.disk_usage(staged).free
    if size > free:
        raise VssError(
            Code.STORAGE, f"the bundle needs {size:,} bytes, {free:,} are free in {staged.parent}", hint="make room"
        )
    reporter.phase("fetch", size, "bytes")
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        reporter.update(done, done)

    for number, one in enumerate(missing):
        files[one] = staged / f"fetched-{number}"
        folder.fetch(one, named[one], files[one], progress)
    return files, size
