"""`vss bench recall`, `embed` and `write`, each run small and for real."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from api.bench.built import NOTE
from api.bench.pinning import THREADS
from api.bench.recall import Curve, Settled
from api.bench.texts import write_jsonl
from api.cli.main import commands
from tests.conformance.data import clustered
from vss.errors import VssError

ALWAYS = {"benchmark", "figure", "seed", "date", "load", "command", "machine", "versions"}
SPREAD = {"median", "min", "max", "q1", "q3"}


def bench(*arguments: str) -> tuple[list[dict[str, Any]], str]:
    """The JSON lines of `vss bench`, and what it said besides."""
    command = [sys.executable, "-m", "api.cli", "bench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_recall_measures_all_in_turn_and_draws(tmp_path: Path) -> None:
    png, cache = tmp_path / "curves.png", tmp_path / "cache"
    pytest.importorskip("hnswlib")
    arguments = ("recall", "clustered-128", "--n", "2000", "--queries", "100", "--repetitions", "2")
    arguments += ("--seconds", "0.002", "--build-threads", "1", "--cache", str(cache))
    arguments += ("--backend", "flat", "--backend", "faiss_hnsw:storage=sq8", "--backend", "raw-hnswlib")
    arguments += ("--backend", "raw-faiss-hnsw", "--backend", "raw-faiss-flat")
    lines, said = bench(*arguments, "--png", str(png))
    assert all(set(line) >= ALWAYS for line in lines)
    assert {line["versions"]["faiss"] for line in lines} != {"unknown"}
    assert lines[0]["command"].startswith("vss bench recall clustered-128 ")
    builds = {line["backend"]: line for line in lines if line["figure"] == "build"}
    assert list(builds) == ["flat", "faiss_hnsw storage=sq8", "raw-hnswlib", "raw-faiss-hnsw", "raw-faiss-flat"]
    assert builds["flat"]["file_bytes"] == 0
    assert builds["flat"]["vector_bytes"] == builds["raw-hnswlib"]["n"] * 128 * 4
    assert builds["raw-hnswlib"]["file_bytes"] > builds["flat"]["vector_bytes"]

    efforts = [line for line in lines if line["figure"] == "effort"]
    for line in efforts:
        assert set(line["batch_qps"]) == set(line["single_qps"]) == SPREAD
        assert 0 < line["batch_qps"]["min"] <= line["batch_qps"]["median"] <= line["batch_qps"]["max"]
        assert (line["threads"], line["batch"], line["queries"], line["repetitions"]) == (1, 64, 100, 2)
    exact = [line["recall_at_10"] for line in efforts if line["backend"] in {"flat", "raw-faiss-flat"}]
    assert exact == [1.0, 1.0]
    raw = [line for line in efforts if line["backend"] == "raw-hnswlib"]
    assert [line["effort"] for line in raw] == sorted({line["effort"] for line in raw})
    assert raw[0]["recall_at_10"] < raw[-1]["recall_at_10"]
    assert raw[-1]["recall_at_10"] > 0.99

    rates = {line["backend"]: line for line in lines if line["figure"] == "rate_at_recall"}
    assert rates["raw-hnswlib"]["batch_ratio_to_raw-hnswlib"]["median"] == 1.0
    assert rates["flat"]["reached"] == "least effort"
    assert set(rates["faiss_hnsw storage=sq8"]["single_ratio_to_raw-faiss-hnsw"]) == SPREAD
    assert "interpolated between measured efforts" in said
    head = png.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(head[16:20], "big") >= 1000, "wide enough to be read"

    # A second run takes what the first has built, unless it was damaged.
    damaged = next(path for path in cache.glob("raw-hnswlib-*/*") if path.name != NOTE)
    damaged.write_bytes(b"damaged" + damaged.read_bytes()[7:])
    again, _ = bench(*arguments)
    kept = {line["backend"]: line["kept"] for line in again if line["figure"] == "build"}
    assert kept == dict.fromkeys(builds, True) | {"raw-hnswlib": False}


def test_recall_of_a_file_with_two_callers(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", clustered(1200, 16))
    out = tmp_path / "out.jsonl"
    lines, _ = bench(
        *("recall", str(tmp_path / "rows.npy"), "--metric", "Euclid", "--queries", "70", "--threads", "2"),
        *("--backend", "flat", "--repetitions", "1", "--seconds", "0.002", "--out", str(out), "--name", "mine"),
    )
    assert lines == [], "the figures go to the file"
    figures = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["figure"] for line in figures] == ["build", "effort", "rate_at_recall"]
    assert {(line["data"], line["n"], line["dim"], line["metric"]) for line in figures} == {
        ("mine", 1130, 16, "Euclid")
    }
    assert (figures[1]["recall_at_10"], figures[1]["threads"]) == (1.0, 2)


def test_embed_times_each_path(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    write_jsonl(texts, [f"text number {row} of some" for row in range(80)])
    lines, _ = bench(
        *("embed", str(texts), "--model", "hashing-64", "--texts", "60", "--repetitions", "2"),
        *("--data", str(tmp_path / "data")),
    )
    assert [line["path"] for line in lines] == ["model", "served", "import"]
    for line in lines:
        assert set(line) >= ALWAYS
        assert set(line["texts_per_s"]) == set(line["tokens_per_s"]) == set(line["ratio_to_model"]) == SPREAD
        assert line["tokens_per_s"]["median"] > line["texts_per_s"]["median"] > 0
        assert (line["model"], line["texts"]) == ("hashing-64", 60)
    assert lines[0]["ratio_to_model"]["median"] == 1.0


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: that of a Unix socket in it may have 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_write_sets_each_beside_its_baseline(tmp_path: Path, short: Path) -> None:
    pytest.importorskip("hnswlib")
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(f'{{"body": "text number {row}"}}\n' for row in range(40)))
    lines, _ = bench(
        *("write", "--n", "2000", "--points", "300", "--index", "faiss_hnsw", "--threads", "1", "--repetitions", "2"),
        *("--texts", "40", "--text-file", str(texts), "--text-field", "body", "--model", "hashing-64"),
        *("--data", str(short)),
    )
    figures = {line["figure"]: line for line in lines}
    assert list(figures) == ["imported_vectors", "upserts", "single_upserts", "imported_texts"]
    for line in lines:
        assert set(line) >= ALWAYS
        assert line["figure"] == "single_upserts" or set(line["ratio"]) == SPREAD
    assert figures["imported_vectors"]["import_rows_per_s"]["median"] > 0
    assert set(figures["imported_vectors"]["import_phase_seconds"]) >= {"read", "index", "publish"}
    assert set(figures["imported_vectors"]["cpu_ratio"]) == SPREAD
    assert figures["imported_texts"]["texts"] == 40
    assert figures["upserts"]["batch"] == 100
    assert set(figures["upserts"]["http_1_ratio"]) == set(figures["upserts"]["json_ratio"]) == SPREAD
    shared = figures["single_upserts"]
    assert shared["engine_syncs_per_write"] <= 0.2
    assert 1 <= shared["engine_wait_commits"]["p50"] <= shared["engine_wait_commits"]["p99"] <= 3
    assert shared["http_commits_per_write"] <= 0.5
    assert not list(short.iterdir()), "nothing is left behind"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("recall",), 2, "give one of: a file, a shape"),
        (("recall", "clustered-128", "--demo"), 2, "give one of: a file, a shape"),
        (("recall", "cubes-3"), 1, "wanted a .npy or .hdf5 file, or a shape: clustered-128, hubs-256"),
        (("recall", "none.npy"), 1, "there is no file none.npy"),
        (("recall", "none.hdf5"), 1, "there is no file none.hdf5"),
        (("recall", "none.hdf5", "--n", "500"), 1, "whose neighbours are of all its vectors"),
        (("recall", "hubs-256", "--backend", "annoy"), 1, "got the index kind 'annoy'"),
        (("recall", "hubs-256", "--backend", "flat:m"), 1, "wanted key=value"),
        (("recall", "-c", "c", "--data", "none"), 1, "there is no data directory none"),
        (("embed", "two.jsonl", "--texts", "2", "--model", "none"), 1, "there is no embedder 'none'"),
        (("embed", "none.jsonl", "--model", "hashing"), 1, "there is no file none.jsonl"),
        (("embed", "two.jsonl", "--model", "hashing", "--texts", "3"), 1, "got 2 texts in two.jsonl, wanted 3"),
        (("write", "none.npy", "--part", "vectors"), 1, "there is no file none.npy"),
    ],
)
def test_a_wrong_command_is_told_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in THREADS.items():  # or it would start itself anew
        monkeypatch.setenv(name, value)
    write_jsonl(tmp_path / "two.jsonl", ["one text", "two texts"])
    done = CliRunner().invoke(commands, ["bench", *arguments])
    assert (done.exit_code, done.stdout) == (code, "")
    if code == 1:
        assert isinstance(done.exception, VssError)
        assert said in str(done.exception)
    else:
        assert said in " ".join(done.stderr.split())


class _Nothing:
    pass


def test_a_rate_at_a_recall_lies_between_the_efforts_around_it() -> None:
    settled = [Settled(16, 0.90), Settled(32, 0.94), Settled(64, 0.98)]
    rates: list[list[float]] = [[900, 90], [400, 40], [100, 10]]
    curve = Curve(_Nothing(), settled, {"batch": rates, "single": rates})  # type: ignore[arg-type]
    assert curve.rate_at(0.96, "batch") == pytest.approx([200, 20])
    assert curve.rate_at(0.98, "batch") == pytest.approx([100, 10])
    assert curve.rate_at(0.99, "batch") == []
    assert [curve.reach(recall) for recall in (0.8, 0.96, 0.99)] == ["least effort", "interpolated", "not reached"]


def test_churn_tells_of_recall_and_disk_beside_rates(short: Path) -> None:
    lines, _ = bench(
        *("write", "--part", "churn", "--n", "400", "--seconds", "0.5", "--repetitions", "1", "--times", "1"),
        *("--connections", "2", "--data", str(short)),
    )
    searched, replaced = lines
    assert [searched["figure"], replaced["figure"]] == ["searched_while_written", "replaced"]
    assert set(searched["ratio"]) == set(searched["p99_ratio"]) == SPREAD
    assert searched["upserts_failed"] == [{}]
    assert searched["upserts_per_s"]["median"] > 0
    assert searched["static_recall"]["min"] == searched["written_recall"]["min"] == 1.0  # so few are scanned
    assert set(replaced["recall_difference"].values()) == {0.0}
    assert replaced["segments"] == [{"points": 400, "deleted": 0}]
    assert replaced["bytes_ratio"]["kept_1"] <= 1.3
    assert not list(short.iterdir()), "nothing is left behind"
