"""Searches over several segments and the live part equal numpy, whatever the plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from indexers.registry import INDEXERS
from tests.conformance.data import clustered
from vss.distance import BLOCK_FLOATS, exact_search
from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.filters import Condition, Filter, HasId, Match, Range, matches
from vss.points import Point
from vss.protocols import Deadline
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search.plan import Method
from vss.search.retrieve import Found, search
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.storage.view import View
from vss.types import Metric, Vectors
from vss.vectors import as_vectors

COUNT, DIM = 1500, 16


class Corpus:
    """Points 0..COUNT in a graph segment, a flat segment and the live part; "text" is missing from every third."""

    def __init__(self, folder: Path, metric: Metric) -> None:
        self.metric = metric
        self.vectors = as_vectors(clustered(COUNT + 50, DIM, seed=3), DIM, metric)
        self.queries = self.vectors[COUNT:]
        self.engine = LocalEngine(DataDir(folder), INDEXERS, writable=True)
        vector = VectorSchema(dim=DIM, metric=metric)
        kind = "flat" if metric is Metric.MANHATTAN else "faiss_hnsw"
        self.engine.create("c", Schema(vectors={"text": vector, "image": vector}, index=IndexSettings(kind=kind)))
        collection = self.engine.collection("c")
        self._write(0, 1000)
        fold(collection, self.engine, INDEXERS, threads=2)
        self._write(1000, 1300)
        seal(collection, self.engine, INDEXERS)
        self._write(1300, COUNT)
        self._write(0, 20)  # replaced in the graph by equal points of the live part
        self.engine.remove("c", [50, 1050, 1350]).result()
        self.points = {row: self._point(row) for row in range(COUNT) if row not in (50, 1050, 1350)}

    def _point(self, row: int) -> Point:
        vectors = (
            {"image": self.vectors[row]} if row % 3 == 0 else {"text": self.vectors[row], "image": self.vectors[row]}
        )
        return Point(id=row, vectors=vectors, payload=msgspec.json.encode({"n": row, "mod": f"m{row % 10}"}))

    def _write(self, start: int, stop: int) -> None:
        self.engine.upsert("c", [self._point(row) for row in range(start, stop)]).result()

    def view(self) -> View:
        return self.engine.collection("c").view()

    def truth(self, query: Vectors, k: int, using: str, where: Condition | None) -> list[tuple[int, float]]:
        rows = [
            row
            for row, point in self.points.items()
            if using in point.vectors and (where is None or matches(where, row, msgspec.json.decode(point.payload)))
        ]
        stored, wide = self.vectors[rows].astype(np.float64), query.astype(np.float64)
        match self.metric:
            case Metric.EUCLID:
                scores = -np.linalg.norm(stored - wide, axis=1)
            case Metric.MANHATTAN:
                scores = -np.abs(stored - wide).sum(axis=1)
            case _:
                scores = stored @ wide
        best = np.argsort(-scores, kind="stable")[:k]
        return [(rows[one], float(scores[one])) for one in best]


@pytest.fixture(scope="module", params=list(Metric), ids=str)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    corpus = Corpus(tmp_path_factory.mktemp("corpus"), request.param)
    yield corpus
    corpus.engine.close()


def ids(view: View, found: Found) -> list[object]:
    return [view.parts[part].point(int(row)).id for part, row in zip(found.parts, found.rows, strict=True)]


FILTERS: list[Condition | None] = [
    None,
    Match("mod", ("m3",)),
    Range("n", lt=1200),
    Filter(must=(Range("n", gte=990, lt=1310),), must_not=(Match("mod", ("m1", "m2")),)),
    HasId((1, 51, 1051, 1351, 50)),
]


@pytest.mark.parametrize("where", FILTERS, ids=str)
@pytest.mark.parametrize("using", ["text", "image"])
def test_exact_search_equals_numpy(corpus: Corpus, using: str, where: Condition | None) -> None:
    view = corpus.view()
    for query, found in zip(
        corpus.queries, search(view, corpus.queries, using=using, k=10, where=where, exact=True), strict=True
    ):
        truth = corpus.truth(query, 10, using, where)
        assert ids(view, found) == [row for row, _ in truth]
        np.testing.assert_allclose(found.scores, [score for _, score in truth], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_planned_search_keeps_its_recall(corpus: Corpus, where: Condition | None) -> None:
    view = corpus.view()
    answers = search(view, corpus.queries, using="text", k=10, where=where)
    hits = total = 0
    for query, found in zip(corpus.queries, answers, strict=True):
        truth = [row for row, _ in corpus.truth(query, 10, "text", where)]
        hits += len(set(truth) & set(ids(view, found)))
        total += len(truth)
    assert hits / total >= 0.97, f"recall {hits / total}"


def test_a_batch_answers_what_its_single_queries_do(corpus: Corpus) -> None:
    view = corpus.view()
    batch = search(view, corpus.queries[:7], using="image", k=5)
    for query, found in zip(corpus.queries, batch, strict=False):
        (single,) = search(view, query[None, :], using="image", k=5)
        assert ids(view, single) == ids(view, found)


def test_k_or_a_reason(corpus: Corpus) -> None:
    view = corpus.view()
    (found,) = search(view, corpus.queries[:1], using="text", k=5, where=HasId((1, 2, 50)))
    assert sorted(map(int, ids(view, found))) == [1, 2]
    assert not found.complete
    assert found.reason == "only 2 match"
    (found,) = search(view, corpus.queries[:1], using="text", k=5)
    assert found.complete
    assert found.reason is None


def test_asking_for_everything_returns_everything(corpus: Corpus) -> None:
    (found,) = search(corpus.view(), corpus.queries[:1], using="image", k=5000)
    assert len(found) == len(corpus.points)


def test_an_unreachable_recall_is_answered_exactly(corpus: Corpus) -> None:
    reachable = Method.SCAN if corpus.metric is Metric.MANHATTAN else Method.GRAPH
    view = corpus.view()
    (found,) = search(view, corpus.queries[:1], using="text", k=5, recall=1.1)
    assert {one.plan.method for one in found.plans} == {Method.SCAN}
    (found,) = search(view, corpus.queries[:1], using="text", k=5, recall=0.9)
    assert reachable in {one.plan.method for one in found.plans}


def test_an_unknown_vector_name_is_refused(corpus: Corpus) -> None:
    with pytest.raises(VssError, match="'text', 'image'"):
        search(corpus.view(), corpus.queries[:1], using="audio", k=5)


def test_a_deadline_that_passes_gives_what_was_found_and_says_so(tmp_path: Path) -> None:
    """Two segments and a live part: the first is looked at whatever the deadline, the others no more."""
    engine = LocalEngine(DataDir(tmp_path / "late"), INDEXERS, writable=True)
    try:
        engine.create("c", Schema(vectors={"": VectorSchema(dim=4, metric=Metric.EUCLID)}))
        vectors = clustered(30, 4, seed=3)
        for start in range(0, 30, 10):
            rows = range(start, start + 10)
            engine.upsert("c", [Point(id=row, vectors={"": vectors[row]}) for row in rows]).result()
            if start < 20:
                seal(engine.collection("c"), engine, INDEXERS)
        view = engine.collection("c").view()
        (whole,) = search(view, vectors[:1], using="", k=12, deadline=Deadline.after_ms(60_000))
        assert (len(whole), whole.complete, whole.reason) == (12, True, None)
        for exact in (False, True):
            (found,) = search(view, vectors[:1], using="", k=12, exact=exact, deadline=Deadline.after_ms(0))
            assert (len(found), found.complete, found.reason) == (10, False, "deadline")
            assert set(found.parts.tolist()) == {0}
    finally:
        engine.close()


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT, Metric.EUCLID])
def test_scans_of_several_parts_are_exact_and_keep_the_order_of_equals(metric: Metric, tmp_path: Path) -> None:
    """By codes, sealed and live; half of all vectors stand in every part."""
    sizes, dim = (700, 1500, 900), 24
    vectors = as_vectors(clustered(1550, dim, seed=5), dim, metric)
    queries, own = vectors[1500:], np.random.default_rng(2).permutation(1500)
    with closing(LocalEngine(DataDir(tmp_path), INDEXERS, writable=True)) as engine:
        vector = VectorSchema(dim=dim, metric=metric)
        engine.create("c", Schema(vectors={"": vector}, index=IndexSettings(kind="auto")))
        collection = engine.collection("c")
        for number, size in enumerate(sizes):
            rows = np.concatenate((np.arange(size // 2), own[: size - size // 2]))
            payloads = [b'{"mod": %d}' % (row % 3) for row in rows.tolist()]
            points = [
                Point(id=10_000 * number + at, vectors={"": vectors[row]}, payload=payloads[at])
                for at, row in enumerate(rows.tolist())
            ]
            engine.upsert("c", points).result()
            if number < len(sizes) - 1:
                seal(collection, engine, INDEXERS)
        view = collection.view()
        for where in (None, Match("mod", (1,))):
            exact = search(view, queries, using="", k=15, where=where, exact=True)
            together = search(view, queries, using="", k=15, where=where)
            assert [one.plan.method for one in together[0].plans] == [Method.SCAN] * len(sizes)
            assert [one.part for one in together[0].plans] == list(range(len(sizes)))
            for at, (found, true) in enumerate(zip(together, exact, strict=True)):
                alone = search(view, queries[at : at + 1], using="", k=15, where=where)[0]
                for one in (found, alone):
                    assert ids(view, one) == ids(view, true)
                    np.testing.assert_allclose(one.scores, true.scores, rtol=1e-5, atol=1e-6)


def test_an_exact_scan_is_stopped_between_its_blocks() -> None:
    vectors = clustered(5_000, 8, seed=4)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 2

    hits = exact_search(np.repeat(vectors[:1], 2_000, axis=0), vectors, 10, Metric.EUCLID, stop=stop)
    assert len(asked) == 2
    assert hits.rows.max() < BLOCK_FLOATS // 2_000 * 2
