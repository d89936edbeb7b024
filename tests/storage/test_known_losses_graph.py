"""What other systems lost in their graphs, tried on ours: docs/losses.md lists all.

Each test fails when the safeguard that its docstring names is taken away; the table says how that was tried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexers.native.reach import entries_of
from indexers.registry import INDEXERS, kinds, native_compiled
from tests.storage.conftest import DIM
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.points import Point
from vss.protocols import Extender, Indexers
from vss.schema import IndexSettings
from vss.search.retrieve import search
from vss.storage.collection import Collection
from vss.storage.fold import fold
from vss.storage.segment import Segment
from vss.types import Metric, Rows, Vectors, no_progress
from vss.vectors import as_vectors

GRAPHS = [kind for kind in kinds() if kind != "flat"]


def installed(kind: str) -> str:
    """Skips where the library is not there."""
    if kind == "native" and not native_compiled():
        pytest.skip("the kernel is not compiled")
    if kind == "hnswlib":
        pytest.importorskip("hnswlib")
    return kind


def wrong(graph: Rows, entries: Rows) -> list[str]:
    """What is wrong with a graph of `(n, degree)` neighbours, -1 behind a row's last: nothing, in a whole one."""
    count, said = len(graph), []
    rows = np.arange(count)[:, None]
    if ((graph < -1) | (graph >= count)).any():
        return ["a neighbour that is no row"]
    if ((graph[:, :-1] == -1) & (graph[:, 1:] != -1)).any():
        said.append("a neighbour behind the end")
    if (graph == rows).any():
        said.append("a row that is its own neighbour")
    ordered = np.sort(graph, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        said.append("a neighbour twice")
    if count and not (len(entries) and ((entries >= 0) & (entries < count)).all()):
        return [*said, "an entry that is no row"]
    reached = np.zeros(count, np.bool_)
    front = np.unique(entries)
    while len(front):
        reached[front] = True
        found = np.unique(graph[front])
        front = found[(found >= 0) & ~reached[found]]
    if not reached.all():
        said.append(f"{int((~reached).sum())} of {count} rows that no walk comes to")
    return said


def test_the_checker_finds_what_it_is_for() -> None:
    whole, entries = np.array([[1, 2], [0, -1], [1, -1]]), np.array([0])
    assert wrong(whole, entries) == []
    for at, value, said in (
        ((0, 1), 3, "no row"),
        ((0, 0), -1, "behind the end"),
        ((1, 0), 1, "its own"),
        ((0, 1), 1, "twice"),
        ((0, 1), -1, "no walk"),
    ):
        broken = whole.copy()
        broken[at] = value
        assert any(said in one for one in wrong(broken, entries)), said
    assert wrong(whole, np.array([3])) == ["an entry that is no row"]


def graphs(collection: Collection) -> list[tuple[Rows, Rows, Segment]]:
    """Of each native segment its graph, entries, and itself."""
    found = []
    for part in collection.view().parts[:-1]:
        assert isinstance(part.body, Segment)
        files = part.body.record.vectors[""].files
        if "graph.npy" in files:
            both = (np.load(collection.artifacts.path(files[name])) for name in ("graph.npy", "entries.npy"))
            found.append((*both, part.body))
    return found  # type: ignore[return-value]


def clustered(ids: range, seed: int) -> list[Point]:
    """Points around a few centres, every tenth equal to another: near neighbours, and equal ones."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(12, DIM))[random.integers(0, 12, len(ids))]
    vectors = (vectors + 0.2 * random.normal(size=vectors.shape)).astype(np.float32)
    vectors[::10] = vectors[0]
    return [Point(id=one, vectors={"": vectors[row]}) for row, one in enumerate(ids)]


def held(collection: Collection) -> dict[int, Vectors]:
    view = collection.view()
    page, _ = view.scroll(None, None, 100_000)
    return {part.point(row).id: part.vectors(row)[""] for part, row in page}  # type: ignore[misc]


def test_a_graph_stays_whole_under_writers_and_merges(engine: LocalEngine, indexers: Indexers) -> None:
    """pgvector #988, #993, #1010: inserts beside a vacuum left a dangling entry point and duplicate neighbours.

    Safeguards: a published graph is never written to, the next one is built beside it; `NativeBuilder.extend` gives
    the entry's place to a row that leads where it led, and the kernel's `adopt` mends links to rows that are gone.
    """
    installed("native")
    engine.change_index("c", IndexSettings(kind="native", params={"degree": 16}))
    engine.upsert("c", clustered(range(1_500), 1)).result()
    collection = engine.collection("c")
    fold(collection, engine, indexers, threads=2)
    stop, failed = threading.Event(), []

    def writer(number: int) -> None:
        random, turn = np.random.default_rng(number), 0
        while not stop.is_set():
            turn += 1
            first = int(random.integers(0, 1_500))
            try:
                engine.upsert("c", clustered(range(first, first + 20), 100 * number + turn)).result()
                engine.remove("c", random.integers(0, 1_500, 10).tolist()).result()
            except Exception as error:
                failed.append(error)
                return

    writers = [threading.Thread(target=writer, args=(number,)) for number in (1, 2, 3)]
    for one in writers:
        one.start()
    try:
        for _ in range(6):
            for _, entries, segment in graphs(collection):
                engine.remove("c", [segment_id(segment, int(row)) for row in entries]).result()
            fold(collection, engine, indexers, threads=2)
            seen = graphs(collection)
            assert seen
            for graph, entries, _ in seen:
                assert wrong(graph, entries) == []
    finally:
        stop.set()
        for one in writers:
            one.join(30)
    assert failed == []
    fold(collection, engine, indexers, threads=2)
    ((graph, entries, segment),) = graphs(collection)
    assert wrong(graph, entries) == []
    assert len(graph) == len(held(collection)) == segment.record.rows


def test_what_no_link_leads_to_gets_an_entry() -> None:
    """pgvector #988: rows that only deleted ones led to. Safeguard: `indexers.native.reach.entries_of`."""
    parts = np.array([[1, -1], [0, -1], [3, -1], [2, 0], [4, -1], [4, 5]], np.int32)[:, :2]
    parts[4] = -1
    entries = entries_of(parts, 1)
    assert entries.tolist() == [1, 2, 4, 5]
    parts[5] = [4, -1]
    assert wrong(parts, np.array([1], np.int32)) == ["4 of 6 rows that no walk comes to"]
    assert wrong(parts, entries_of(parts, 1)) == []


def test_a_merge_comes_to_every_row_whatever_it_takes_away(tmp_path: Path) -> None:
    """pgvector #988, #1010, without a race: the rows that lead to those that few lead to are taken away, three times.

    Safeguard: as above, where a merge ends (`builder._save_graph`). With this seed the kernel alone
    (`GraphBuilder::connect`) leaves rows that no walk comes to.
    """
    installed("native")
    seed, builder = 18, INDEXERS.builder("native")
    spec = builder.spec(Metric.EUCLID, DIM, {"degree": 8})
    assert isinstance(builder, Extender)
    vectors = np.stack([point.vectors[""] for point in clustered(range(1_500), seed)])
    folder = tmp_path / "built"
    folder.mkdir()
    builder.build(vectors, spec, folder, threads=2, progress=no_progress)
    for turn in range(3):
        files = {path.name: path for path in folder.iterdir()}
        graph, entries = np.load(files["graph.npy"]), np.load(files["entries.npy"])
        lonely = np.argsort(np.bincount(graph[graph >= 0], minlength=1_500), kind="stable")[:40]
        gone = np.union1d(np.setdiff1d(np.flatnonzero(np.isin(graph, lonely).any(axis=1)), lonely), entries)
        kept = np.setdiff1d(np.arange(1_500), gone)
        new = [point.vectors[""] for point in clustered(range(len(gone)), 10 * seed + turn + 50)]
        vectors = np.concatenate((vectors[kept], np.stack(new)))
        folder = tmp_path / str(turn)
        folder.mkdir()
        builder.extend(files, spec, kept, vectors, folder, threads=2, progress=no_progress)
        assert wrong(np.load(folder / "graph.npy"), np.load(folder / "entries.npy")) == []


def segment_id(segment: Segment, row: int) -> int:
    return int.from_bytes(segment.key(row)[1:], "big") - (1 << 63)


@pytest.mark.parametrize("kind", GRAPHS)
def test_deleted_rows_are_never_returned_and_never_missed(kind: str, engine: LocalEngine, indexers: Indexers) -> None:
    """hnswlib #321, #344, chroma #2621: marking rows as deleted gave too few results, or "cannot return contiguous
    array"; with replace_deleted, deleted ids came back.

    Safeguards: every index searches under the mask of rows that count, and what a graph does not find is scanned.
    """
    engine.change_index("c", IndexSettings(kind=installed(kind)))
    engine.upsert("c", clustered(range(800), 1)).result()
    fold(engine.collection("c"), engine, indexers, threads=2)
    vectors = held(engine.collection("c"))
    queries = np.stack([vectors[one] for one in range(30)])
    nearest = {one for found in found_ids(engine, queries, 20) for one in found}
    gone = nearest | set(range(0, 800, 3)) | set(range(700))
    engine.remove("c", sorted(gone)).result()
    left = vectors.keys() - gone
    for found in found_ids(engine, queries, 20):
        assert len(found) == 20
        assert set(found) <= left
    back = clustered(range(40), 2)
    engine.upsert("c", back).result()
    now = {one: vector for one, vector in vectors.items() if one in left} | {one.id: one.vectors[""] for one in back}
    for found, query in zip(found_ids(engine, queries, 200), queries, strict=True):
        assert len(found) == len(set(found)) == len(now)
        distances = [float(np.linalg.norm(query - now[one])) for one in found]  # type: ignore[index]
        np.testing.assert_allclose(distances, sorted(distances), rtol=1e-5, atol=1e-5)


def found_ids(engine: LocalEngine, queries: Vectors, k: int) -> list[list[int]]:
    view = engine.collection("c").view()
    answers = search(view, queries, using="", k=k, effort=16)
    return [
        [int(view.parts[part].point(int(row)).id) for part, row in zip(found.parts, found.rows, strict=True)]
        for found in answers
    ]


HUGE = [
    ("native", {"degree": 1 << 40}),
    ("native", {"width": 1 << 40}),
    ("faiss_hnsw", {"m": 1 << 40}),
    ("faiss_hnsw", {"ef_construction": 1 << 40}),
    ("faiss_ivf", {"nlist": 1 << 40}),
    ("hnswlib", {"m": 1 << 40}),
    ("hnswlib", {"ef_construction": 1 << 40}),
]


@pytest.mark.parametrize(("kind", "params"), HUGE)
def test_a_huge_parameter_is_refused(kind: str, params: dict[str, int | float | str], engine: LocalEngine) -> None:
    """hnswlib #467 (CVE-2023-37365): a huge M freed memory twice. dragonfly #7129: memory used after it was freed.

    Safeguard: `indexers.params.checked`, before any library sees a parameter. (Of memory: `test_collect`'s views that
    outlive their files, and each backend's `test_a_search_under_way_survives_a_close`.)
    """
    (name,) = params
    with pytest.raises(VssError, match=f"{name}|{1 << 40}") as caught:
        INDEXERS.builder(installed(kind)).spec(Metric.EUCLID, DIM, params)
    assert caught.value.code is Code.INVALID


REFUSED: dict[str, Callable[[Vectors], Vectors]] = {
    "NaN": lambda row: np.where(np.arange(DIM) == 3, np.float32(np.nan), row),
    "Inf": lambda row: np.where(np.arange(DIM) == 3, np.float32(np.inf), row),
    "1e30": lambda row: np.where(np.arange(DIM) == 3, np.float32(1e30), row),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("metric", list(Metric))
def test_no_number_that_is_none_comes_to_an_index(what: str, metric: Metric) -> None:
    """faiss #5025, #5219: one NaN, and a search hung for ever; a build went on, and its graph was broken.

    Safeguard: `vss.vectors.faults`, in the one gate that rows and queries of every entry pass (see tests/api and
    tests/jobs for the entries).
    """
    rows = np.stack([point.vectors[""] for point in clustered(range(20), 3)])
    rows[7] = REFUSED[what](rows[7])
    for bad in (rows, rows[7], rows.tolist(), rows.astype(np.float64)):
        with pytest.raises(VssError, match="at position 3") as caught:
            as_vectors(bad, DIM, metric)
        assert caught.value.code is Code.INVALID


@pytest.mark.parametrize("kind", [kind for kind in GRAPHS if kind != "faiss_ivf"])
def test_threads_that_build_lose_no_row(kind: str, engine: LocalEngine, indexers: Indexers) -> None:
    """faiss #5129: threads that added at one time raced, and rows were lost.

    Safeguard: one thread hands rows to a library; the kernel's threads never see each other's batch. Of its graph the
    links alone have to lead to every row: more entries would hide the rows that a thread has lost.
    """
    engine.change_index("c", IndexSettings(kind=installed(kind)))
    random = np.random.default_rng(4)
    rows = random.normal(size=(2_000, DIM)).astype(np.float32)
    engine.upsert("c", [Point(id=one, vectors={"": row}) for one, row in enumerate(rows)]).result()
    fold(engine.collection("c"), engine, indexers, threads=2)
    for graph, entries, _ in graphs(engine.collection("c")):
        assert wrong(graph, entries[:1]) == []
    view = engine.collection("c").view()
    answers = search(view, rows, using="", k=1, effort=256)
    found = [int(view.parts[int(one.parts[0])].point(int(one.rows[0])).id) for one in answers]
    assert np.mean(np.asarray(found) == np.arange(2_000)) >= 0.999
