"""Bulk imports: the right neighbours, a reason for every refused row, and nothing published when anything fails."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.hashing import HashingEmbedder
from indexers.faiss_hnsw import FaissHnswBuilder
from indexers.registry import INDEXERS
from tests.jobs.conftest import Run, Write
from vss import canary
from vss.distance import exact_search
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.jobs import chunks
from vss.jobs.dead_letters import Letter
from vss.jobs.embedding_cache import EmbeddingCache
from vss.jobs.gate import Fields
from vss.jobs.importer import Tools
from vss.jobs.progress import Lines, Silent
from vss.points import Point
from vss.protocols import Growing, IndexSpec
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search.retrieve import search
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode
from vss.storage.manifest import Manifest
from vss.storage.npy import map_npy
from vss.storage.view import View
from vss.types import Metric, Role, Vectors
from vss.vectors import normalised

DIM = 16
SEED = 5


def clustered(count: int, dim: int = DIM) -> Vectors:
    """`(count, dim)` float32 around 20 centres."""
    rng = np.random.default_rng(SEED)
    centres = rng.normal(size=(20, dim))
    return np.asarray(centres[rng.integers(0, 20, count)] + 0.3 * rng.normal(size=(count, dim)), np.float32)


def rows_of(vectors: Vectors) -> list[dict[str, Any]]:
    return [{"id": row, "vector": vector.tolist(), "n": row} for row, vector in enumerate(vectors)]


@contextmanager
def reading(data: DataDir, collection: str = "c") -> Iterator[View]:
    engine = LocalEngine(data, INDEXERS, writable=False)
    try:
        yield engine.collection(collection).view()
    finally:
        engine.close()


def names(data: DataDir) -> list[str]:
    engine = LocalEngine(data, INDEXERS, writable=False)
    try:
        return [entry.name for entry in engine.entries()]
    finally:
        engine.close()


def letters(path: Path | None) -> list[Letter]:
    assert path is not None
    return [Letter(**json.loads(line)) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["flat", "faiss_hnsw"])
@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT, Metric.EUCLID])
def test_an_import_finds_the_true_neighbours(
    data: DataDir, write: Write, run: Run, monkeypatch: pytest.MonkeyPatch, metric: Metric, kind: str
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 300)
    vectors = clustered(1_000)
    done = run(write(rows_of(vectors)), metric=metric, index=IndexSettings(kind=kind))
    assert (done.rows, done.rejected, done.dead_letters) == (1_000, 0, None)
    stored = normalised(vectors) if metric is Metric.COSINE else vectors
    truth = exact_search(stored[:50], stored, 10, metric)
    with reading(data) as view:
        assert view.manifest is not None
        assert view.manifest.segments[0].vectors[""].index.kind == kind
        found = search(view, stored[:50], using="", k=10, exact=False)
        for query, hits in enumerate(found):
            ids = {view.parts[part].point(row).id for part, row in zip(hits.parts, hits.rows, strict=True)}
            assert len(ids & set(truth.rows[query].tolist())) >= 9, (SEED, query)
        (point,) = view.retrieve([7])
        assert point.payload == b'{"n":7}'
        np.testing.assert_array_equal(point.vectors[""], stored[7])


def test_parquet_gives_what_json_lines_gives(data: DataDir, write: Write, run: Run, tmp_path: Path) -> None:
    vectors = clustered(300)
    table = pa.table(
        {"id": range(300), "vector": pa.array(list(vectors), pa.list_(pa.float32(), DIM)), "n": range(300)}
    )
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=100)
    run(write(rows_of(vectors)), collection="lines")
    run(tmp_path / "rows.parquet", collection="parquet")
    with reading(data, "lines") as one, reading(data, "parquet") as other:
        for first, second in zip(one.retrieve(range(300)), other.retrieve(range(300)), strict=True):
            assert (first.id, first.payload) == (second.id, second.payload)
            np.testing.assert_array_equal(first.vectors[""], second.vectors[""])


GOOD = [{"id": "good", "vector": [1.0, 2.0]}, {"id": 2, "vector": [2.0, 1.0]}]


@pytest.mark.parametrize(
    ("row", "reason", "point_id"),
    [
        ('{"id": 1', "not JSON", None),
        ("[1]", "wanted a JSON object", None),
        ({"vector": [1, 2]}, "id: got no id", None),
        ({"id": None, "vector": [1, 2]}, "id: got no id", None),
        ({"id": "", "vector": [1, 2]}, "got an empty id", None),
        ({"id": 1.5, "vector": [1, 2]}, "id of type float", None),
        ({"id": True, "vector": [1, 2]}, "id of type bool", None),
        ({"id": 1 << 64, "vector": [1, 2]}, "64 bits", None),
        ({"id": "x" * 513, "vector": [1, 2]}, "id of 513 bytes", None),
        ({"id": 1}, "got no vector, wanted 2 numbers", 1),
        ({"id": 1, "vector": [1, 2, 3]}, "got a vector of 3 numbers, wanted 2", 1),
        ({"id": 1, "vector": []}, "got a vector of 0 numbers, wanted 2", 1),
        ({"id": 1, "vector": [1, "2"]}, "not a list of numbers", 1),
        ({"id": 1, "vector": [1, True]}, "not a list of numbers", 1),
        ({"id": 1, "vector": [1, None]}, "not a list of numbers", 1),
        ({"id": 1, "vector": [[1, 2]]}, "not a list of numbers", 1),
        ({"id": 1, "vector": "1,2"}, "not a list of numbers", 1),
        ('{"id": 1, "vector": [1, NaN]}', "NaN and Infinity are not JSON", None),
        ({"id": 1, "vector": [1, 1e30]}, "got 1e+30 at position 1", 1),
        ({"id": 1, "vector": [1, 1e300]}, "got inf at position 1", 1),
        ({"id": 1, "vector": [0, 0]}, "zero vector", 1),
        ({"id": 1, "vector": [1, 2], "text": "x" * (1 << 20)}, "wanted at most 1048576", 1),
    ],
)
def test_a_bad_row_is_written_down_with_line_and_reason(
    data: DataDir, write: Write, run: Run, row: Any, reason: str, point_id: Any
) -> None:
    done = run(write([GOOD[0], row, GOOD[1]]))
    assert (done.rows, done.rejected) == (2, 1)
    (letter,) = letters(done.dead_letters)
    assert letter.line == 2
    assert reason in letter.reason
    assert letter.id == point_id
    raw = row if isinstance(row, str) else json.dumps(row)
    assert letter.row[:100] == raw[:100]
    assert len(letter.row) <= 2_010
    assert done.dead_letters is not None
    assert done.dead_letters.parent == data.path / "dead-letters"
    with reading(data) as view:
        assert {point.id for point in view.retrieve(["good", 2, 1])} == {"good", 2}


def test_not_a_number_in_parquet_is_refused(write: Write, run: Run, tmp_path: Path) -> None:
    vectors = [[1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0], None, [3.0, 4.0]]
    pq.write_table(pa.table({"id": range(5), "vector": vectors}), tmp_path / "rows.parquet")
    done = run(tmp_path / "rows.parquet")
    assert done.rows == 2
    assert [(one.line, one.id) for one in letters(done.dead_letters)] == [(2, 1), (3, 2), (4, 3)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": 1}, "text: got no text"),
        ({"id": 1, "text": 5}, "got int, wanted a text"),
        ({"id": 1, "text": " \n"}, "got an empty text"),
    ],
)
def test_a_bad_text_is_written_down(write: Write, run: Run, row: Any, reason: str) -> None:
    done = run(write([{"id": 0, "text": "fine"}, row]), text="text", model="hashing")
    (letter,) = letters(done.dead_letters)
    assert (letter.line, letter.id) == (2, 1)
    assert reason in letter.reason


def test_the_dimension_is_that_of_most_rows(data: DataDir, write: Write, run: Run) -> None:
    done = run(write([{"id": "odd", "vector": [1, 2, 3]}, {"id": "none"}, *GOOD]))
    assert [letter.id for letter in letters(done.dead_letters)] == ["odd", "none"]


def test_of_rows_with_one_id_the_last_wins_and_text_keeps_its_order(data: DataDir, write: Write, run: Run) -> None:
    texts = ["a long text about compressing folders into archives", "short", "a text of some words"]
    rows = [{"id": n, "text": text} for n, text in enumerate(texts)] + [{"id": 0, "text": "the last one"}]
    run(write(rows), text="text", model="hashing")
    embedder = HashingEmbedder()
    with reading(data) as view:
        assert view.points == 3
        for point_id, text in enumerate(["the last one", *texts[1:]]):
            (point,) = view.retrieve([point_id])
            assert json.loads(point.payload) == {"text": text}
            np.testing.assert_allclose(point.vectors[""], embedder.embed([text], Role.DOCUMENT)[0], atol=1e-6)


def test_the_manifest_says_what_the_generation_is(data: DataDir, write: Write, run: Run) -> None:
    rows = [{"id": n, "text": f"text number {n} about {n % 7}"} for n in range(200)]
    done = run(write(rows), text="text", model="hashing-64", index=IndexSettings(kind="faiss_hnsw", params={"m": 8}))
    embedder = HashingEmbedder(64)
    with reading(data) as view:
        manifest = view.manifest
        assert manifest == done.manifest
        assert (manifest.generation, manifest.parent) == (1, 0)
        vector = manifest.schema.vectors[""]
        assert (vector.model, vector.dim, vector.text_field) == ("hashing-64", 64, "text")
        assert vector.fingerprint == embedder.info.fingerprint == manifest.models[""].fingerprint
        record = manifest.segments[0].vectors[""]
        assert record.index == IndexSpec(kind="faiss_hnsw", metric=Metric.COSINE, dim=64, params=record.index.params)
        assert record.index.params["m"] == 8
        assert record.calibration
        assert done.recall[""] == max(point.recall for point in record.calibration)
        folder = data.collection(manifest.collection)
        stored = map_npy(folder / "artifacts" / manifest.models[""].canaries.sha256)
        np.testing.assert_array_equal(stored, canary.make(embedder))
    assert not list((folder / "staging").iterdir())


class Failing(Silent):
    """Fails when a phase begins."""

    def __init__(self, at: str) -> None:
        self._at = at

    def phase(self, name: str, total: int, unit: str) -> None:
        if name == self._at:
            raise RuntimeError(f"failed at {name}")


@pytest.mark.parametrize("at", ["index", "calibrate, store", "publish"])
@pytest.mark.parametrize("existing", [False, True])
def test_nothing_is_published_when_a_step_fails(
    data: DataDir, write: Write, run: Run, tools: Tools, at: str, existing: bool
) -> None:
    if existing:
        run(write(GOOD))
    tools.reporter = Failing(at)
    with pytest.raises(RuntimeError, match=f"failed at {at}"):
        run(write([{"id": "new", "vector": [5, 6]}]))
    assert names(data) == (["c"] if existing else [])
    if not existing:
        assert not list((data.path / "collections").iterdir())
        return
    with reading(data) as view:
        assert view.generation == 1
        assert view.points == 2
        assert not list((data.collection(view.manifest.collection) / "staging").iterdir())  # type: ignore[union-attr]


def test_a_failed_job_leaves_what_others_wrote_to_its_collection(
    data: DataDir, write: Write, run: Run, tools: Tools
) -> None:
    class Beaten(Failing):
        """Somebody writes to the new collection before the job fails."""

        def phase(self, name: str, total: int, unit: str) -> None:
            if name == self._at:
                engine = LocalEngine(data, tools.indexers, writable=True)
                engine.upsert("c", [Point(id=1, vectors={"": np.ones(2, np.float32)})]).result()
                engine.close()
            super().phase(name, total, unit)

    tools.reporter = Beaten("publish")
    with pytest.raises(RuntimeError, match="failed at publish"):
        run(write([{"id": "new", "vector": [5, 6]}]))
    with reading(data) as view:
        assert [point.id for point in view.retrieve(["new", 1])] == [1]


class LowEffort:
    """The graph index of a service that must not search longer than an effort of 4."""

    def __init__(self) -> None:
        self._builder = FaissHnswBuilder()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._builder, name)

    def builder(self, kind: str) -> Any:
        return self

    def choose(self, kind: str, metric: Metric, dim: int, rows: int, params: Any) -> IndexSpec:
        return self._builder.spec(metric, dim, {"m": 2, "ef_construction": 4})

    def growing(self, metric: Metric, dim: int) -> Growing:
        return INDEXERS.growing(metric, dim)

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        return (2, 4)


def test_a_recall_that_falls_short_is_not_published_and_told(
    data: DataDir, write: Write, run: Run, tools: Tools
) -> None:
    tools.indexers = LowEffort()
    file = write(rows_of(clustered(2_000, 32)))
    with pytest.raises(VssError) as error:
        run(file)
    assert re.search(
        r"faiss_hnsw reached 0\.\d+, wanted at least 0\.900; measured 0\.\d+ at effort 2,", str(error.value)
    )
    assert names(data) == []
    assert run(file, min_recall=0.0).recall[""] < 0.9


@pytest.mark.parametrize("rows", [[], ["", "  "], ["[1]", '{"id": 3}'], [{"id": 1, "vector": [0, 0]}]])
def test_a_file_without_one_good_row_publishes_nothing(data: DataDir, write: Write, run: Run, rows: list[Any]) -> None:
    with pytest.raises(VssError, match="nothing was published"):
        run(write(rows))
    assert names(data) == []


def test_another_model_than_the_collections_is_refused_with_both_fingerprints(
    data: DataDir, write: Write, run: Run
) -> None:
    file = write([{"id": 1, "text": "one"}])
    run(file, text="text", model="hashing-64")
    with pytest.raises(VssError) as error:
        run(file, text="text", model="hashing-128")
    assert error.value.code is Code.FINGERPRINT_MISMATCH
    for size in (64, 128):
        assert HashingEmbedder(size).info.fingerprint in str(error.value)
    done = run(write([{"id": 2, "text": "two"}]), text="text")
    assert done.manifest.generation == 2, "the collection's own model is found without naming it"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fields": Fields()}, "--text-field or --vector-field"),
        ({"fields": Fields(text="a", vector="b")}, "wanted one of them"),
        ({"fields": Fields(vector="b"), "model": "hashing"}, "a model for ready vectors"),
        ({"fields": Fields(text="a")}, "no model"),
        ({"fields": Fields(text="a"), "collection": "../c", "model": "hashing"}, "collection name"),
    ],
)
def test_requests_that_contradict_themselves(
    data: DataDir, run: Run, write: Write, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(VssError, match=said):
        run(write(GOOD), **options)
    assert names(data) == []


class Meanwhile(Silent):
    """Calls back once, when a phase begins."""

    def __init__(self, call: Any, at: str) -> None:
        self._call = call
        self._at = at

    def phase(self, name: str, total: int, unit: str) -> None:
        if name == self._at:
            self._call()


class ThroughEngine:
    """Commits through the engine that holds the writer lock, as a server does."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    def create(self, name: str, schema: Schema) -> None:
        self._engine.create(name, schema)

    def delete(self, name: str) -> None:
        self._engine.delete(name)

    def publish(self, manifest: Manifest) -> None:
        self._engine.publish(manifest)


