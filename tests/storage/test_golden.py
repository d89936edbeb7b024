"""A data directory of every format that there ever was opens, and answers what it answered when it was made."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from indexers.registry import INDEXERS
from tests.storage.golden_data import DIM, KINDS, answers
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.points import Point
from vss.storage.datadir import DataDir
from vss.storage.fold import fold
from vss.storage.manifest import FORMAT

GOLDEN = Path(__file__).with_name("golden")
VERSIONS = sorted(path.name.split(".")[0] for path in GOLDEN.glob("*.tar.gz"))


def unpack(version: str, target: Path) -> DataDir:
    """The files of a golden data directory, one by one."""
    with tarfile.open(GOLDEN / f"{version}.tar.gz") as tar:
        for member in tar:
            path = target / member.name
            assert member.isreg()
            assert path.resolve().is_relative_to(target.resolve())
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            path.write_bytes(content.read())
    return DataDir(target)


def truth(version: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode((GOLDEN / f"{version}.json").read_bytes())
    return found


def test_the_format_of_now_has_golden_files() -> None:
    assert [f"v{number}" for number in range(1, FORMAT + 1)] == VERSIONS


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_it_answers_what_it_did(version: str, writable: bool, tmp_path: Path) -> None:
    data = unpack(version, tmp_path / "data")
    engine = LocalEngine(data, INDEXERS, writable=writable)
    try:
        for kind in KINDS:
            found, wanted = answers(engine, kind), truth(version)[kind]
            # Which way a graph is walked is not part of the format.
            for near, exact in zip(found.pop("approximate"), wanted["exact"], strict=True):
                assert near[0] == exact[0]
            wanted.pop("approximate")
            assert found == wanted
            assert engine.collection(kind).damage == ()
        assert engine.entry("alias").name == KINDS[-1]
    finally:
        engine.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_it_can_be_written_and_folded(version: str, tmp_path: Path) -> None:
    data = unpack(version, tmp_path / "data")
    engine = LocalEngine(data, INDEXERS, writable=True)
    try:
        before = answers(engine, "native")
        point = Point(id="new", vectors={"": np.full(DIM, 50, np.float32)}, payload=b'{"n":-1}')
        engine.upsert("native", [point]).result()
        fold(engine.collection("native"), engine, INDEXERS, threads=1)
        engine.remove("native", ["new"]).result()
        after = answers(engine, "native")
        assert [after["points"], after["count"], after["exact"]] == [before["points"], before["count"], before["exact"]]
    finally:
        engine.close()
    again = LocalEngine(data, INDEXERS, writable=False)
    assert answers(again, "native")["points"] == before["points"]
    again.close()


def test_a_newer_format_is_refused_by_name_and_others_serve(tmp_path: Path) -> None:
    data = unpack(VERSIONS[-1], tmp_path / "data")
    engine = LocalEngine(data, INDEXERS, writable=True)
    with engine.collection("flat").log.writing() as connection:
        connection.execute("UPDATE pointer SET format = ?", (FORMAT + 1,))
    engine.close()
    engine = LocalEngine(data, INDEXERS, writable=True)
    try:
        with pytest.raises(VssError, match=f"format {FORMAT + 1}, this program reads up to {FORMAT}") as caught:
            engine.collection("flat").view()
        assert caught.value.code is Code.UNSUPPORTED
        assert "newer version" in str(caught.value.hint)
        assert answers(engine, "faiss_hnsw")["points"] == truth(VERSIONS[-1])["faiss_hnsw"]["points"]
    finally:
        engine.close()
