"""Servers killed at random moments lose nothing that they acknowledged, and bring nothing back (see `kills`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proofs import kills

SEED = 20_261_121

# httpx leaves a socket open when what it connects to dies in that moment.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_ten_kills(tmp_path: Path) -> None:
    done = kills.run(tmp_path, 10, SEED)
    print(done)  # noqa: T201 - shown when it fails
    assert done["acknowledged"] > 10
    assert done["under_way"] > 0
    assert done["generation"] > 0


@pytest.mark.soak
def test_a_thousand_kills(tmp_path: Path) -> None:
    done = kills.run(tmp_path, 1_000, SEED + 1)
    print(done)  # noqa: T201 - the result, with `pytest -s`
    assert done["acknowledged"] > 10_000
