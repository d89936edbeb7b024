"""A bulk import: a file of rows becomes one indexed segment, which its destination publishes.

    read     rows stream in (`sources`), in chunks of bounded size (`chunks`)
    gate     each row passes the checks of a REST write, or becomes a dead letter (`gate`, `dead_letters`)
    embed    texts become vectors (`embedding_cache`)
    build    `SegmentBuilder` writes, indexes and calibrates
    measure  a generation whose recall falls short is not published (`measure`)
    publish  the destination keeps it (`destination`)

When any step fails nothing is published, and what was staged or made is removed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from vss import canary
from vss.errors import Code, VssError, invalid
from vss.jobs.chunks import chunks
from vss.jobs.dead_letters import DeadLetters
from vss.jobs.destination import Destination, Site
from vss.jobs.embedding_cache import EmbeddingCache, embed
from vss.jobs.gate import Accepted, Gate
from vss.jobs.measure import best_recall, check_recall
from vss.jobs.progress import Reporter
from vss.jobs.request import Import, fields_of
from vss.jobs.sources.registry import open_source
from vss.jobs.sources.row import Row
from vss.protocols import Embedder, Indexers
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage.build import Block, SegmentBuilder
from vss.storage.manifest import ModelRecord, SegmentRecord
from vss.storage.npy import save_npy
from vss.types import Metric, Progress, Vectors

Published = TypeVar("Published")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported(Generic[Published]):
    """What an import did. recall: best measured recall@10 by vector name; cached: texts that were known."""

    manifest: Published
    segment: SegmentRecord
    rows: int
    rejected: int
    dead_letters: Path | None
    recall: dict[str, float]
    cached: int
    seconds: float


@dataclass(slots=True, kw_only=True)
class Tools:
    """The parts that a job is handed: backends, and who is told.

    embedders:    opens an embedder by name
    threads:      for building the index
    dead_letters: folder of the files of refused rows; made when it is needed
    default_model: embedder of a new collection's texts when the job names none
    cache:        embeddings of earlier runs, or None
    """

    indexers: Indexers
    embedders: Callable[[str], Embedder]
    reporter: Reporter
    threads: int
    dead_letters: Path
    default_model: str | None = None
    cache: EmbeddingCache | None = None


def run_import(job: Import, destination: Destination[Published], tools: Tools) -> Imported[Published]:
    """Import the rows of `job.uri` and publish them at the destination.

    Raises VssError: INVALID (the request, no row that can be stored, recall too low), NOT_FOUND (no such file),
    FINGERPRINT_MISMATCH (another model than the collection's), CONFLICT, and what the parts raise.
    """
    began = time.monotonic()
    name = f"{destination.name}-{secrets.token_hex(4)}.jsonl"
    with ExitStack() as stack:
        stack.callback(tools.reporter.close)
        known = destination.schema()
        if known is not None:
            # A typing mistake in the name of a vector or in the index is told before a model is loaded.
            has = known.vector(job.vector_name)
            if job.index:
                tools.indexers.choose(job.index.kind, has.metric, has.dim, 0, job.index.params)
        fields, model = fields_of(job, destination.name, known, tools.default_model)
        source = stack.enter_context(open_source(job.uri, fields))
        rejected = stack.enter_context(DeadLetters(tools.dead_letters / name))
        embedder = None
        if model is not None:
            tools.reporter.phase("load model", 1, "")
            embedder = tools.embedders(model)
            stack.callback(embedder.close)
        work = _Work(job, tools, destination, Gate(fields, rejected), embedder, known, fields.text)
        done = work.run(source.total, source.rows(), rejected)
        return Imported(
            manifest=done.manifest,
            segment=done.segment,
            rows=done.rows,
            rejected=rejected.count,
            dead_letters=rejected.path if rejected.count else None,
            recall=best_recall(done.segment),
            cached=tools.cache.hits if tools.cache else 0,
            seconds=time.monotonic() - began,
        )


@dataclass(frozen=True, slots=True)
class _Done(Generic[Published]):
    manifest: Published
    segment: SegmentRecord
    rows: int


@dataclass(slots=True)
class _Work(Generic[Published]):
    """One run of an import."""

    job: Import
    tools: Tools
    destination: Destination[Published]
    gate: Gate
    embedder: Embedder | None
    schema: Schema | None
    text_field: str | None
    position: int = 0
    items: int = 0

    def run(self, total: int, rows: Iterator[Row], rejected: DeadLetters) -> _Done[Published]:
        """Everything from the first row to the published generation."""
        if self.embedder is not None and self.schema is not None:
            self._check_model(self.embedder, self.schema.vector(self.job.vector_name))
        self.tools.reporter.phase("read, embed" if self.embedder else "read", total, "rows")
        try:
            with ExitStack() as stack:
                builder: SegmentBuilder | None = None
                for chunk in chunks(rows):
                    schema = self._schema(chunk)
                    if schema is None:
                        # No row of the chunk has a vector, so each is refused for its own reason.
                        self.gate.check(chunk, VectorSchema(dim=0), None)
                        continue
                    if builder is None:
                        site = self.destination.begin()
                        builder = stack.enter_context(SegmentBuilder(schema, site.staged))
                    self._add(builder, chunk, schema, site.started_seq)
                if builder is None or not builder.rows:
                    raise _no_rows(rejected)
                return self._publish(site, builder)
        except BaseException:
            self.destination.undo()
            raise

    def _check_model(self, embedder: Embedder, vector: VectorSchema) -> None:
        """The embedder must be the one that made the collection, and still make the same vectors."""
        info = embedder.info
        if vector.fingerprint != info.fingerprint:
            raise VssError(
                Code.FINGERPRINT_MISMATCH,
                f"got {info.name} with fingerprint {info.fingerprint}, "
                f"collection {self.destination.name!r} was made with {vector.model} {vector.fingerprint}",
                hint="import with that model, or into a new collection",
            )
        canaries = self.destination.canaries(self.job.vector_name)
        if canaries is not None:
            canary.check(embedder, canaries)

    def _schema(self, chunk: list[Row]) -> Schema | None:
        """The collection's schema; made with the collection when the first usable chunk shows the dimension."""
        if self.schema is not None:
            return self.schema
        job = self.job
        if self.embedder is not None:
            info = self.embedder.info
            vector = VectorSchema(
                dim=info.dim,
                metric=job.metric or info.metric,
                model=info.name,
                fingerprint=info.fingerprint,
                text_field=self.text_field,
            )
        else:
            dim = self.gate.dimension(chunk)
            if dim is None:
                return None
            vector = VectorSchema(dim=dim, metric=job.metric or Metric.COSINE)
        settings = job.index or IndexSettings()
        self.tools.indexers.choose(settings.kind, vector.metric, vector.dim, 0, settings.params)  # or refuse it now
        self.schema = self.destination.create(Schema(vectors={job.vector_name: vector}, index=settings))
        if self.embedder is not None:
            self._check_model(self.embedder, self.schema.vector(job.vector_name))
        return self.schema

    def _add(self, builder: SegmentBuilder, chunk: list[Row], schema: Schema, started_seq: int) -> None:
        vector = schema.vector(self.job.vector_name)
        accepted = self.gate.check(chunk, vector, self._embed(chunk) if self.embedder else None)
        builder.add(_block(accepted, self.job.vector_name, started_seq))
        self.position, self.items = chunk[-1].end, self.items + len(chunk)
        self.tools.reporter.update(self.position, self.items)

    def _embed(self, chunk: list[Row]) -> Callable[[Iterable[str]], Vectors]:
        assert self.embedder is not None
        embedder, span = self.embedder, chunk[-1].end - self.position
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            part = done / len(chunk)
            self.tools.reporter.update(self.position + int(span * part), self.items + done)

        return lambda texts: embed(embedder, list(texts), self.tools.cache, progress)

    def _publish(self, site: Site, builder: SegmentBuilder) -> _Done[Published]:
        job, tools = self.job, self.tools
        assert self.schema is not None
        models = {}
        if self.embedder is not None:
            path = site.staged / "canaries.npy"
            save_npy(path, canary.make(self.embedder))
            models[job.vector_name] = ModelRecord(
                name=self.embedder.info.name,
                fingerprint=self.embedder.info.fingerprint,
                canaries=site.artifacts.add(path),
            )
        segment = builder.finish(
            site.artifacts,
            tools.indexers,
            job.index or self.schema.index,
            threads=tools.threads,
            progress=_index_progress(tools.reporter, builder.rows),
        )
        check_recall(segment, job.min_recall)
        manifest = self.destination.publish(site, segment, models, f"import {job.uri}", tools.reporter)
        return _Done(manifest, segment, builder.rows)


def _block(accepted: Accepted, name: str, version: int) -> Block:
    rows = len(accepted.keys)
    return Block(
        keys=accepted.keys,
        payloads=accepted.payloads,
        versions=np.full(rows, version, np.int64),
        vectors={name: (np.arange(rows), accepted.vectors)},
    )


def _index_progress(reporter: Reporter, rows: int) -> Progress:
    """Shows the index phase; when all vectors are in, what follows is calibrating and storing."""
    reporter.phase("index", rows, "vectors")
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        reporter.update(done, done)
        if done == rows:
            reporter.phase("calibrate, store", 1, "")

    return progress


def _no_rows(rejected: DeadLetters) -> VssError:
    if rejected.first is None:
        return invalid("there are no rows; nothing was published", field="uri")
    first, hint = rejected.first, f"every reason stands in {rejected.path}"
    reason = f"the first (line {first.line} of {first.file}) because of {first.reason}"
    return invalid(f"all {rejected.count} rows were refused, {reason}; nothing was published", field="uri", hint=hint)
