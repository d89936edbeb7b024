"""What no index may ever see is refused in every format of files, with its row: as it is in REST."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from tests.jobs.conftest import Run
from tests.jobs.test_importer import letters, reading
from vss.errors import VssError
from vss.jobs.gate import Fields
from vss.storage.datadir import DataDir
from vss.types import Metric

GOOD = [1.0, 2.0, 3.0]
BAD: dict[str, tuple[Any, str]] = {
    "NaN": ([1.0, float("nan"), 3.0], "got nan|not JSON|not a list of numbers"),
    "Inf": ([1.0, 2.0, float("inf")], "got inf|not JSON|not a list of numbers"),
    "-Inf": ([float("-inf"), 2.0, 3.0], "got -inf|not JSON|not a list of numbers"),
    "1e30": ([1.0, 1e30, 3.0], "got 1e+30 at position 1"),
    "zero": ([0.0, 0.0, 0.0], "got a zero vector"),
    "short": ([1.0, 2.0], "got a vector of 2 numbers, wanted 3"),
    "long": ([1.0, 2.0, 3.0, 4.0], "got a vector of 4 numbers, wanted 3"),
}


def rows(vector: Any, bad_id: str) -> dict[str, list[Any]]:
    return {"id": ["a", bad_id, "c"], "vector": [GOOD, vector, GOOD]}


def jsonl(path: Path, columns: dict[str, list[Any]]) -> None:
    lines = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def csv(path: Path, columns: dict[str, list[Any]]) -> None:
    lines = (f'{one},"{json.dumps(vector)}"\n' for one, vector in zip(*columns.values(), strict=True))
    path.write_text("id,vector\n" + "".join(lines))


def table(columns: dict[str, list[Any]], numbers: pa.DataType) -> pa.Table:
    return pa.table({"id": columns["id"], "vector": pa.array(columns["vector"], pa.list_(numbers))})


def arrow(path: Path, columns: dict[str, list[Any]]) -> None:
    with pa.ipc.new_file(str(path), table(columns, pa.float32()).schema) as writer:
        writer.write_table(table(columns, pa.float32()))


def npz(path: Path, columns: dict[str, list[Any]]) -> None:
    np.savez(path, ids=np.array(columns["id"]), vectors=np.array(columns["vector"], np.float64))


def npy(path: Path, columns: dict[str, list[Any]]) -> None:
    np.save(path, np.array(columns["vector"], np.float32))
    np.save(path.parent / "ids.npy", np.array(columns["id"]))


FORMATS: dict[str, Callable[[Path, dict[str, list[Any]]], Any]] = {
    "a.jsonl": jsonl,
    "a.csv": csv,
    "a.parquet": lambda path, columns: pq.write_table(table(columns, pa.float64()), path),
    "a.arrow": arrow,
    "a.feather": lambda path, columns: feather.write_feather(table(columns, pa.float64()), str(path)),
    "a.npy": npy,
    "a.npz": npz,
}
ONE_LENGTH = ("a.npy", "a.npz")


def import_it(run: Run, path: Path, **options: Any) -> Any:
    ids = str(path.parent / "ids.npy") if path.suffix == ".npy" else None
    return run(path, fields=Fields(vector="vector", ids=ids), **options)


@pytest.mark.parametrize(
    ("name", "fault"),
    # All rows of an array have one length; an array of another is tested below.
    [(name, fault) for name in FORMATS for fault in BAD if not (name in ONE_LENGTH and fault in ("short", "long"))],
)
def test_a_vector_that_rest_refuses_is_a_dead_letter(
    data: DataDir, run: Run, tmp_path: Path, name: str, fault: str
) -> None:
    vector, said = BAD[fault]
    FORMATS[name](tmp_path / name, rows(vector, "b"))
    done = import_it(run, tmp_path / name)
    assert (done.rows, done.rejected) == (2, 1)
    (letter,) = letters(done.dead_letters)
    assert letter.line == (3 if name == "a.csv" else 2)
    assert any(one in letter.reason for one in said.split("|")), letter.reason
    with reading(data) as view:
        assert {point.id for point in view.retrieve(["a", "b", "c"])} == {"a", "c"}


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_id_is_a_dead_letter(data: DataDir, run: Run, tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name, rows(GOOD, ""))
    done = import_it(run, tmp_path / name)
    assert (done.rows, done.rejected) == (2, 1)
    assert "got an empty id" in letters(done.dead_letters)[0].reason
    with reading(data) as view:
        assert view.points == 2


@pytest.mark.parametrize("name", ONE_LENGTH)
def test_an_array_of_another_dimension_changes_nothing(data: DataDir, run: Run, tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name, rows(GOOD, "b"))
    assert import_it(run, tmp_path / name).rows == 3
    FORMATS[name](tmp_path / name, {"id": ["x", "y"], "vector": [[1.0, 2.0], [2.0, 1.0]]})
    with pytest.raises(VssError, match="got a vector of 2 numbers, wanted 3"):
        import_it(run, tmp_path / name)
    with reading(data) as view:
        assert (view.generation, view.points) == (1, 3)


@pytest.mark.parametrize("name", FORMATS)
def test_a_zero_vector_has_a_place_under_dot(data: DataDir, run: Run, tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name, rows([0.0, 0.0, 0.0], "b"))
    assert import_it(run, tmp_path / name, metric=Metric.DOT).rows == 3
