"""A bulk import: a file of rows becomes one indexed segment, published as the next generation.

    read    rows stream in (`sources`), in chunks of bounded size
    gate    each row passes the checks of a REST write, or becomes a dead letter (`gate`, `dead_letters`)
    embed   texts become vectors (`embedding_cache`)
    build   `SegmentBuilder` writes, indexes and calibrates
    measure a generation whose recall falls short is not published
    adopt   the generation is published; writes acknowledged since the start win (`storage.imports`)

When any step fails nothing is published, what was staged is removed, and so is the collection if the job made it and
nobody else has written to it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vss import canary
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError, invalid
from vss.jobs.dead_letters import DeadLetters
from vss.jobs.embedding_cache import EmbeddingCache, embed
from vss.jobs.gate import Accepted, Fields, Gate
from vss.jobs.progress import Reporter
from vss.jobs.remote import Writer
from vss.jobs.sources.registry import open_source
from vss.jobs.sources.row import Row
from vss.protocols import Embedder, Indexers
from vss.schema import DEFAULT_VECTOR, IndexSettings, Schema, VectorSchema
from vss.storage.build import Block, SegmentBuilder
from vss.storage.catalog import check_name
from vss.storage.collection import Collection
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode, adopt
from vss.storage.manifest import Manifest, ModelRecord, SegmentRecord
from vss.storage.npy import map_npy, save_npy
from vss.types import Metric, Progress, Vectors

CHUNK_ROWS = 1_024
CHUNK_BYTES = 16 << 20
"""Rows and bytes of a chunk, whichever is reached first: what an import holds in memory."""

DEFAULT_MIN_RECALL = 0.90


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What to import, and how.

    uri:        a file, a glob or a directory: a path, or what fsspec opens
    fields:     which field is the id, and which the text or the vector
    model:      embedder of a new collection's texts; an existing collection has its own
    metric:     of a new collection of ready vectors; None is Cosine
    index:      how the index is built; None is what the collection says
    min_recall: least recall@10 that some effort must reach, 0 to 1
    """

    uri: str
    collection: str
    fields: Fields
    vector_name: str = DEFAULT_VECTOR
    model: str | None = None
    metric: Metric | None = None
    mode: Mode = Mode.UPSERT
    index: IndexSettings | None = None
    min_recall: float = DEFAULT_MIN_RECALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did. recall: best measured recall@10 by vector name; cached: texts that were known."""

    manifest: Manifest
    segment: SegmentRecord
    rows: int
    rejected: int
    dead_letters: Path | None
    recall: dict[str, float]
    cached: int
    seconds: float


@dataclass(slots=True)
class Tools:
    """The parts that a job is handed: backends, who commits, who is told.

    embedders: opens an embedder by name
    threads:   for building the index
    default_model: embedder of a new collection's texts when the job names none
    cache:     embeddings of earlier runs, or None
    """

    indexers: Indexers
    embedders: Callable[[str], Embedder]
    writer: Writer
    reporter: Reporter
    threads: int
    default_model: str | None = None
    cache: EmbeddingCache | None = None


def run_import(data: DataDir, job: Import, tools: Tools) -> Imported:
    """Import the rows of `job.uri` and publish them.

    Raises VssError: INVALID (the request, no row that can be stored, recall too low), NOT_FOUND (no such file),
    FINGERPRINT_MISMATCH (another model than the collection's), CONFLICT, and what the parts raise.
    """
    began = time.monotonic()
    check_name(job.collection)
    name = f"{job.collection}-{secrets.token_hex(4)}.jsonl"
    with ExitStack() as stack:
        stack.callback(tools.reporter.close)
        engine = LocalEngine(data, tools.indexers, writable=False)
        stack.callback(engine.close)
        known = {entry.name: entry.schema for entry in engine.entries()}.get(job.collection)
        if known is not None:
            # A typing mistake in the name of a vector or in the index is told before a model is loaded.
            has = known.vector(job.vector_name)
            if job.index:
                tools.indexers.choose(job.index.kind, has.metric, has.dim, 0, job.index.params)
        fields, model = _fields(job, known, tools.default_model)
        source = stack.enter_context(open_source(job.uri, fields))
        rejected = stack.enter_context(DeadLetters(data.path / "dead-letters" / name))
        embedder = None
        if model is not None:
            tools.reporter.phase("load model", 1, "")
            embedder = tools.embedders(model)
            stack.callback(embedder.close)
        work = _Work(job, tools, engine, Gate(fields, rejected), embedder, known, fields.text)
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


def best_recall(segment: SegmentRecord) -> dict[str, float]:
    """The best measured recall@10 of each vector name; 1 for an exact index."""
    return {
        name: max((point.recall for point in record.calibration), default=1.0)
        for name, record in segment.vectors.items()
    }


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in chunks of `CHUNK_ROWS` or `CHUNK_BYTES`."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += row.size
        if len(chunk) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _fields(job: Import, known: Schema | None, default: str | None) -> tuple[Fields, str | None]:
    """Which fields are read, and the embedder's name when they are texts."""
    fields = job.fields
    if fields.text and fields.vector:
        raise invalid("got a text field and a vector field, wanted one of them", field="text_field")
    has = known.vector(job.vector_name) if known else None
    if fields.vector:
        if job.model:
            raise invalid("got a model for ready vectors", field="model", hint="leave it out, or name a text field")
        return fields, None
    text = fields.text or (has.text_field if has else None)
    if text is None:
        raise invalid("got no field to index", hint="give --text-field or --vector-field")
    if has is not None and has.model is None:
        raise invalid(
            f"collection {job.collection!r} holds ready vectors and has no model",
            field="text_field",
            hint="give --vector-field, or import into a new collection",
        )
    model = job.model or (has.model if has else default)
    if model is None:
        raise invalid("got texts and no model", field="model", hint="give --model")
    return replace(fields, text=text), model


@dataclass(frozen=True, slots=True)
class _Done:
    manifest: Manifest
    segment: SegmentRecord
    rows: int


@dataclass(slots=True)
class _Work:
    """One run of an import."""

    job: Import
    tools: Tools
    engine: LocalEngine
    gate: Gate
    embedder: Embedder | None
    schema: Schema | None
    text_field: str | None
    created: bool = False
    position: int = 0
    items: int = 0

    def run(self, total: int, rows: Iterator[Row], rejected: DeadLetters) -> _Done:
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
                        collection = self.engine.collection(self.job.collection)
                        started_seq = collection.log.last_seq()
                        staged = collection.staging / f"import-{secrets.token_hex(8)}"
                        builder = stack.enter_context(SegmentBuilder(schema, staged))
                    self._add(builder, chunk, schema, started_seq)
                if builder is None or not builder.rows:
                    raise _no_rows(rejected)
                return self._publish(collection, builder, staged, started_seq)
        except BaseException:
            if self.created and self._untouched():
                self.tools.writer.delete(self.job.collection)
            raise

    def _untouched(self) -> bool:
        """Whether nobody has written to the collection that this job made."""
        try:
            collection = self.engine.collection(self.job.collection)
            return collection.log.last_seq() == 0 and collection.view().generation == 0
        except VssError:
            return False  # gone, or not to be judged: leave it alone

    def _check_model(self, embedder: Embedder, vector: VectorSchema) -> None:
        """The embedder must be the one that made the collection, and still make the same vectors."""
        info = embedder.info
        if vector.fingerprint != info.fingerprint:
            raise VssError(
                Code.FINGERPRINT_MISMATCH,
                f"got {info.name} with fingerprint {info.fingerprint}, "
                f"collection {self.job.collection!r} was made with {vector.model} {vector.fingerprint}",
                hint="import with that model, or into a new collection",
            )
        collection = self.engine.collection(self.job.collection)
        manifest = collection.view().manifest
        record = manifest.models.get(self.job.vector_name) if manifest else None
        if record is not None:
            canary.check(embedder, map_npy(collection.artifacts.path(record.canaries)))

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
        schema = Schema(vectors={job.vector_name: vector}, index=settings)
        self.tools.writer.create(job.collection, schema)
        self.created = True
        # A server that has another version of the model makes another schema of it.
        self.schema = self.engine.entry(job.collection).schema
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

    def _publish(self, collection: Collection, builder: SegmentBuilder, staged: Path, started_seq: int) -> _Done:
        job, tools = self.job, self.tools
        models = {}
        if self.embedder is not None:
            path = staged / "canaries.npy"
            save_npy(path, canary.make(self.embedder))
            models[job.vector_name] = ModelRecord(
                name=self.embedder.info.name,
                fingerprint=self.embedder.info.fingerprint,
                canaries=collection.artifacts.add(path),
            )
        settings = job.index or collection.schema.index
        segment = builder.finish(
            collection.artifacts,
            tools.indexers,
            settings,
            threads=tools.threads,
            progress=_index_progress(tools.reporter, builder.rows),
        )
        for name, recall in best_recall(segment).items():
            if recall < job.min_recall:
                raise _recall_too_low(segment, name, recall, job.min_recall)
        tools.reporter.phase("publish", 1, "")
        manifest = adopt(
            collection,
            segment,
            started_seq=started_seq,
            mode=job.mode,
            publisher=tools.writer,
            indexers=tools.indexers,
            models=models,
            source=f"import {job.uri}",
        )
        tools.reporter.update(1, 0)
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


def _recall_too_low(segment: SegmentRecord, name: str, recall: float, wanted: float) -> VssError:
    record = segment.vectors[name]
    curve = ", ".join(f"{point.recall:.3f} at effort {point.effort}" for point in record.calibration)
    return invalid(
        f"recall@10 of {record.index.kind} reached {recall:.3f}, wanted at least {wanted:.3f}; measured {curve}; "
        "nothing was published",
        hint="lower --min-recall, or build another index with --index",
    )
