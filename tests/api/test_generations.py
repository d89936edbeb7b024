"""A fold in another process publishes through the server's Unix socket while queries and writes go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.clusters import clustered, nearest
from tests.api.server_process import ServerProcess

COUNT, DIM = 6_000, 16
VECTORS = clustered(COUNT + 1, DIM, seed=21)
QUERIES = clustered(5, DIM, seed=22)


@pytest.mark.parametrize("distance", ["Cosine", "Manhattan"])
def test_a_fold_beside_a_running_server(tmp_path: Path, distance: str) -> None:
    server = ServerProcess(tmp_path / "data")
    try:
        with server.client() as client:
            client.put("/collections/c", json={"vectors": {"size": DIM, "distance": distance}})
            for start in range(0, COUNT, 2_000):
                points = [{"id": row, "vector": VECTORS[row].tolist()} for row in range(start, start + 2_000)]
                assert client.put("/collections/c/points", json={"points": points}).status_code == 200
            command = [sys.executable, "-m", "api.cli", "fold", "c", "--data", str(tmp_path / "data")]
            # The job has two threads at most here, as the machine may be small.
            subprocess.run(command, check=True, timeout=120, capture_output=True, env=os.environ | {"VSS_THREADS": "2"})

            last = {"points": [{"id": COUNT, "vector": VECTORS[COUNT].tolist()}]}
            assert client.put("/collections/c/points", json=last).json()["result"]["operation_id"] == COUNT + 1
            described = client.get("/collections/c").json()
            assert described["vss"]["generation"] == 2
            assert described["result"]["points_count"] == COUNT + 1
            for query in QUERIES:
                body = {"query": query.tolist(), "limit": 10, "params": {"exact": True}}
                answer = client.post("/collections/c/points/query", json=body)
                found = [point["id"] for point in answer.json()["result"]["points"]]
                assert found == nearest(query, VECTORS, distance)[:10]
                assert answer.headers["vss-generation"] == "2"
    finally:
        server.stop()
