"""`vss bench filter`: filters of many shapes over one collection, beside raw FAISS and with each plan forced.

Payloads  what the vectors are given to be filtered by: numbers, a keyword list, a text, and the cell that they lie in
CASES     how a filter of each shape is drawn for one query; each draw has values that hardly come again
measure   every query with a filter of its own: first unknown, then known, then by each plan alone
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.bench.dataset import Dataset, K
from api.bench.report import Report, spread
from indexers.raw.library import RawFiltered
from indexers.registry import INDEXERS
from vss.distance import exact_search
from vss.filters import Condition, Filter, Match, Range, Text
from vss.points import id_key
from vss.recall import recall_at
from vss.schema import DEFAULT_VECTOR, IndexSettings, Schema, VectorSchema
from vss.search.plan import Method
from vss.search.retrieve import search
from vss.storage.build import Block, SegmentBuilder
from vss.storage.collection import Collection
from vss.storage.imports import Mode, adopt
from vss.storage.manifest import Manifest
from vss.storage.publish import publish
from vss.storage.segment import Segment
from vss.storage.view import View
from vss.types import Progress, Vectors

CELLS = 64
LISTED = 400
"""Different keywords; those of a point are drawn so that the first ones are the most frequent (Zipf)."""

VOCABULARY = 2_000
BLOCK = 5_000
GRID = (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)


@dataclass(frozen=True, slots=True)
class Payloads:
    """What filters are drawn from.

    texts: one JSON object for each vector: `number`, `a` and `b` from 0 to 1, `tags`, `text`, `cell`
    seeds: `(CELLS, dim)` vectors; a point's cell is the number of the one that is most like it
    """

    texts: list[bytes]
    seeds: Vectors


class Case(NamedTuple):
    """A shape of filter: its name, and a draw of one for a query."""

    name: str
    draw: Callable[[np.random.Generator, Vectors, Payloads], Condition]


def payloads_for(data: Dataset, seed: int) -> Payloads:
    """Payloads for all vectors of a data set."""
    random = np.random.default_rng(seed)
    count = len(data.vectors)
    seeds = np.array(data.vectors[np.sort(random.choice(count, CELLS, replace=False))])
    cells = np.concatenate(
        [
            exact_search(data.vectors[start : start + BLOCK], seeds, 1, data.metric).rows[:, 0]
            for start in range(0, count, BLOCK)
        ]
    )
    columns = {name: np.round(random.random(count), 9).tolist() for name in ("number", "a", "b")}
    tags = np.minimum(random.zipf(1.3, (count, 3)), LISTED)
    words = np.minimum(random.zipf(1.2, (count, 8)), VOCABULARY)
    texts = [
        msgspec.json.encode(
            {
                "number": number,
                "a": a,
                "b": b,
                "tags": [f"t{tag}" for tag in sorted(set(tag_row))],
                "text": " ".join(f"w{word}" for word in word_row),
                "cell": cell,
            }
        )
        for number, a, b, tag_row, word_row, cell in zip(
            columns["number"], columns["a"], columns["b"], tags.tolist(), words.tolist(), cells.tolist(), strict=True
        )
    ]
    return Payloads(texts, seeds)


def _range(key: str, share: float) -> Callable[[np.random.Generator], Range]:
    def draw(random: np.random.Generator) -> Range:
        low = random.random() * (1 - share)
        return Range(key, gte=low, lt=low + share)

    return draw


def _share(share: float) -> Callable[[np.random.Generator, Vectors, Payloads], Condition]:
    draw = _range("number", share)
    return lambda random, query, payloads: draw(random)


def _both(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    return Filter(must=(_range("a", 0.2)(random), _range("b", 0.2)(random)))


def _any_of(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    return Match("tags", tuple(f"t{tag}" for tag in random.choice(np.arange(4, LISTED), 8, replace=False).tolist()))


def _must_not(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    return Filter(must_not=(_range("number", 0.4)(random),))


def _words(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    return Text("text", f"w{random.integers(2, 60)} w{random.integers(1, 4)}")


def _contrary(random: np.random.Generator, query: Vectors, payloads: Payloads) -> Condition:
    """Only what lies in the farther half of the cells, and most of that."""
    order = np.argsort(np.linalg.norm(payloads.seeds - query, axis=1))
    return Filter(
        must=(Match("cell", tuple(int(cell) for cell in order[CELLS // 2 :])),),
        must_not=(_range("number", 0.1)(random),),
    )


CASES = (
    Case("50%", _share(0.5)),
    Case("20%", _share(0.2)),
    Case("10%", _share(0.1)),
    Case("1%", _share(0.01)),
    Case("0.1%", _share(0.001)),
    Case("0.01%", _share(0.0001)),
    Case("two fields, 4%", _both),
    Case("any of a list", _any_of),
    Case("must not, 60%", _must_not),
    Case("full text", _words),
    Case("contrary to the query", _contrary),
)


def filled(collection: Collection, data: Dataset, payloads: Payloads, kind: str, threads: int, tell: Progress) -> View:
    """The collection with all vectors and payloads in one segment; ids are their positions."""
    collection.staging.mkdir(exist_ok=True)
    with SegmentBuilder(collection.schema, collection.staging / "bench") as builder:
        for start in range(0, len(data.vectors), BLOCK):
            vectors = data.vectors[start : start + BLOCK]
            size = len(vectors)
            builder.add(
                Block(
                    keys=[id_key(one) for one in range(start, start + size)],
                    payloads=payloads.texts[start : start + size],
                    versions=np.zeros(size, np.int64),
                    vectors={DEFAULT_VECTOR: (np.arange(size), np.array(vectors))},
                )
            )
        record = builder.finish(
            collection.artifacts, INDEXERS, IndexSettings(kind=kind), threads=threads, progress=tell
        )
    adopt(
        collection,
        record,
        started_seq=0,
        mode=Mode.UPSERT,
        publisher=_Here(collection),
        indexers=INDEXERS,
        models={},
        source="bench",
    )
    return collection.view()


class _Here:
    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def publish(self, manifest: Manifest) -> None:
        publish(self._collection.log, self._collection.manifests, manifest)


def schema_of(data: Dataset, kind: str) -> Schema:
    """One unnamed vector."""
    return Schema(
        vectors={DEFAULT_VECTOR: VectorSchema(dim=data.vectors.shape[1], metric=data.metric)},
        index=IndexSettings(kind=kind),
    )


class Efforts(NamedTuple):
    """What raw FAISS and the collection spend: the least that reaches the target where nothing is filtered."""

    raw: int
    ours: int


def settled(view: View, raw: RawFiltered, data: Dataset, target: float) -> Efforts:
    """The efforts of a run. Where none reaches the target it is the largest."""

    def by_raw(effort: int) -> NDArray[np.int64]:
        raw.effort(effort)
        return raw.rows(data.queries, K)

    def by_us(effort: int) -> NDArray[np.int64]:
        answers = search(view, data.queries, using=DEFAULT_VECTOR, k=K, effort=effort)
        return np.concatenate([_padded(answer.rows) for answer in answers])

    def least(ask: Callable[[int], NDArray[np.int64]]) -> int:
        return next((effort for effort in GRID if data.recall(ask(effort)) >= target), GRID[-1])

    return Efforts(least(by_raw), least(by_us))


@dataclass(slots=True)
class Measured:
    """One case: microseconds of each query, and its recall@K, by way of answering; and the part of rows that match."""

    microseconds: dict[str, list[float]] = field(default_factory=dict)
    recall: dict[str, list[float]] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)

    def take(self, way: str, ask: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """Time one way of answering one query; its rows."""
        began = time.perf_counter()
        rows = ask()
        self.microseconds.setdefault(way, []).append((time.perf_counter() - began) * 1e6)
        return rows


UNFILTERED, NEW, KNOWN, BITMAP = "raw FAISS, no filter", "filter new", "filter known", "raw FAISS, bitmap"


def measure(
    view: View, data: Dataset, payloads: Payloads, raw: RawFiltered, efforts: Efforts, case: Case, seed: int
) -> Measured:
    """All queries of a data set, each with a filter of this shape. The view has one segment."""
    random = np.random.default_rng(seed)
    measured = Measured()
    raw.effort(efforts.raw)
    segment = view.parts[0].body
    assert isinstance(segment, Segment)
    for row in range(len(data.queries)):
        query = data.queries[row : row + 1]
        where = case.draw(random, query[0], payloads)
        ask = partial(_answered, view, query, where, efforts.ours)
        found = {NEW: measured.take(NEW, ask)}
        found[KNOWN] = measured.take(KNOWN, ask)
        for method in Method:
            way = f"{method.value} alone"
            found[way] = measured.take(way, partial(ask, method))
        mask = segment.mask(where)
        measured.take(UNFILTERED, partial(raw.rows, query, K))
        found[BITMAP] = measured.take(BITMAP, partial(raw.rows_allowed, query, K, mask))[0]
        true = exact_search(query, data.vectors, K, data.metric, mask).rows
        measured.shares.append(float(mask.mean()))
        for way, rows in found.items():
            measured.recall.setdefault(way, []).append(recall_at(_padded(rows), true))
    return measured


def _answered(
    view: View, query: Vectors, where: Condition, effort: int, force: Method | None = None
) -> NDArray[np.int64]:
    return search(view, query, using=DEFAULT_VECTOR, k=K, where=where, effort=effort, force=force)[0].rows


def _padded(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.full((1, K), -1, np.int64)
    found[0, : len(rows)] = rows
    return found


def write(report: Report, data: Dataset, case: Case, measured: Measured, efforts: Efforts) -> None:
    """A line for each way of answering one case."""
    base = float(np.median(measured.microseconds[UNFILTERED]))
    for way, values in measured.microseconds.items():
        report.write(
            case.name,
            way=way,
            data=data.name,
            n=len(data.vectors),
            dim=int(data.vectors.shape[1]),
            queries=len(values),
            share=float(np.median(measured.shares)),
            effort=efforts.raw if way.startswith("raw") else efforts.ours,
            microseconds=spread(values),
            over_unfiltered=round(float(np.median(values)) / base, 3),
            recall=round(float(np.mean(measured.recall[way])), 4) if way in measured.recall else None,
        )


def cells(cases: Sequence[tuple[Case, Measured]]) -> list[list[str]]:
    """For people: a row for each case, the median microseconds (over unfiltered raw FAISS) and recall of each way."""
    rows = []
    for case, measured in cases:
        base = float(np.median(measured.microseconds[UNFILTERED]))
        row = [case.name, f"{np.median(measured.shares):.2%}", f"{base:,.0f}"]
        for way in (NEW, KNOWN, *(f"{method.value} alone" for method in Method), BITMAP):
            middle = float(np.median(measured.microseconds[way]))
            row.append(f"{middle:,.0f} ({middle / base:.1f}x) {np.mean(measured.recall[way]):.3f}")
        rows.append(row)
    return rows
