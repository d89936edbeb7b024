"""`vss bench filter`, run small and for real."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.bench.test_commands import ALWAYS, SPREAD, bench


@pytest.fixture
def cache() -> Iterator[Path]:
    """A folder whose name is short: a server's socket lies below it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_each_shape_of_filter_is_answered_in_each_way_and_drawn(tmp_path: Path, cache: Path) -> None:
    png = tmp_path / "filters.png"
    arguments = ("filter", "clustered-128", "--n", "3000", "--queries", "4", "--build-threads", "1", "--png", str(png))
    arguments = (*arguments, "--http", "--cache", str(cache))
    lines, said = bench(*arguments, "--only", "10%", "--only", "0.1%", "--only", "contrary to the query")
    assert all(set(line) >= ALWAYS for line in lines)
    assert {line["figure"] for line in lines} == {"10%", "0.1%", "contrary to the query"}
    over_http = {"HTTP, no filter", "HTTP, filter new", "HTTP, filter again"}
    timed = {
        "filter new",
        "filter again",
        "filter hot",
        "scan alone",
        "graph alone",
        "raw FAISS, bitmap",
        "raw FAISS, no filter",
    }
    for figure in ("10%", "0.1%", "contrary to the query"):
        by_way = {line["way"]: line for line in lines if line["figure"] == figure}
        assert set(by_way) == timed | over_http | {"no filter", "bars"}
        assert all(set(by_way[way]["microseconds"]) == SPREAD for way in timed)
        assert all(set(by_way[way]["us"]) == SPREAD for way in over_http)
        assert by_way["scan alone"]["recall"] == by_way["filter new"]["recall"] == 1.0
        assert by_way["raw FAISS, no filter"]["recall"] is None
        assert by_way["raw FAISS, no filter"]["over_unfiltered"] == 1.0
        bars = by_way["bars"]["bars"]
        assert bars["recall"] == {"value": 1.0, "bar": 0.95, "met": True}
        for name, way, bar in (("new over unfiltered", "filter new", 4), ("hot over unfiltered", "filter hot", 2)):
            value = by_way[way]["over_unfiltered"]
            assert bars[name] == {"value": value, "bar": bar, "met": value <= bar}
        assert bars["HTTP over unfiltered"]["bar"] == 3
    assert 0.05 < next(line["share"] for line in lines if line["figure"] == "10%") < 0.15
    assert "recall@10" in said
    assert png.read_bytes().startswith(b"\x89PNG")
    # What was built is there for the next run.
    again, _ = bench(*arguments, "--only", "0.1%")
    assert {line["figure"] for line in again} == {"0.1%"}
    assert len(list(cache.glob("filtered-*"))) == 1


def test_own_payloads_are_filtered_by(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    np.save(tmp_path / "v.npy", random.normal(size=(1_500, 8)).astype(np.float32))
    rows = [
        {"section": f"s{row % 5}", "tags": [f"t{row % 40}", "all"], "text": f"word{row % 90} more{row % 7} of it"}
        for row in range(1_500)
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    given = ("filter", str(tmp_path / "v.npy"), "--payloads", str(tmp_path / "p.jsonl"), "--queries", "6")
    lines, _ = bench(*given, "--build-threads", "1", "--only", "one value", "--only", "full text")
    shares = {line["figure"]: line["share"] for line in lines if "share" in line}
    assert 0.19 < shares["one value"] < 0.2
    assert 0 < shares["full text"] <= 1 / 7 + 0.01