@pytest.mark.parametrize("mode", list(Mode))
def test_writes_acknowledged_while_it_runs_win(data: DataDir, write: Write, run: Run, tools: Tools, mode: Mode) -> None:
    engine = LocalEngine(data, INDEXERS, writable=True)
    try:
        engine.create("c", Schema(vectors={"": VectorSchema(dim=2, metric=Metric.EUCLID)}))

        def put(point_id: str, payload: bytes) -> None:
            vector = np.asarray([1, 1], np.float32)
            engine.upsert("c", [Point(id=point_id, vectors={"": vector}, payload=payload)]).result()

        for name in ("before", "both", "gone"):
            put(name, b'{"by":"old"}')

        def write_meanwhile() -> None:
            put("during", b'{"by":"writer"}')
            put("new", b'{"by":"writer"}')
            engine.remove("c", ["gone", "imported and gone"]).result()

        tools.reporter = Meanwhile(write_meanwhile, "index")
        rows = ("both", "during", "gone", "imported and gone", "imported")
        run(
            write([{"id": name, "vector": [2, 2], "by": "import"} for name in rows]),
            mode=mode,
            writer=ThroughEngine(engine),
        )
        found = {
            point.id: json.loads(point.payload)["by"]
            for point in engine.collection("c").view().retrieve(["before", "new", *rows])
        }
        wanted = {"both": "import", "during": "writer", "imported": "import", "new": "writer"}
        assert found == (wanted if mode is Mode.REPLACE else wanted | {"before": "old"})
    finally:
        engine.close()


