"""How many cores there are: a container's CPU limit counts, which the affinity does not show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vss.cores import usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def groups(root: Path, quotas: dict[str, str], own: str) -> tuple[Path, Path]:
    """Control groups as the kernel shows them: a cpu.max in each folder, and the path of our own group."""
    for name, quota in quotas.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "cpu.max").write_text(f"{quota}\n")
    (root / "of-process").write_text(f"4:memory:/elsewhere\n0::{own}\n")
    return root, root / "of-process"


@pytest.mark.parametrize(
    ("quotas", "own", "cores"),
    [
        ({".": "200000 100000"}, "/", 2),
        ({".": "150000 100000"}, "/", 2),
        ({".": "10000 100000"}, "/", 1),
        ({".": "max 100000"}, "/", 8),
        ({".": "1600000 100000"}, "/", 8),
        ({"system.slice/vss": "300000 100000"}, "/system.slice/vss", 3),
        ({"pods": "200000 100000", "pods/one": "max 100000"}, "/pods/one", 2),
        ({".": "200000 100000"}, "/../../outside", 2),
        ({}, "/", 8),
    ],
)
def test_the_quota_of_the_group_bounds_the_cores(tmp_path: Path, quotas: dict[str, str], own: str, cores: int) -> None:
    assert usable_cores(*groups(tmp_path, quotas, own)) == cores


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "neither") == 8
