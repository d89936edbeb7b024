"""`vss bench embed`: texts and tokens per second of each path that a text takes to its vector, beside the model alone.

model    `Embedder.embed` on all texts at once: the baseline
served   requests of a few texts each, several in flight, through the micro-batcher of a server
import   reading, checking and embedding of an import, from a JSON Lines file into a segment
library  `SentenceTransformer.encode` in float32, as its users call it
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from api.bench.importing import EMBEDDING, Kept, import_texts
from api.bench.report import Report, ratios, rounds, spread
from api.bench.texts import write_jsonl
from embedders.registry import open_raw
from vss.protocols import Deadline, Embedder
from vss.search.batching import ModelHost
from vss.storage.datadir import DataDir
from vss.types import Progress, Role

BASELINE = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to measure. request: texts of a request; clients: requests in flight; threads: of the import's index."""

    repetitions: int = 5
    request: int = 32
    clients: int = 8
    threads: int = 1


def measure(
    report: Report, embedder: Embedder, texts: Sequence[str], scratch: Path, plan: Plan, progress: Progress
) -> None:
    """Time all paths round by round and write a line for each; `scratch` is an empty folder."""
    texts = list(texts)
    source = scratch / "texts.jsonl"
    write_jsonl(source, texts)
    data = DataDir(scratch / "data")
    name = embedder.info.name
    encode = open_raw(name, embedder.info.device)
    host = ModelHost({name: lambda: Kept(embedder)})
    host.start()
    try:
        host.wait()

        def imported() -> float:
            run = import_texts(data, f"texts-{secrets.token_hex(4)}", source, embedder, plan.threads)
            return run.rows / run.phases[EMBEDDING]

        cases: dict[str, Callable[[], float]] = {
            BASELINE: _rate(len(texts), lambda: embedder.embed(texts, Role.DOCUMENT)),
            "served": _rate(len(texts), lambda: asyncio.run(_served(host, name, texts, plan))),
            "import": imported,
        }
        extra: dict[str, dict[str, Any]] = {"served": {"request": plan.request, "clients": plan.clients}}
        if encode is not None:
            cases["library"] = _rate(len(texts), lambda: encode(texts))
            # What also warms both up.
            cosines = np.einsum("ij,ij->i", embedder.embed(texts, Role.DOCUMENT), encode(texts))
            extra["library"] = {
                "cosine_to_model": {"worst": round(float(cosines.min()), 5), "mean": round(float(cosines.mean()), 5)}
            }
        for run in cases.values():
            run()
            progress(1)
        rates = rounds(cases, plan.repetitions, progress)
    finally:
        host.close()
    tokens = sum(embedder.lengths(texts))
    for path, values in rates.items():
        report.write(
            "embed",
            path=path,
            texts_per_s=spread(values),
            tokens_per_s=spread([value * tokens / len(texts) for value in values]),
            ratio_to_model=ratios(values, rates[BASELINE]),
            texts=len(texts),
            tokens=tokens,
            model=name,
            device=embedder.info.device,
            precision=embedder.info.precision,
            repetitions=plan.repetitions,
            **extra.get(path, {}),
        )


def passes(plan: Plan) -> int:
    """The most calls of `progress` that `measure` makes."""
    return 4 * (plan.repetitions + 1)


async def _served(host: ModelHost, name: str, texts: Sequence[str], plan: Plan) -> None:
    """All texts in requests; each client sends its next one when the last was answered."""
    requests = iter([texts[start : start + plan.request] for start in range(0, len(texts), plan.request)])

    async def client() -> None:
        for some in requests:
            await host.embed(name, some, Role.DOCUMENT, Deadline())

    await asyncio.gather(*(client() for _ in range(plan.clients)))


def _rate(count: int, work: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        work()
        return count / (time.perf_counter() - began)

    return run