class Counting(HashingEmbedder):
    """Counts the texts that it embeds."""

    def __init__(self) -> None:
        super().__init__(64)
        self.texts = 0

    def embed(self, texts: Any, role: Any) -> Vectors:
        self.texts += len(texts)
        return super().embed(texts, role)


def test_a_second_run_reuses_the_embeddings_bit_for_bit(
    data: DataDir, write: Write, run: Run, tools: Tools, tmp_path: Path
) -> None:
    rows = [{"id": n, "text": f"text {n}"} for n in range(50)]
    embedder = Counting()
    tools.embedders = lambda name: embedder
    stored = []
    for extra, hits in ((0, 0), (1, 50)):
        with EmbeddingCache(tmp_path / "cache.db") as cache:
            tools.cache = cache
            more = [{"id": 50 + n, "text": f"more {n}"} for n in range(extra)]
            done = run(write(rows + more), text="text", model="counting", collection=f"c{extra}")
            assert done.cached == hits
        with reading(data, f"c{extra}") as view:
            stored.append(np.stack([point.vectors[""] for point in view.retrieve(range(50))]))
    assert embedder.texts == 50 + 1 + 2 * len(canary.TEXTS)
    np.testing.assert_array_equal(stored[0], stored[1])


def test_lines_of_progress_tell_rate_and_remaining_time() -> None:
    said: list[str] = []
    now = [0.0]
    lines = Lines(said.append, every=5, clock=lambda: now[0])
    lines.phase("read", 1_000, "rows")
    for second in (2.0, 10.0, 11.0, 20.0):
        now[0] = second
        lines.update(int(second * 20), int(second * 50))
    lines.phase("index", 10, "vectors")
    lines.close()
    assert said == [
        "read: 20%, 500 rows, 50 rows/s, 40 s left",
        "read: 40%, 1,000 rows, 50 rows/s, 30 s left",
        "read: 1,000 rows in 20.0 s",
        "index: in 0.0 s",
    ]


