"""`vss bench filter`, run small and for real."""

from __future__ import annotations

from pathlib import Path

from tests.bench.test_commands import ALWAYS, SPREAD, bench


def test_each_shape_of_filter_is_answered_in_each_way_and_drawn(tmp_path: Path) -> None:
    png = tmp_path / "filters.png"
    arguments = ("filter", "clustered-128", "--n", "6000", "--queries", "4", "--build-threads", "1", "--png", str(png))
    arguments = (*arguments, "--http", "--cache", str(tmp_path))
    lines, said = bench(*arguments, "--only", "10%", "--only", "0.1%", "--only", "contrary to the query")
    assert all(set(line) >= ALWAYS for line in lines)
    assert {line["figure"] for line in lines} == {"10%", "0.1%", "contrary to the query"}
    ways = {"filter new", "filter known", "scan alone", "graph alone", "raw FAISS, bitmap", "raw FAISS, no filter"}
    for figure in ("10%", "0.1%", "contrary to the query"):
        by_way = {line["way"]: line for line in lines if line["figure"] == figure}
        assert set(by_way) == ways
        assert all(set(line["microseconds"]) == SPREAD for line in by_way.values())
        assert by_way["scan alone"]["recall"] == by_way["filter new"]["recall"] == 1.0
        assert by_way["raw FAISS, no filter"]["recall"] is None
        assert by_way["raw FAISS, no filter"]["over_unfiltered"] == 1.0
    assert 0.05 < next(line["share"] for line in lines if line["figure"] == "10%") < 0.15
    assert "recall@10" in said
    assert png.read_bytes().startswith(b"\x89PNG")
