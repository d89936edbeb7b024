"""The demo, small: the same steps and processes, with some documents and without a model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from api.demo import corpus, queries
from vss.storage.datadir import DataDir, WriterLock


def demo(data: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["demo", "--model", "hashing", "--limit", "300", "--data", str(data)]
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments], capture_output=True, text=True, check=False, timeout=300
    )


def test_the_demo_ends_well_and_a_second_run_reuses_the_embeddings(tmp_path: Path) -> None:
    first = demo(tmp_path / "data")
    assert first.returncode == 0, first.stderr
    (recall,) = re.findall(r"^recall@10 (\d\.\d{3})$", first.stdout, re.MULTILINE)
    assert float(recall) >= 0.95
    assert first.stdout.count("curl -s http://127.0.0.1:") == len(queries.TEXTS) + 2
    assert re.search(r"p50 [\d.]+ ms, p99 [\d.]+ ms, [\d,]+ requests/s", first.stdout)
    assert "shutil.make_archive" in first.stdout
    assert "degraded" not in first.stdout
    assert f"vss serve --data {tmp_path / 'data'}" in first.stdout
    second = demo(tmp_path / "data")
    assert second.returncode == 0, second.stderr
    assert re.search(r"generation 2, (\d+) rows in [\d.]+ s, \1 embeddings reused", second.stderr)


def test_a_server_on_the_same_folder_is_told_at_once(tmp_path: Path) -> None:
    with WriterLock(DataDir(tmp_path)):
        done = demo(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("vss: another process")


def test_a_sample_keeps_what_the_demo_names(tmp_path: Path) -> None:
    found = {one["id"] for one in corpus.write(tmp_path / "rows.jsonl", 50)}
    assert {*queries.LIKED, *queries.DISLIKED} <= corpus.ALWAYS
    assert found >= corpus.ALWAYS
    assert len(found) <= 50 + len(corpus.ALWAYS)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(found)
