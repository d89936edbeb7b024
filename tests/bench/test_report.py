"""Rounds, spreads and ratios; what a line of a report holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.bench.report import Report, machine, ratios, rounds, spread
from vss.errors import VssError


def test_rounds_take_turns_and_nobody_always_begins() -> None:
    order: list[str] = []
    ticks = iter(range(100))

    def case(name: str) -> float:
        order.append(name)
        return float(next(ticks))

    values = rounds({name: lambda name=name: case(name) for name in "abc"}, 3)
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert values == {"a": [0.0, 5.0, 7.0], "b": [1.0, 3.0, 8.0], "c": [2.0, 4.0, 6.0]}


def test_a_ratio_is_of_the_same_round() -> None:
    # The machine became twice as slow half way: the ratio did not change.
    assert ratios([100, 100, 50, 50], [50, 50, 25, 25]) == {"median": 2, "min": 2, "max": 2, "q1": 2, "q3": 2}
    assert spread([4, 1, 2, 3, 5]) == {"median": 3, "min": 1, "max": 5, "q1": 2, "q3": 4}
    with pytest.raises(VssError, match="got no values"):
        spread([])


def test_a_line_names_all_that_the_figure_depends_on(tmp_path: Path) -> None:
    out = tmp_path / "figures.jsonl"
    for seed in (1, 2):
        with Report("recall", seed=seed, out=out) as report:
            report.write("build", build_seconds=1.5)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["seed"] for line in lines] == [1, 2]
    assert lines[0] | {"benchmark": "recall", "figure": "build", "build_seconds": 1.5} == lines[0]
    assert {"date", "load", "command", "machine", "versions"} <= set(lines[0])
    assert set(lines[0]["machine"]) == {"cpu", "arch", "cores", "flags", "memory_gib", "kernel"}
    assert {"vss", "python", "numpy"} <= set(lines[0]["versions"])
    assert machine()["cores"] >= 1


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="cannot be written"):
        Report("recall", seed=1, out=tmp_path / "no" / "folder.jsonl")
