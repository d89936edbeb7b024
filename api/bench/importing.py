"""An import as `vss index` runs it, in this process, into a new collection, with the seconds of each of its phases."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from indexers.registry import INDEXERS
from vss.jobs.gate import Fields
from vss.jobs.importer import Tools, run_import
from vss.jobs.living import LivingCollection
from vss.jobs.remote import JobWriter
from vss.jobs.request import Import
from vss.protocols import Embedder, EmbedderInfo
from vss.schema import IndexSettings
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode
from vss.types import Metric, Role, Vectors

LOADING = "load model"
EMBEDDING = "read, embed"


@dataclass(slots=True)
class PhaseClock:
    """A `vss.jobs.progress.Reporter` that keeps the seconds of each phase, and the processor seconds of all threads."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    _name: str = ""
    _began: float = 0.0
    _cpu_began: float = 0.0

    def phase(self, name: str, total: int, unit: str) -> None:
        """As `Reporter.phase`."""
        self.close()
        self._name, self._began, self._cpu_began = name, time.perf_counter(), time.process_time()

    def update(self, position: int, items: int) -> None:
        """As `Reporter.update`."""

    def close(self) -> None:
        """As `Reporter.close`."""
        if self._name:
            spent = time.perf_counter() - self._began
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + spent
            spent = time.process_time() - self._cpu_began
            self.cpu[self._name] = self.cpu.get(self._name, 0.0) + spent
            self._name = ""


class Kept:
    """An embedder that stays loaded when a job closes it."""

    def __init__(self, embedder: Embedder) -> None:
        self.info: EmbedderInfo = embedder.info
        self._embedder = embedder

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """As `Embedder.lengths`."""
        return self._embedder.lengths(texts)

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """As `Embedder.embed`."""
        return self._embedder.embed(texts, role)

    def close(self) -> None:
        """Nothing: its owner closes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One import: rows, seconds of all and of each phase, processor seconds of each. Loading a model is in none."""

    rows: int
    seconds: float
    phases: dict[str, float]
    phases_cpu: dict[str, float]


def import_vectors(data: DataDir, collection: str, path: Path, metric: Metric, kind: str, threads: int) -> Run:
    """Import a `.npy` of vectors; the ids are its row numbers."""
    job = Import(uri=str(path), fields=Fields(vector="vector"), metric=metric, index=IndexSettings(kind=kind))
    return _run(data, collection, job, threads, _no_embedder)


def import_texts(data: DataDir, collection: str, path: Path, embedder: Embedder, threads: int) -> Run:
    """Import a JSON Lines file of `id` and `text`, embedded by an embedder that is loaded already."""
    job = Import(uri=str(path), fields=Fields(text="text"), model=embedder.info.name)
    return _run(data, collection, job, threads, lambda _: Kept(embedder))


def _run(data: DataDir, collection: str, job: Import, threads: int, embedders: Callable[[str], Embedder]) -> Run:
    clock = PhaseClock()
    with ExitStack() as stack:
        began = time.perf_counter()
        tools = Tools(
            indexers=INDEXERS,
            embedders=embedders,
            reporter=clock,
            threads=threads,
            dead_letters=data.path / "dead-letters",
        )
        destination = stack.enter_context(
            LivingCollection(data, collection, indexers=INDEXERS, writer=JobWriter(data), mode=Mode.UPSERT)
        )
        rows = run_import(job, destination, tools).rows
    seconds = time.perf_counter() - began
    loading = clock.seconds.pop(LOADING, 0.0)
    clock.cpu.pop(LOADING, None)
    return Run(rows=rows, seconds=seconds - loading, phases=clock.seconds, phases_cpu=clock.cpu)


def _no_embedder(name: str) -> Embedder:
    raise AssertionError(f"an import of vectors asked for the embedder {name}")
