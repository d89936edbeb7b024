"""Bundles: built anywhere, published here; what REST would refuse is refused, and nothing is half adopted."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from msgspec.structs import replace

from embedders.registry import open_embedder
from indexers.registry import INDEXERS
from tests.jobs.conftest import Run, Write
from tests.jobs.test_importer import (
    Failing,
    Meanwhile,
    ThroughEngine,
    clustered,
    letters,
    names,
    reading,
    rows_of,
)
from vss import canary
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.filters import Filter, Match
from vss.jobs.bundles.build import Bundle
from vss.jobs.bundles.folder import BundleFolder
from vss.jobs.bundles.manifest import BundleManifest
from vss.jobs.bundles.publish import Adopted, Publication, run_publish
from vss.jobs.gate import Fields
from vss.jobs.importer import Imported, Tools, run_import
from vss.jobs.progress import Silent
from vss.jobs.remote import LocalWriter
from vss.jobs.request import Import
from vss.points import Point, id_key
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search.retrieve import search
from vss.storage.artifacts import Artifact
from vss.storage.datadir import DataDir
from vss.storage.imports import Mode
from vss.storage.manifest import SegmentRecord
from vss.storage.view import View
from vss.types import Metric, Vectors

DIM = 16
VECTORS = clustered(400, DIM)
ROWS = [{**row, "tag": f"t{row['n'] % 5}"} for row in rows_of(VECTORS)]

Make = Callable[..., Imported[BundleManifest]]
Publish = Callable[..., Adopted]


@pytest.fixture
def make(tools: Tools) -> Make:
    """Build a bundle of a file: of texts with `text=`, else of vectors in the field `vector`."""

    def make_it(uri: object, out: object, *, text: str | None = None, **options: Any) -> Imported[BundleManifest]:
        fields = Fields(text=text, vector=None if text else "vector")
        with Bundle(str(out), "c") as destination:
            return run_import(Import(uri=str(uri), fields=fields, **options), destination, tools)

    return make_it


@pytest.fixture
def publish(data: DataDir) -> Publish:
    """Publish a bundle."""

    def publish_it(uri: object, *, writer: Any = None, reporter: Any = None, **options: Any) -> Adopted:
        job = Publication(uri=str(uri), **options)
        return run_publish(data, job, INDEXERS, writer or LocalWriter(data), reporter or Silent())

    return publish_it


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 400 vectors under Cosine with a graph; never written to."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tools = Tools(indexers=INDEXERS, embedders=open_embedder, reporter=Silent(), threads=1, dead_letters=folder)
    job = Import(uri=str(folder / "rows.jsonl"), fields=Fields(vector="vector"), index=IndexSettings(kind="faiss_hnsw"))
    with Bundle(str(folder / "bundle"), "c") as destination:
        run_import(job, destination, tools)
    return folder / "bundle"


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(built, tmp_path / "bundle")


def found(view: View, queries: Vectors, where: Filter | None = None) -> list[list[tuple[Any, float]]]:
    answers = search(view, queries, using="", k=10, where=where, effort=64)
    return [
        [
            (view.parts[part].point(row).id, float(score))
            for part, row, score in zip(hits.parts, hits.rows, hits.scores, strict=True)
        ]
        for hits in answers
    ]


def nothing_is_left(data: DataDir) -> None:
    assert names(data) == []
    assert not list((data.path / "collections").iterdir())
    assert not list((data.path / "staging").glob("*"))


def what_follows(record: SegmentRecord) -> SegmentRecord:
    """A record without what differs from build to build."""
    vectors = {name: replace(one, calibration=()) for name, one in record.vectors.items()}
    return replace(record, id="", vectors=vectors, versions=record.payloads["bytes"])


@pytest.mark.parametrize(
    ("place", "metric"),
    [*(("folder", metric) for metric in Metric), ("memory://bundles/{name}", Metric.COSINE)],
)
def test_a_bundle_is_published_as_what_a_direct_import_makes(
    data: DataDir, write: Write, run: Run, make: Make, publish: Publish, tmp_path: Path, place: str, metric: Metric
) -> None:
    file = write([*ROWS, {**ROWS[3], "id": 7, "tag": "again"}, {"id": "", "vector": [1.0] * DIM}])
    uri = place.format(name=tmp_path.name) if "://" in place else tmp_path / place
    index = IndexSettings(kind="flat" if metric is Metric.MANHATTAN else "faiss_hnsw")
    built = make(file, uri, metric=metric, index=index)
    assert (built.rows, built.rejected) == (401, 1)
    assert "empty id" in letters(built.dead_letters)[0].reason
    assert names(data) == []
    adopted = publish(uri)
    direct = run(file, collection="direct", metric=metric, index=index)
    assert (adopted.collection, adopted.points) == ("c", 400)
    assert adopted.manifest.schema == direct.manifest.schema
    assert what_follows(adopted.manifest.segments[0]) == what_follows(direct.manifest.segments[0])
    queries = clustered(450, DIM)[400:]
    with reading(data) as one, reading(data, "direct") as other:
        where = Filter(must=(Match("tag", ("t2",)),))
        assert found(one, queries) == found(other, queries)
        assert found(one, queries, where) == found(other, queries, where)
        assert one.retrieve([7])[0].payload == b'{"n":3,"tag":"again"}'
    assert not list((data.path / "staging").iterdir())


def test_a_bundle_of_texts_brings_its_model(
    data: DataDir, write: Write, run: Run, make: Make, publish: Publish, tmp_path: Path
) -> None:
    file = write([{"id": n, "text": f"text number {n}"} for n in range(50)])
    make(file, tmp_path / "b", text="text", model="hashing-64")
    publish(tmp_path / "b", collection="other")
    with reading(data, "other") as view:
        assert view.manifest is not None
        vector = view.manifest.schema.vectors[""]
        assert (vector.model, vector.text_field) == ("hashing-64", "text")
        assert view.manifest.models[""].fingerprint == vector.fingerprint
    assert run(file, text="text", collection="other").manifest.generation == 2


def test_what_the_collection_has_is_not_copied_again(bundle: Path, publish: Publish) -> None:
    size = sum(file.stat().st_size for file in (bundle / "artifacts").iterdir())
    assert publish(bundle).copied == size
    again = publish(bundle)
    assert (again.copied, again.manifest.generation, again.points) == (0, 2, 400)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("phase", ["fetch", "check points", "publish"])
def test_writes_acknowledged_while_it_runs_win(
    data: DataDir, write: Write, make: Make, publish: Publish, tmp_path: Path, mode: Mode, phase: str
) -> None:
    bundled = ("both", "during", "gone", "bundled and gone", "bundled")
    make(write([{"id": n, "vector": [2, 2], "by": "bundle"} for n in bundled]), tmp_path / "b", metric=Metric.EUCLID)
    engine = LocalEngine(data, INDEXERS, writable=True)
    try:
        engine.create("c", Schema(vectors={"": VectorSchema(dim=2, metric=Metric.EUCLID)}))

        def put(point_id: str, by: str) -> None:
            payload = json.dumps({"by": by}).encode()
            engine.upsert("c", [Point(id=point_id, vectors={"": np.ones(2, np.float32)}, payload=payload)]).result()

        for name in ("before", "both", "gone"):
            put(name, "old")

        def write_meanwhile() -> None:
            put("during", "writer")
            put("new", "writer")
            engine.remove("c", ["gone", "bundled and gone"]).result()

        publish(tmp_path / "b", writer=ThroughEngine(engine), reporter=Meanwhile(write_meanwhile, phase), mode=mode)
        points = engine.collection("c").view().retrieve(["before", "new", *bundled])
        wanted = {"both": "bundle", "during": "writer", "bundled": "bundle", "new": "writer"}
        old = {} if mode is Mode.REPLACE else {"before": "old"}
        assert {point.id: json.loads(point.payload)["by"] for point in points} == wanted | old
    finally:
        engine.close()


def test_a_write_to_the_collection_that_it_makes_wins(data: DataDir, bundle: Path, publish: Publish) -> None:
    engine = LocalEngine(data, INDEXERS, writable=True)
    try:

        def write_meanwhile() -> None:
            engine.upsert("c", [Point(id=3, payload=b'{"by":"writer"}')]).result()

        publish(bundle, writer=ThroughEngine(engine), reporter=Meanwhile(write_meanwhile, "publish"))
        view = engine.collection("c").view()
        assert view.retrieve([3])[0].payload == b'{"by":"writer"}'
        assert view.points == 400
    finally:
        engine.close()


# Forged bundles: every hash is right, what stands in the files is not.


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())


def put(folder: Path, raw: bytes) -> dict[str, Any]:
    """Add a file under its own hash."""
    sha256 = hashlib.sha256(raw).hexdigest()
    (folder / "artifacts" / sha256).write_bytes(raw)
    return {"sha256": sha256, "bytes": len(raw)}


def rewrite(folder: Path, *at: str, value: Any) -> None:
    """Say something else in the manifest."""
    manifest = manifest_of(folder)
    reduce(lambda one, name: one[name], at[:-1], manifest)[at[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def forge(folder: Path, *at: str, change: Callable[[Any], Any]) -> None:
    """Change the array of one file; bytes become the file as they are."""
    named = reduce(lambda one, name: one[name], at, manifest_of(folder))
    new = change(np.load(folder / "artifacts" / named["sha256"]))
    if not isinstance(new, bytes):
        raw = io.BytesIO()
        np.save(raw, new)
        new = raw.getvalue()
    rewrite(folder, *at, value=put(folder, new))


Spoil = Callable[[Path], None]
VECTORS_AT = ("vectors", "", "vectors")
INDEX_AT = ("vectors", "", "files", "index.faiss")


def says(*at: str, value: Any) -> Spoil:
    """The manifest says something else."""
    return lambda folder: rewrite(folder, *at, value=value)


def array(*at: str, change: Callable[[Any], Any]) -> Spoil:
    """A file holds something else, bytes as they are."""
    return lambda folder: forge(folder, *at, change=change)


def vectors(change: Callable[[Any], Any]) -> Spoil:
    """The file of the vectors holds something else."""
    return array(*VECTORS_AT, change=change)


def component(row: int, value: float, column: int | slice = 2) -> Spoil:
    """One vector has another component, or only such ones."""

    def change(values: Any) -> Any:
        values[row, column] = value
        return values

    return vectors(change)


def blob(what: str, row: int, raw: bytes) -> Spoil:
    """One row has another id or payload, offsets and all."""

    def spoil(folder: Path) -> None:
        members = manifest_of(folder)[what]
        offsets, data = (np.load(folder / "artifacts" / members[name]["sha256"]) for name in ("offsets", "bytes"))
        blobs = [bytes(data[start:stop]) for start, stop in pairwise(offsets)]
        blobs[row] = raw
        forge(folder, what, "offsets", change=lambda _: np.cumsum([0, *map(len, blobs)], dtype=np.int64))
        forge(folder, what, "bytes", change=lambda _: np.frombuffer(b"".join(blobs), np.uint8))

    return spoil


def places(rows: Any) -> Spoil:
    """The vectors belong to these rows."""

    def spoil(folder: Path) -> None:
        raw = io.BytesIO()
        np.save(raw, np.asarray(rows, np.int64))
        rewrite(folder, "vectors", "", "rows", value=put(folder, raw.getvalue()))

    return spoil


def index_file(raw: bytes) -> Spoil:
    """The index is something else."""
    return lambda folder: rewrite(folder, *INDEX_AT, value=put(folder, raw))


def objects(_: Any) -> bytes:
    """A file that would run a command if it were unpickled."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (400, 16), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"cos\nsystem\n(S'false'\ntR."


STRING, INTEGER = id_key("x")[:1], id_key(1)[:1]

REFUSED_AS_REST_DOES: dict[str, tuple[Spoil, str]] = {
    "NaN": (component(399, np.nan), r"vectors\[399\]: got nan at position 2"),
    "Inf": (component(0, -np.inf), r"vectors\[0\]: got -inf"),
    "1e30": (component(7, 1e30), r"vectors\[7\]: got 1e\+30 at position 2"),
    "zero": (component(8, 0, slice(None)), r"vectors\[8\]: got a zero vector"),
    "length": (vectors(lambda a: a * np.float32(1.01)), r"vectors\[0\]: got a vector of length 1.01"),
    "empty id": (blob("ids", 5, STRING), "row 5: got an empty id"),
    "no id": (blob("ids", 5, b""), "row 5: got an empty id"),
    "long id": (blob("ids", 5, id_key("x") * 513), "row 5: got an id of"),
    "id of bytes": (blob("ids", 5, STRING + b"\xff"), "row 5: got bytes that are no id"),
    "id of 72 bits": (blob("ids", 5, INTEGER + b"\xff" * 9), "row 5: got id .* 64 bits"),
    "short id": (blob("ids", 5, id_key(1)[:4]), "row 5: got"),
    "list": (blob("payloads", 9, b"[1]"), "payload of row 9, id 9: got a payload of type list"),
    "null": (blob("payloads", 9, b"null"), "row 9.*wanted a JSON object"),
    "no payload": (blob("payloads", 9, b""), "row 9.*wanted a JSON object"),
    "NaN in JSON": (blob("payloads", 9, b'{"a":NaN}'), "row 9.*not JSON"),
    "deep JSON": (blob("payloads", 9, b'{"a":' + b"[" * 100_000), "row 9.*not JSON"),
    "large payload": (blob("payloads", 9, b'{"a":"%s"}' % (b"x" * (1 << 20))), "row 9.*wanted at most 1048576"),
    "index kind": (says("vectors", "", "index", "kind", value="x"), "x"),
    "next index": (says("schema", "index", "kind", value="x"), "x"),
}

DOES_NOT_HOLD_TOGETHER: dict[str, tuple[Spoil, str]] = {
    "dim": (vectors(lambda a: a[:, :8]), r"float32 of shape \(400, 8\), wanted float32 of \(400, 16\)"),
    "rows": (vectors(lambda a: a[:-1]), r"float32 of shape \(399, 16\), wanted"),
    "float64": (vectors(lambda a: a.astype(float)), "has float64"),
    "big endian": (vectors(lambda a: a.astype(">f4")), "has >f4"),
    "by columns": (vectors(np.asfortranarray), "wanted float32"),
    "pickle": (vectors(objects), "not a .npy file of numbers"),
    "zip": (vectors(lambda a: b"PK\3\4 no"), "not a .npy file of numbers"),
    "short": (vectors(lambda a: b"\x93NUMPY"), "not a .npy file of numbers"),
    "same place": (places([5] * 400), "not rising numbers below 400"),
    "outside": (places(range(1, 401)), "not rising numbers below 400"),
    "fewer places": (places(range(399)), "wanted float32"),
    "id offsets": (array("ids", "offsets", change=lambda a: a + 1), "do not fit the data"),
    "id count": (array("ids", "offsets", change=lambda a: a[:-1]), r"wanted int64 of \(401,\)"),
    "payload offsets": (array("payloads", "offsets", change=lambda a: a[::-1]), "do not fit the data"),
    "no graph": (index_file(b"nothing"), "the index of vectors"),
    "no index file": (says("vectors", "", "files", value={}), "the index of vectors"),
    "no calibration": (says("vectors", "", "calibration", value=[]), "was not calibrated"),
    "index dim": (says("vectors", "", "index", "dim", value=8), "the index is for 8 numbers"),
    "index params": (says("vectors", "", "index", "params", value={}), "are not complete"),
    "no rows": (says("rows", value=0), "got 0 rows"),
    "model": (says("schema", "vectors", "", "model", value="x"), "not of the model x"),
    "vector names": (says("vectors", value={}), "not those of its schema"),
    "name": (says("collection", value="../x"), "got collection name"),
    "huge": (says("schema", "vectors", "", "dim", value=1 << 40), "wanted 1 to 65536"),
    "no JSON": (lambda folder: _write(folder / "manifest.json", b'{"format": 1'), "damaged"),
    "negative size": (says(*VECTORS_AT, "bytes", value=-1), "damaged"),
    **{
        f"file name {name[:12]!r}": (says(*VECTORS_AT, "sha256", value=name), "sha256")
        for name in ("../../secret", "/etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "")
    },
}

FORGED = [(*case, Code.INVALID) for case in REFUSED_AS_REST_DOES.values()]
FORGED += [(*case, Code.CORRUPT) for case in DOES_NOT_HOLD_TOGETHER.values()]
FORGED.append((says("format", value=2), "has format 2, this program reads up to 1", Code.UNSUPPORTED))


def _write(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("spoil", "said", "code"), FORGED, ids=[*REFUSED_AS_REST_DOES, *DOES_NOT_HOLD_TOGETHER, "newer format"]
)
def test_a_forged_bundle_is_refused_and_leaves_nothing(
    data: DataDir, bundle: Path, publish: Publish, spoil: Spoil, said: str, code: Code
) -> None:
    spoil(bundle)
    with pytest.raises(VssError, match=said) as refused:
        publish(bundle)
    assert refused.value.code is code
    nothing_is_left(data)


def test_an_index_of_other_vectors_is_refused(
    data: DataDir, write: Write, make: Make, publish: Publish, tmp_path: Path
) -> None:
    # Smaller graphs are scanned, which is exact whatever their links are.
    make(write(rows_of(clustered(3_000, 32))), tmp_path / "b", index=IndexSettings(kind="faiss_hnsw"))
    order = np.random.default_rng(3).permutation(3_000)
    forge(tmp_path / "b", *VECTORS_AT, change=lambda array: array[order])
    with pytest.raises(VssError, match=r"does not answer for its vectors: recall@10 0\.\d+ at effort 16, its builder"):
        publish(tmp_path / "b")
    nothing_is_left(data)


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped": (flip, "does not have the bytes that its name says"),
    "missing": (Path.unlink, "is missing"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, wanted"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "has more than"),
}


@pytest.mark.parametrize(
    ("name", "at"),
    [
        *((name, VECTORS_AT) for name in DAMAGE),
        *(("flipped", at) for at in (("ids", "bytes"), ("payloads", "offsets"), INDEX_AT)),
    ],
)
def test_a_damaged_file_is_named_before_anything_opens_it(
    data: DataDir, bundle: Path, publish: Publish, name: str, at: tuple[str, ...]
) -> None:
    damage, said = DAMAGE[name]
    artifact = reduce(lambda one, step: one[step], at, manifest_of(bundle))
    damage(bundle / "artifacts" / artifact["sha256"])
    with pytest.raises(VssError, match=said) as refused:
        publish(bundle)
    assert refused.value.code is Code.CORRUPT
    assert f"artifacts/{artifact['sha256']}" in refused.value.message
    nothing_is_left(data)


def test_what_has_no_manifest_is_no_bundle(data: DataDir, bundle: Path, publish: Publish, tmp_path: Path) -> None:
    (bundle / "manifest.json").unlink()
    for uri in (bundle, tmp_path / "nowhere", "memory://nowhere"):
        with pytest.raises(VssError, match="there is no bundle at") as refused:
            publish(uri)
        assert refused.value.code is Code.NOT_FOUND
    nothing_is_left(data)


@pytest.mark.parametrize(
    ("vectors", "code", "said"),
    [
        ({"": VectorSchema(dim=8)}, Code.INVALID, "16 numbers under Cosine, collection 'c' has 8 under Cosine"),
        ({"": VectorSchema(dim=16, metric=Metric.DOT)}, Code.INVALID, "has 16 under Dot"),
        ({"x": VectorSchema(dim=16)}, Code.INVALID, "got vector name '', wanted one of 'x'"),
        (
            {"": VectorSchema(dim=16, model="m", fingerprint="f00d")},
            Code.FINGERPRINT_MISMATCH,
            "made with no model , collection 'c' was made with m f00d",
        ),
    ],
)
def test_a_collection_that_does_not_fit_stays_as_it_is(
    data: DataDir, bundle: Path, publish: Publish, vectors: dict[str, VectorSchema], code: Code, said: str
) -> None:
    LocalWriter(data).create("c", Schema(vectors=vectors))
    with pytest.raises(VssError, match=said) as refused:
        publish(bundle)
    assert refused.value.code is code
    with reading(data) as view:
        assert (view.generation, view.points) == (0, 0)


def test_another_model_is_refused_with_both_fingerprints(
    data: DataDir, write: Write, run: Run, make: Make, publish: Publish, tmp_path: Path
) -> None:
    file = write([{"id": 1, "text": "one"}])
    prints = [
        make(file, tmp_path / model, text="text", model=model).manifest.models[""].fingerprint
        for model in ("hashing-64", "hashing-32")
    ]
    publish(tmp_path / "hashing-64")
    forge(tmp_path / "hashing-64", "models", "", "canaries", change=lambda array: -array)
    with pytest.raises(VssError, match=r"makes canary \d+ with cosine -1.0000") as refused:
        publish(tmp_path / "hashing-64")
    assert refused.value.code is Code.FINGERPRINT_MISMATCH
    for part in ("schema", "models"):
        at = ("schema", "vectors", "") if part == "schema" else ("models", "")
        rewrite(tmp_path / "hashing-64", *at, "fingerprint", value=prints[1])
    with pytest.raises(VssError) as refused:
        publish(tmp_path / "hashing-64")
    assert refused.value.code is Code.FINGERPRINT_MISMATCH
    assert all(one in str(refused.value) for one in prints)
    with reading(data) as view:
        assert view.generation == 1


@pytest.mark.parametrize("change", [lambda a: a * np.nan, lambda a: a[:, 1:], lambda a: a[: len(canary.TEXTS) - 1]])
def test_canaries_that_are_none(
    data: DataDir, write: Write, make: Make, publish: Publish, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    make(write([{"id": 1, "text": "one"}]), tmp_path / "b", text="text", model="hashing-64")
    forge(tmp_path / "b", "models", "", "canaries", change=change)
    with pytest.raises(VssError, match="canaries"):
        publish(tmp_path / "b")
    nothing_is_left(data)


@pytest.mark.parametrize("phase", ["fetch", "check points", "check vectors", "check recall", "publish"])
@pytest.mark.parametrize("existing", [False, True])
def test_nothing_is_left_when_a_step_fails(
    data: DataDir, bundle: Path, publish: Publish, phase: str, existing: bool
) -> None:
    if existing:
        publish(bundle)
    with pytest.raises(RuntimeError, match=f"failed at {phase}"):
        publish(bundle, reporter=Failing(phase))
    if not existing:
        nothing_is_left(data)
        return
    with reading(data) as view:
        assert (view.generation, view.points) == (1, 400)
    assert not list((data.path / "staging").iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from embedders.registry import open_embedder
from indexers.registry import INDEXERS
from vss.jobs.bundles.publish import Publication, run_publish
from vss.jobs.progress import Silent
from vss.jobs.remote import LocalWriter
from vss.storage.datadir import DataDir

class Killed(Silent):
    def phase(self, name, total, unit):
        if name == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)

data = DataDir(Path(sys.argv[1]))
run_publish(data, Publication(uri=sys.argv[2]), INDEXERS, LocalWriter(data), Killed())
"""


@pytest.mark.parametrize("phase", ["check points", "check recall"])
def test_a_killed_publication_is_not_seen_and_the_next_one_clears_up(
    data: DataDir, bundle: Path, publish: Publish, phase: str
) -> None:
    arguments = [sys.executable, "-c", KILLED, str(data.path), str(bundle), phase]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert names(data) == []
    assert list((data.path / "staging").iterdir())
    assert publish(bundle).points == 400
    assert not list((data.path / "staging").iterdir())


def test_a_bundle_is_built_only_in_an_empty_place(write: Write, make: Make, bundle: Path, tmp_path: Path) -> None:
    file = write(ROWS[:3])
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for uri in (bundle, tmp_path / "file", f"file://{bundle}"):
        with pytest.raises(VssError, match="is not an empty folder"):
            make(file, uri)
    before = manifest_of(bundle)
    make(file, tmp_path / "empty")
    assert manifest_of(bundle) == before


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_read(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VssError, match=r"cannot use .*/file/below") as refused:
        make(tmp_path / "no such file.jsonl", tmp_path / "file" / "below")
    assert refused.value.code is Code.STORAGE


def test_a_build_that_fails_while_copying_leaves_the_place_empty_and_no_manifest(
    write: Write, make: Make, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fsspec.filesystem("memory")
    put, seen = BundleFolder.put, list[bool]()

    def fails(folder: BundleFolder, artifact: Artifact, source: Path) -> None:
        seen.append(system.exists("/half/manifest.json"))
        if len(seen) == 3:
            raise OSError("the network is gone")
        put(folder, artifact, source)

    file = write(ROWS)
    with monkeypatch.context() as patched:
        patched.setattr(BundleFolder, "put", fails)
        with pytest.raises(OSError, match="the network is gone"):
            make(file, "memory://half")
    assert seen == [False, False, False]
    assert not system.exists("/half") or not system.find("/half")
    make(file, "memory://half")
    assert publish("memory://half").points == 400


def test_a_recall_that_falls_short_builds_no_bundle(write: Write, make: Make, tools: Tools, tmp_path: Path) -> None:
    with pytest.raises(VssError, match=r"wanted at least 1\.100"):
        make(write(ROWS), tmp_path / "b", min_recall=1.1)
    assert not (tmp_path / "b").exists()
