"""A bulk import: a file of rows becomes one indexed segment, which its destination publishes.

    read     rows stream in (`sources`), in chunks of bounded size (`chunks`)
    gate     each row passes the checks of a REST write, or becomes a dead letter (`gate`, `dead_letters`)
    embed    texts become vectors (`embedding_cache`)
    build    `SegmentBuilder` writes, indexes and calibrates
    measure  a generation whose recall falls short is not published (`measure`)
    publish  the destination keeps it (`destination`)

When any step fails nothing is published, and what was staged or made is removed. When the process is killed or told
to stop what was staged stays, and the same import goes on after its last finished chunk (`journal`).
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec.structs import replace

from vss import canary
from vss.errors import Code, VssError
from vss.jobs.chunks import chunks
from vss.jobs.dead_letters import DeadLetters, too_many
from vss.jobs.destination import Destination, Site
from vss.jobs.embedding_cache import EmbeddingCache, embed
from vss.jobs.gate import Accepted, Fields, Gate
from vss.jobs.journal import Begin, Checkpoint, Journal, take
from vss.jobs.measure import best_recall, check_recall
from vss.jobs.progress import Reporter
from vss.jobs.request import Import, fields_of
from vss.jobs.sources.files import Files
from vss.jobs.sources.registry import open_source
from vss.jobs.sources.row import Row
from vss.jobs.sources.systems import same_place, shown
from vss.protocols import Embedder, Indexers
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage.build import Block, SegmentBuilder
from vss.storage.manifest import ModelRecord, SegmentRecord
from vss.storage.npy import save_npy
from vss.types import Metric, Progress, Vectors

Published = TypeVar("Published")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported(Generic[Published]):
    """What an import did.

    recall:  best measured recall@10 by vector name
    cached:  texts that were known
    resumed: rows of the source that were done before the import was killed
    anew:    why what a killed import had staged was of no use
    """

    manifest: Published
    segment: SegmentRecord
    rows: int
    rejected: int
    dead_letters: Path | None
    recall: dict[str, float]
    cached: int
    seconds: float
    resumed: int = 0
    anew: str | None = None


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
        rejected = stack.enter_context(DeadLetters(tools.dead_letters / name, job.on_error, job.max_bad_share))
        embedder = None
        if model is not None:
            tools.reporter.phase("load model", 1, "")
            embedder = tools.embedders(model)
            stack.callback(embedder.close)
        work = _Work(job, tools, destination, source, fields, rejected, embedder, known)
        done = work.run()
        return Imported(
            manifest=done.manifest,
            segment=done.segment,
            rows=done.rows,
            rejected=rejected.count,
            dead_letters=rejected.path if rejected.count else None,
            recall=best_recall(done.segment),
            cached=tools.cache.hits if tools.cache else 0,
            seconds=time.monotonic() - began,
            resumed=work.resumed,
            anew=work.anew,
        )


@dataclass(frozen=True, slots=True)
class _Done(Generic[Published]):
    manifest: Published
    segment: SegmentRecord
    rows: int


@dataclass(frozen=True, slots=True)
class _Staged:
    """What the rows go to."""

    site: Site
    journal: Journal
    builder: SegmentBuilder


@dataclass(slots=True)
class _Work(Generic[Published]):
    """One run of an import."""

    job: Import
    tools: Tools
    destination: Destination[Published]
    source: Files
    fields: Fields
    rejected: DeadLetters
    embedder: Embedder | None
    schema: Schema | None
    position: int = 0
    items: int = 0
    resumed: int = 0
    anew: str | None = None
    kept: int = 0

    def run(self) -> _Done[Published]:
        """Everything from the first row to the published generation."""
        if self.embedder is not None and self.schema is not None:
            self._check_model(self.embedder, self.schema.vector(self.job.vector_name))
        try:
            with ExitStack() as stack:
                staged = None if self.schema is None else self._begin(stack, self.schema)
                rows, gate = self.source.rows(), Gate(self.fields, self.rejected)
                after = f" (after {self.resumed:,} rows of before)" if self.resumed else ""
                phase = ("read, embed" if self.embedder else "read") + after
                self.tools.reporter.phase(phase, self.source.total, "rows")
                for row in islice(rows, self.resumed):
                    self.position = row.end
                self.items = self.resumed
                for chunk in chunks(rows):
                    schema = self._schema(chunk, gate)
                    if schema is None:
                        # No row of the chunk has a vector, so each is refused for its own reason.
                        gate.check(chunk, VectorSchema(dim=0), None)
                    else:
                        staged = staged or self._begin(stack, schema)
                        vector = schema.vector(self.job.vector_name)
                        accepted = gate.check(chunk, vector, self._embed(chunk) if self.embedder else None)
                        staged.builder.add(_block(accepted, self.job.vector_name, staged.site.started_seq))
                    self.position, self.items = chunk[-1].end, self.items + len(chunk)
                    self.tools.reporter.update(self.position, self.items)
                    self.rejected.check_share(self.items, self.position / max(1, self.source.total))
                    if staged is not None:
                        self._checkpoint(staged)
                if staged is None or not staged.builder.rows:
                    raise too_many(self.rejected, self.items, "wanted some that can be stored")
                self.rejected.check_share(self.items)
                return self._publish(staged.site, staged.builder)
        except BaseException as error:
            if self.kept:
                error.add_note(f"stopped; {self.kept:,} rows are kept: the same command run again goes on after them")
            else:
                self.destination.undo()
            raise

    def _begin(self, stack: ExitStack, schema: Schema) -> _Staged:
        """Where the rows go: what this import had staged when it was killed, or an empty place."""
        site = self.destination.begin()
        path, rejected = self.rejected.path, self.rejected
        begin = Begin(self._identity(schema), site.started_seq, self.destination.created, str(path))
        journal, self.anew = take(site.staged, begin)
        builder = None
        if journal.last is not None:
            try:
                rejected.go_on(Path(journal.begin.dead_letters), journal.last.refused, journal.last.letter_bytes)
                builder = SegmentBuilder(schema, journal.segment, journal.last.staged)
                self.resumed = journal.last.read
            except (OSError, ValueError) as error:
                rejected.go_on(path, 0, 0)
                begin = replace(begin, created=journal.begin.created)
                journal.remove()
                journal, _ = take(site.staged, begin)
                self.anew = str(error)
        stack.push(partial(self._end, journal))
        if builder is None:
            builder = SegmentBuilder(schema, journal.segment)
        self.destination.created = journal.begin.created
        site = Site(journal.folder, site.artifacts, journal.begin.started_seq)
        self.destination.hold(site)
        return _Staged(site, journal, stack.enter_context(builder))

    def _end(self, journal: Journal, kind: type[BaseException] | None, *_: object) -> None:
        """Keep what is staged where the process was told to stop and another run can go on from it."""
        told = kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit)
        if told and self.destination.resumes and journal.last is not None:
            self.kept = journal.last.read
            journal.leave()
        else:
            journal.remove()

    def _identity(self, schema: Schema) -> dict[str, Any]:
        """Everything that decides which rows are staged. How they are indexed and published may change meanwhile."""
        fields = dataclasses.replace(self.fields, ids=self.fields.ids and same_place(self.fields.ids))
        identity = {
            "uri": same_place(self.job.uri),
            "files": self.source.stamps,
            "fields": fields,
            "vector name": self.job.vector_name,
            "model": self.embedder.info.fingerprint if self.embedder else None,
            "schema": schema.vectors,
            "--on-error": self.job.on_error,
        }
        decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(identity))
        return decoded

    def _checkpoint(self, staged: _Staged) -> None:
        files = staged.builder.checkpoint()
        done = Checkpoint(self.items, files, self.rejected.count, self.rejected.flush())
        due = staged.journal.due()
        if due:
            staged.builder.sync()
            self.rejected.sync()
        staged.journal.write(done, synced=due)

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

    def _schema(self, chunk: list[Row], gate: Gate) -> Schema | None:
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
                text_field=self.fields.text,
            )
        else:
            dim = gate.dimension(chunk)
            if dim is None:
                return None
            vector = VectorSchema(dim=dim, metric=job.metric or Metric.COSINE)
        settings = job.index or IndexSettings()
        self.tools.indexers.choose(settings.kind, vector.metric, vector.dim, 0, settings.params)  # or refuse it now
        self.schema = self.destination.create(Schema(vectors={job.vector_name: vector}, index=settings))
        if self.embedder is not None:
            self._check_model(self.embedder, self.schema.vector(job.vector_name))
        return self.schema

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
        manifest = self.destination.publish(site, segment, models, f"import {shown(job.uri)}", tools.reporter)
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