PEAK = """
import re, sys
from pathlib import Path
from indexers.faiss_hnsw import FaissHnswBuilder
from indexers.registry import INDEXERS
from vss.jobs.gate import Fields
from vss.jobs.importer import Tools, run_import
from vss.jobs.living import LivingCollection
from vss.jobs.progress import Silent
from vss.jobs.remote import LocalWriter
from vss.jobs.request import Import
from vss.schema import IndexSettings
from vss.storage.datadir import DataDir
data = DataDir(Path(sys.argv[1]))
tools = Tools(indexers=INDEXERS, embedders=None, reporter=Silent(), threads=1, dead_letters=data.path)
job = Import(uri=sys.argv[2], fields=Fields(vector="vector"), index=IndexSettings(kind="flat"))
with LivingCollection(data, "c", indexers=INDEXERS, writer=LocalWriter(data)) as destination:
    run_import(job, destination, tools)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks, sizes = [], []
    for count in (2_000, 40_000):
        file = tmp_path / f"{count}.jsonl"
        with open(file, "w") as out:
            for n in range(count):
                out.write(json.dumps({"id": n, "vector": [1.0, n, 3.0], "text": f"{n} " * 400}) + "\n")
        arguments = [sys.executable, "-c", PEAK, str(tmp_path / f"data-{count}"), str(file)]
        peaks.append(int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout) * 1024)
        sizes.append(file.stat().st_size)
    grown, more = peaks[1] - peaks[0], sizes[1] - sizes[0]
    assert more > 70e6
    assert grown < 0.35 * more, f"{grown / 1e6:.0f} MB more memory for {more / 1e6:.0f} MB more rows"


def test_another_metric_than_the_collections_is_refused(write: Write, run: Run) -> None:
    file = write(rows_of(clustered(20)))
    run(file, metric=Metric.DOT)
    run(file)
    run(file, metric=Metric.DOT)
    with pytest.raises(VssError, match="got the metric Euclid, collection 'c' has Dot"):
        run(file, metric=Metric.EUCLID)
