"""`vss bench write`: what an import and durable writes cost beside the least that could do the same.

    imported_vectors  an import of ready vectors, beside a raw hnswlib build of the same vectors with as many threads
    imported_texts    an import of texts, beside the model alone on the same texts

Each pair takes turns in the same run. A rate counts everything from the first byte read to the published generation.
Durable upserts stand in `api.bench.durable`.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from api.bench.importing import Run, import_texts, import_vectors
from api.bench.report import Report, ratios, rounds, spread
from api.bench.texts import write_jsonl
from indexers.raw.registry import library
from vss.protocols import Embedder
from vss.storage.datadir import DataDir
from vss.types import Metric, Progress, Role, Vectors, no_progress

WARM = 100
"""Texts that are embedded before anything is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to measure. threads: of the index builds, ours and raw; kind: of the index, "auto" as `vss index` has it."""

    repetitions: int = 5
    threads: int = 2
    kind: str = "auto"


def imported_vectors(
    report: Report, name: str, vectors: Vectors, metric: Metric, scratch: Path, plan: Plan, progress: Progress
) -> None:
    """Rows per second of an import of `(n, dim)` vectors from a `.npy`, and of hnswlib's build."""
    source = scratch / "vectors.npy"
    np.save(source, vectors)
    raw = library("raw-hnswlib")
    runs: list[Run] = []
    cpu = Processors()

    def ours() -> float:
        folder = scratch / f"data-{secrets.token_hex(4)}"
        with cpu.of("import"):
            runs.append(import_vectors(DataDir(folder), "vectors", source, metric, plan.kind, plan.threads))
        shutil.rmtree(folder)
        return runs[-1].rows / runs[-1].seconds

    def theirs() -> float:
        folder = scratch / f"raw-{secrets.token_hex(4)}"
        folder.mkdir()
        began = time.perf_counter()
        with cpu.of(raw.kind):
            raw.build(vectors, metric, folder, threads=plan.threads, progress=no_progress)
        seconds = time.perf_counter() - began
        shutil.rmtree(folder)
        return len(vectors) / seconds

    rates = rounds({"import": ours, raw.kind: theirs}, plan.repetitions, progress)
    report.write(
        "imported_vectors",
        data=name,
        n=len(vectors),
        dim=vectors.shape[1],
        metric=metric.value,
        index=plan.kind,
        threads=plan.threads,
        repetitions=plan.repetitions,
        import_rows_per_s=spread(rates["import"]),
        raw_hnswlib_rows_per_s=spread(rates[raw.kind]),
        ratio=ratios(rates["import"], rates[raw.kind]),
        **cpu.fields("import", raw.kind),
        **_phases(runs),
    )


def imported_texts(
    report: Report, embedder: Embedder, texts: Sequence[str], scratch: Path, plan: Plan, progress: Progress
) -> None:
    """Texts per second of an import, without loading the model, and of the model alone."""
    texts = list(texts)
    source = scratch / "texts.jsonl"
    write_jsonl(source, texts)
    runs: list[Run] = []
    cpu = Processors()

    def ours() -> float:
        folder = scratch / f"data-{secrets.token_hex(4)}"
        with cpu.of("import"):
            runs.append(import_texts(DataDir(folder), "texts", source, embedder, plan.threads))
        shutil.rmtree(folder)
        return runs[-1].rows / runs[-1].seconds

    def theirs() -> float:
        began = time.perf_counter()
        with cpu.of("model"):
            embedder.embed(texts, Role.DOCUMENT)
        return len(texts) / (time.perf_counter() - began)

    embedder.embed(texts[:WARM], Role.DOCUMENT)  # warm
    rates = rounds({"import": ours, "model": theirs}, plan.repetitions, progress)
    report.write(
        "imported_texts",
        texts=len(texts),
        tokens=sum(embedder.lengths(texts)),
        model=embedder.info.name,
        device=embedder.info.device,
        precision=embedder.info.precision,
        threads=plan.threads,
        repetitions=plan.repetitions,
        import_texts_per_s=spread(rates["import"]),
        model_texts_per_s=spread(rates["model"]),
        ratio=ratios(rates["import"], rates["model"]),
        **cpu.fields("import", "model"),
        **_phases(runs),
    )


class Processors:
    """Processor seconds of each run, all threads together: they hold where other processes take the cores away."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count what runs in the `with` statement as a run of this name."""
        began = time.process_time()
        yield
        self._seconds.setdefault(name, []).append(time.process_time() - began)

    def add(self, name: str, seconds: float) -> None:
        """Count a run of another process."""
        self._seconds.setdefault(name, []).append(seconds)

    def fields(self, ours: str, baseline: str) -> dict[str, Any]:
        """The seconds of both, and how often the baseline's hold ours: below 1 where ours needs more."""
        return {
            "cpu_seconds": {name: spread(seconds) for name, seconds in self._seconds.items()},
            "cpu_ratio": ratios(self._seconds[baseline], self._seconds[ours]),
        }


def _phases(runs: Sequence[Run]) -> dict[str, Any]:
    """The median seconds of each phase, on the clock and of processors."""

    def medians(all_phases: Sequence[dict[str, float]]) -> dict[str, float]:
        return {name: round(float(np.median([phases[name] for phases in all_phases])), 3) for name in all_phases[0]}

    return {
        "import_phase_seconds": medians([run.phases for run in runs]),
        "import_phase_cpu_seconds": medians([run.phases_cpu for run in runs]),
    }
