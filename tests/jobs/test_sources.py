"""Rows from files: every good one, and a reason for every bad one."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vss.errors import Code, VssError
from vss.jobs.gate import Fields
from vss.jobs.sources import jsonl
from vss.jobs.sources.registry import open_source
from vss.jobs.sources.row import RAW_LIMIT, Row, payload_json


def read(uri: str | Path, vector_field: str | None = None) -> list[Row]:
    with open_source(str(uri), Fields(vector=vector_field)) as source:
        rows = list(source.rows())
        assert not rows or rows[-1].end <= source.total
        return rows


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def test_json_lines_with_and_without_a_last_newline(tmp_path: Path) -> None:
    for ending in (b"", b"\n", b"\r\n"):
        file = write(tmp_path / "a.jsonl", b'{"id": 1}\n\n  \n{"id": "\xc3\xa9"}', ending)
        rows = read(file)
        assert [(row.line, row.fields) for row in rows] == [(1, {"id": 1}), (4, {"id": "é"})]
        assert rows[-1].end == file.stat().st_size


def test_a_byte_order_mark_and_a_file_uri(tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", b'\xef\xbb\xbf{"id": 1}\n')
    assert [row.fields for row in read(f"file://{file}")] == [{"id": 1}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": 1', "not JSON"),
        (b'{"id": 1} x', "not JSON"),
        (b"[1]", "wanted a JSON object"),
        (b"null", "wanted a JSON object"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b'{"id": "\\ud800"}', "not JSON"),
        (b'{"x": NaN}', "NaN and Infinity are not JSON"),
        (b'{"x": 1e999}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_line_is_a_row_with_a_reason_and_the_next_one_is_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    first, second = read(write(tmp_path / "a.jsonl", line, b'\n{"id": 2}\n'))
    assert first.fields is None
    assert reason in str(first.fault)
    assert (second.line, second.fields) == (2, {"id": 2})
    assert len(first.shown()) <= RAW_LIMIT + 4


def test_lines_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 7)
    file = write(tmp_path / "a.jsonl", *(json.dumps({"id": n, "t": "x" * n}).encode() + b"\n" for n in range(50)))
    rows = read(file)
    assert [row.fields for row in rows] == [{"id": n, "t": "x" * n} for n in range(50)]
    assert rows[-1].end == file.stat().st_size


@pytest.mark.parametrize("block", [16, 1 << 20])
def test_an_overlong_line_is_refused_without_being_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", block)
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 64)
    good = b'{"id": 1}'
    rows = read(write(tmp_path / "a.jsonl", good, b"\n", b'{"t": "' + b"x" * 1000 + b'"}', b"\n", good))
    assert [(row.line, row.fields is None) for row in rows] == [(1, False), (2, True), (3, False)]
    assert "longer than 64 bytes" in str(rows[1].fault)
    assert rows[1].size <= 64 + block


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 3)])
def test_parquet_vectors_and_payload(tmp_path: Path, kind: pa.DataType) -> None:
    day = datetime.date(2024, 2, 29)
    vectors = [[1.0, 2.0, 3.0], None, [4.0, None, 6.0], [7.0, 8.0, 9.0]]
    table = pa.table(
        {
            "id": ["a", "b", "c", "d"],
            "v": pa.array(vectors, kind),
            "tags": [["x"], [], None, ["y", "z"]],
            "day": [day] * 4,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    rows = read(tmp_path / "a.parquet", "v")
    assert [row.line for row in rows] == [1, 2, 3, 4]
    found = [row.fields["v"] for row in rows if row.fields]
    assert found[1] is None
    np.testing.assert_array_equal(found[0], [1, 2, 3])
    np.testing.assert_array_equal(found[2], [4, np.nan, 6])
    np.testing.assert_array_equal(found[3], [7, 8, 9])
    last = rows[3].fields
    assert last is not None
    last.pop("v")
    assert payload_json(last) == b'{"id":"d","tags":["y","z"],"day":"2024-02-29"}'
    assert '"a"' in rows[0].shown()


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "emb": [[1.0]]}), tmp_path / "a.parquet")
    with pytest.raises(VssError, match="got no column 'vector', the file has id, emb"):
        read(tmp_path / "a.parquet", "vector")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="there is no file") as missing:
        read(tmp_path / "none.jsonl")
    assert missing.value.code is Code.NOT_FOUND
    with pytest.raises(VssError, match=r"ends in \.jsonl, \.ndjson, \.csv, \.parquet"):
        read(tmp_path / "a.xlsx")
    with pytest.raises(VssError, match="Parquet file cannot be read"):
        read(write(tmp_path / "a.parquet", b"PAR1 this is none"))
    with pytest.raises(VssError, match="wanted a path, s3"):
        read("nosuchprotocol://host/a.jsonl")
