"""One server for a test module; each test makes collections of its own names."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.api.server_process import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the `hashing` model."""
    running = ServerProcess(tmp_path_factory.mktemp("server") / "data")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of it."""
    with server.client() as client:
        yield client
