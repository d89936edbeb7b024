"""Servers killed at random moments lose nothing that they acknowledged, and bring nothing back (see `kills`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.proofs import kills
from tests.proofs.outcome import in_soak

SEED = 20_261_121

# httpx leaves a socket open when what it connects to dies in that moment.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_ten_kills(tmp_path: Path) -> None:
    done = Counter[str]()
    kills.run(tmp_path, 10, SEED, done)
    print(done)  # noqa: T201 - shown when it fails
    assert done["kills"] == 10
    assert done["acknowledged"] > 10
    assert done["under way"] > 0
    assert done["generation"] > 0


@pytest.mark.soak
def test_a_thousand_kills(tmp_path: Path) -> None:
    done = Counter[str]()
    kills.run(tmp_path, in_soak(1_000), SEED + 1, done)
    print(done)  # noqa: T201 - the result, with `pytest -s`
    assert done["acknowledged"] > 5 * done["kills"]
