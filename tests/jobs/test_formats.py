"""Every format of files gives what the JSON Lines of the same rows give, and names the file where it cannot."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from tests.jobs.conftest import Run, Write
from tests.jobs.test_importer import DIM, clustered, letters, names, reading
from vss.errors import Code, VssError
from vss.jobs.gate import Fields
from vss.jobs.sources.registry import open_source
from vss.jobs.sources.row import Row
from vss.storage.datadir import DataDir
from vss.types import Metric

ROWS = 300
VECTORS = clustered(ROWS)
NASTY = ['a "quoted", text', "two\nlines", "two\r\nlines", "", "é 漢", " spaces "]
TEXT_ROWS = [{"id": f"id-{n}", "vector": VECTORS[n].tolist(), "note": NASTY[n % len(NASTY)]} for n in range(ROWS)]


def read(uri: str | Path, fields: Fields | None = None) -> list[Row]:
    with open_source(str(uri), fields or Fields()) as source:
        rows = list(source.rows())
        ends = [row.end for row in rows]
        assert ends == sorted(ends)
        assert not ends or ends[-1] <= source.total
        return rows


def csv_bytes(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({**row, "vector": json.dumps(row["vector"])} for row in rows)
    return text.getvalue().encode()


def jsonl_bytes(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def zstd(raw: bytes) -> bytes:
    return bytes(pa.compress(raw, codec="zstd", asbytes=True))


def table() -> pa.Table:
    vectors = pa.array(list(VECTORS), pa.list_(pa.float32(), DIM))
    return pa.table(
        {"id": [row["id"] for row in TEXT_ROWS], "vector": vectors, "note": [row["note"] for row in TEXT_ROWS]}
    )


def write_ipc(path: Path, *, stream: bool = False) -> None:
    maker = pa.ipc.new_stream if stream else pa.ipc.new_file
    with maker(str(path), table().schema) as writer:
        writer.write_table(table(), max_chunksize=130)


Make = Callable[[Path], Any]
MAKERS: dict[str, Make] = {
    "a.csv": lambda path: path.write_bytes(csv_bytes(TEXT_ROWS)),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(csv_bytes(TEXT_ROWS))),
    "a.csv.zst": lambda path: path.write_bytes(zstd(csv_bytes(TEXT_ROWS))),
    "a.jsonl.gz": lambda path: path.write_bytes(
        gzip.compress(jsonl_bytes(TEXT_ROWS[:100])) + gzip.compress(jsonl_bytes(TEXT_ROWS[100:]))
    ),
    "a.ndjson.zst": lambda path: path.write_bytes(zstd(jsonl_bytes(TEXT_ROWS))),
    "A.PARQUET": lambda path: pq.write_table(table(), path),
    "a.arrow": write_ipc,
    "a.arrows": lambda path: write_ipc(path, stream=True),
    "stream.arrow": lambda path: write_ipc(path, stream=True),
    "a.feather": lambda path: feather.write_feather(table(), str(path)),
}


def assert_same(data: DataDir, one: str, other: str, ids: list[Any], *, payloads: bool = True) -> None:
    with reading(data, one) as first, reading(data, other) as second:
        assert first.points == second.points == len(ids)
        for left, right in zip(first.retrieve(ids), second.retrieve(ids), strict=True):
            assert (left.id, left.payload if payloads else b"{}") == (right.id, right.payload)
            np.testing.assert_array_equal(left.vectors[""], right.vectors[""])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("remote", [False, True])
def test_a_format_gives_what_json_lines_give(
    data: DataDir, write: Write, run: Run, tmp_path: Path, name: str, remote: bool
) -> None:
    MAKERS[name](tmp_path / name)
    uri: Any = f"simplecache::file://{tmp_path / name}" if remote else tmp_path / name
    run(write(TEXT_ROWS), collection="lines", metric=Metric.EUCLID)
    done = run(uri, collection="other", metric=Metric.EUCLID)
    assert (done.rows, done.rejected) == (ROWS, 0)
    assert_same(data, "lines", "other", [row["id"] for row in TEXT_ROWS])


@pytest.mark.parametrize("kind", ["numbers", "ids.npy", "names.npy", "names.txt", "npz", "npz numbers"])
def test_arrays_give_what_json_lines_give(data: DataDir, write: Write, run: Run, tmp_path: Path, kind: str) -> None:
    ids: list[Any] = {"numbers": list(range(ROWS)), "npz numbers": list(range(ROWS))}.get(kind) or [
        n * 7 - 50 if kind == "ids.npy" else f"naïve {n}" for n in range(ROWS)
    ]
    file, beside = tmp_path / "v.npy", None
    if kind == "npz":
        file = tmp_path / "v.npz"
        np.savez_compressed(file, ids=np.array(ids), vectors=VECTORS)
    elif kind == "npz numbers":
        file = tmp_path / "v.npz"
        np.savez(file, vectors=VECTORS, others=np.zeros(3))
    else:
        np.save(file, VECTORS)
        if kind != "numbers":
            beside = str(tmp_path / kind)
            if kind.endswith(".npy"):
                np.save(beside, np.array(ids))
            else:
                Path(beside).write_text("\n".join(ids) + "\n")
    run(write({"id": i, "vector": v.tolist()} for i, v in zip(ids, VECTORS, strict=True)), metric=Metric.EUCLID)
    fields = Fields(vector="vector", ids=beside)
    done = run(file, collection="o", fields=fields, metric=Metric.EUCLID)
    assert (done.rows, done.rejected) == (ROWS, 0)
    assert_same(data, "c", "o", ids)


@pytest.mark.parametrize("uri", ["parts", "parts/*", "parts/[abcde].*"])
def test_a_directory_and_a_glob_are_their_files_by_name(data: DataDir, run: Run, tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, (name, make) in enumerate(
        {"a.jsonl": jsonl_bytes, "b.csv.gz": lambda rows: gzip.compress(csv_bytes(rows)), "c.csv": csv_bytes}.items()
    ):
        (folder / name).write_bytes(make(TEXT_ROWS[number * 50 : number * 50 + 50]))
    np.save(folder / "d.npy", VECTORS[150:200])
    np.save(folder / "e.npy", VECTORS[200:])
    if uri == "parts":
        (folder / "README.md").write_text("not data")
        (folder / ".hidden.csv").write_text("not data")
        (folder / "inner.csv").mkdir()
    rows = read(tmp_path / uri, Fields(vector="vector"))
    assert [Path(row.file).name for row in rows[::50]] == ["a.jsonl", "b.csv.gz", "c.csv", "d.npy", "e.npy", "e.npy"]
    assert [row.fields and row.fields["id"] for row in rows[:150]] == [row["id"] for row in TEXT_ROWS[:150]]
    # Row numbers go on, else the second file would overwrite the first.
    assert [row.fields and row.fields["id"] for row in rows[150:]] == list(range(150, 300))
    assert run(tmp_path / uri).rows == ROWS


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    (tmp_path / "a[1].jsonl").write_text('{"id": 1}\n')
    (tmp_path / "a1.jsonl").write_text('{"id": 2}\n')
    assert [row.fields for row in read(tmp_path / "a[1].jsonl")] == [{"id": 1}]


def test_broken_rows_are_written_down_with_file_and_line(run: Run, tmp_path: Path) -> None:
    good = '{}-{},"[1, 2]"\n'
    bad = ["short\n", 'many,"[1, 2]",3\n', "\n", 'words,"one, two"\n', ',"[1, 2]"\n', "none,\n", 'quote,"[1" 2]\n']
    for part in "ab":
        text = "id,vector\n" + good.format(part, 1) + '"two\nlines-' + part + '","[1, 2]"\n' + "".join(bad)
        raw = text.encode() + b'\xff,"[1, 2]"\n' + good.format(part, 2).encode() + b'open,"[1, 2]\n'
        (tmp_path / f"{part}.csv").write_bytes(raw)
    done = run(tmp_path / "*.csv", metric=Metric.DOT, max_bad_share=0.8)
    assert done.rows == 6
    found = letters(done.dead_letters)
    for part in "ab":
        own = sorted((one.line, one.reason) for one in found if one.file == str(tmp_path / f"{part}.csv"))
        wanted = {
            5: "got 1 cells, wanted 2",
            6: "got 3 cells",
            8: "not a list of numbers",
            9: "empty id",
            10: "got no vector",
            11: "not CSV",
            12: "not UTF-8",
            14: "not CSV",
        }
        assert [line for line, _ in own] == list(wanted)
        for (_, reason), part_of in zip(own, wanted.values(), strict=True):
            assert part_of in reason
    assert {one.row for one in found} >= {"short", 'open,"[1, 2]'}


def test_vectors_that_cannot_be_stored_name_file_and_row(run: Run, tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[3, 1], vectors[7], vectors[9, 0] = np.nan, 0, 1e30
    np.save(tmp_path / "v.npy", vectors)
    found = letters(run(tmp_path / "v.npy").dead_letters)
    assert [(one.file, one.line, one.id) for one in found] == [(str(tmp_path / "v.npy"), n + 1, n) for n in (3, 7, 9)]


@pytest.mark.parametrize(
    ("name", "cut"), [(name, 2) for name in MAKERS if name not in ("a.csv",)] + [("v.npy", 2), ("v.npz", 2)]
)
def test_a_file_that_ends_early_publishes_nothing(data: DataDir, run: Run, tmp_path: Path, name: str, cut: int) -> None:
    file = tmp_path / name
    if name == "v.npz":
        np.savez_compressed(file, vectors=VECTORS)
    elif name == "v.npy":
        np.save(file, VECTORS)
    else:
        MAKERS[name](file)
    os.truncate(file, file.stat().st_size // cut)
    with pytest.raises(VssError, match=r"cannot be read|is not whole") as failed:
        run(file)
    assert failed.value.code is Code.INVALID
    assert str(file) in failed.value.message
    assert names(data) == []


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.zst"])
def test_a_compressed_file_without_its_last_bytes_is_an_error(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path / name)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size - 1)
    with pytest.raises(VssError, match="file cannot be read"):
        read(tmp_path / name, Fields(vector="vector"))


def test_renamed_fields(data: DataDir, write: Write, run: Run, tmp_path: Path) -> None:
    run(write(TEXT_ROWS), metric=Metric.EUCLID)
    other = table().rename_columns(["key", "emb", "note"])
    fields = Fields(vector="vector", rename={"key": "id", "emb": "vector"})
    for name, make in {"o.parquet": pq.write_table, "o.feather": feather.write_feather}.items():
        make(other, str(tmp_path / name))
        run(tmp_path / name, collection=name[2:], fields=fields, metric=Metric.EUCLID)
        assert_same(data, "c", name[2:], [row["id"] for row in TEXT_ROWS])
    file = write([{"id": 1, "key": 2}, {"key": 3}])
    first, second = read(file, Fields(rename={"key": "id"}))
    assert "two fields have the name id" in str(first.fault)
    assert second.fields == {"id": 3}
    with pytest.raises(VssError, match="one new name for two fields"):
        read(file, Fields(rename={"key": "x", "id": "x"}))


def test_csv_records_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vss.jobs.sources.csv_rows.MAX_LINE_BYTES", 64)
    (tmp_path / "a.csv").write_text("id,t\n1,x\n2," + "y" * 100 + '\n3,"open\n' + "z\n" * 40 + "4,x\n")
    rows = read(tmp_path / "a.csv")
    assert [(row.line, row.fields) for row in rows[:1]] == [(2, {"id": "1", "t": "x"})]
    assert "longer than 64 bytes" in str(rows[1].fault)
    assert "is a quote not closed" in str(rows[2].fault)
    assert rows[-1].fields == {"id": "4", "t": "x"}
    assert max(row.size for row in rows) < 200


@pytest.mark.parametrize(
    ("name", "save"),
    [("v.npy", np.save), ("v.npz", lambda path, array: np.savez_compressed(path, vectors=array))],
)
def test_arrays_are_read_in_bounded_memory(tmp_path: Path, name: str, save: Callable[[Path, Any], None]) -> None:
    save(tmp_path / name, np.repeat(VECTORS, 1_000, axis=0))  # 19 MB
    tracemalloc.start()
    try:
        with open_source(str(tmp_path / name), Fields(vector="v")) as source:
            assert sum(1 for _ in source.rows()) == ROWS * 1_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(3, np.float32), r"shape \(3,\), wanted numbers of shape \(n, d\)"),
        (np.zeros((3, 2, 2), np.float32), "wanted numbers of shape"),
        (np.array([["a"]]), "wanted numbers of shape"),
        (np.zeros((2, 2), complex), "wanted numbers or strings"),
        (np.asfortranarray(VECTORS), "stored by columns"),
    ],
)
def test_arrays_that_are_no_vectors(tmp_path: Path, array: Any, reason: str) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(VssError, match=reason):
        read(tmp_path / "v.npy", Fields(vector="v"))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    header = {"descr": "|O", "fortran_order": False, "shape": (3, 2)}
    with open(tmp_path / "v.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(VssError, match="objects are never unpickled"):
        read(tmp_path / "v.npy", Fields(vector="v"))


def test_an_id_that_is_not_unicode_is_written_down(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    ids = [f"n{n}" for n in range(ROWS)]
    ids[4] = "\ud800"
    np.save(tmp_path / "ids.npy", np.array(ids))
    fields = Fields(vector="vector", ids=str(tmp_path / "ids.npy"))
    done = run(tmp_path / "v.npy", fields=fields)
    (letter,) = letters(done.dead_letters)
    assert letter.line == 5
    assert "lone surrogate" in letter.reason


def test_csv_with_a_byte_order_mark_and_without_a_last_newline(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid,t\r\n1,\xc3\xa9\r\n\r\n007,")
    assert [(row.line, row.fields) for row in read(tmp_path / "a.csv")] == [
        (2, {"id": "1", "t": "é"}),
        (4, {"id": "007", "t": ""}),
    ]


def test_ids_that_do_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    np.save(tmp_path / "few.npy", np.arange(3))
    np.save(tmp_path / "float.npy", np.zeros(ROWS))
    (tmp_path / "few.txt").write_text("a\nb")
    (tmp_path / "many.txt").write_text("a\n" * (ROWS + 1))
    for name, reason in {
        "few.npy": "got 3 ids for 300 vectors",
        "float.npy": "wanted integers or strings",
        "few.txt": "got 2 ids for 300 vectors",
        "many.txt": "got more ids for 300 vectors",
        "none.npy": "there is no file",
    }.items():
        with pytest.raises(VssError, match=reason):
            read(tmp_path / "v.npy", Fields(vector="v", ids=str(tmp_path / name)))
    (tmp_path / "a.jsonl").write_text("{}")
    for uri in ("a.jsonl", "*.npy"):
        with pytest.raises(VssError, match=r"wanted one \.npy file"):
            read(tmp_path / uri, Fields(vector="v", ids=str(tmp_path / "few.npy")))
    np.savez(tmp_path / "v.npz", others=VECTORS)
    with pytest.raises(VssError, match="got no array 'vectors', the file has others"):
        read(tmp_path / "v.npz", Fields(vector="v"))


def test_names_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "twice.csv").write_text("id,id\n")
    (tmp_path / "b.csv").write_text("id,emb\n")
    for uri, code, reason in (
        ("*.csv.gz", Code.NOT_FOUND, r"there is no file .*\*\.csv\.gz"),
        ("none/", Code.INVALID, r"wanted a name that ends in \.jsonl"),
        ("*.txt", Code.INVALID, r"a\.txt'?, wanted a name that ends in .*\.npz \(of .* also \.gz and \.zst\)"),
        ("twice.csv", Code.INVALID, "none twice"),
        ("b.csv", Code.INVALID, "got no column 'v', the file has id, emb"),
    ):
        with pytest.raises(VssError, match=reason) as failed:
            read(f"{tmp_path}/{uri}", Fields(vector="v"))
        assert failed.value.code is code
    (tmp_path / "empty").mkdir()
    with pytest.raises(VssError, match="there is no file"):
        read(tmp_path / "empty")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert read(tmp_path / "empty.csv") == []
