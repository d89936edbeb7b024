"""Past a set number of points without an index writes get 429 until a fold has caught up; deletes are still taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.api.server_process import ServerProcess

LIMIT, DIM = 5_200, 4
PATH = "/collections/c/points"


def test_a_backlog_is_refused_told_and_gone_after_a_fold(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", max_unindexed=LIMIT)
    vectors = np.random.default_rng(2).normal(size=(LIMIT, DIM)).round(3)
    columns = {"ids": list(range(LIMIT)), "vectors": vectors.tolist()}
    one = {"points": [{"id": 10_000, "vector": [1.0] * DIM}]}

    def figure(text: str, name: str) -> float:
        (line,) = [line for line in text.splitlines() if line.startswith(f'{name}{{collection="c"}}')]
        return float(line.split()[-1])

    try:
        with server.client() as client:
            client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}}).raise_for_status()
            client.put(PATH, json={"batch": columns}).raise_for_status()
            for method, path, body in (
                ("PUT", PATH, one),
                ("POST", PATH + "/payload", {"payload": {"a": 1}, "points": [1]}),
                ("POST", PATH + "/batch", {"operations": [{"upsert": one}]}),
            ):
                refused = client.request(method, path, json=body)
                assert refused.status_code == 429
                assert int(refused.headers["Retry-After"]) >= 1
                assert refused.json()["vss"]["code"] == "overloaded"
                assert f"{LIMIT:,} points wait for an index" in refused.json()["status"]["error"]
            assert figure(client.get("/metrics").text, "vss_write_backlog_vectors") == LIMIT
            assert figure(client.get("/metrics").text, "vss_live_operations") == LIMIT
            client.post(PATH + "/delete", json={"points": [0]}).raise_for_status()
            client.put(PATH, json=one).raise_for_status()
            assert client.put(PATH, json={"points": [{"id": 10_001, "vector": [1.0] * DIM}]}).status_code == 429
            # A search finds all of them meanwhile.
            found = client.post(PATH + "/query", json={"query": [1.0] * DIM, "limit": 1}).json()["result"]["points"]
            assert found[0]["id"] == 10_000
            command = [sys.executable, "-m", "api.cli", "fold", "c", "--data", str(server.data)]
            folded = subprocess.run(command, capture_output=True, text=True, check=False)
            assert folded.returncode == 0, folded.stderr
            client.put(PATH, json={"points": [{"id": 10_001, "vector": [1.0] * DIM}]}).raise_for_status()
            assert figure(client.get("/metrics").text, "vss_write_backlog_vectors") == 0
            assert client.post(PATH + "/count", json={}).json()["result"]["count"] == LIMIT + 1
    finally:
        server.stop()
