"""The pod's exact commands, as processes: they start, answer the kubelet, fold, keep what was acknowledged, and end."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conformance.data import clustered
from tests.deploy.manifests import BASE, Manifest, render
from tests.deploy.pod import KEY, Pod

ROWS = 20_500
"""Past half of the live part's bound: a segment is sealed, and lacks the index that the worker builds."""


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return render(BASE)


def until(done: Callable[[], bool], what: str, pod: Pod) -> None:
    deadline = time.monotonic() + 60
    while not done():
        said = "\n".join(container.said() for container in pod.containers.values())
        assert time.monotonic() < deadline, f"{what} did not come:\n{said}"
        select.select([], [], [], 0.05)


def test_the_pod_serves_folds_drains_and_comes_back(manifests: list[Manifest], tmp_path: Path) -> None:
    vectors = clustered(ROWS, 8, seed=5)
    pod = Pod(manifests, tmp_path)
    try:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            pod.server.wait_for(probe)
        if pod.server.read_only:
            root = Path(f"/proc/{pod.server.process.pid}/root")
            with pytest.raises(OSError, match="Read-only file system"):
                (root / tmp_path.relative_to("/") / "outside").touch()
        with pod.client() as stranger:
            assert stranger.get("/collections").status_code == 401
        with pod.client(headers={"api-key": KEY}) as http:
            schema = {"vectors": {"size": 8, "distance": "Euclid"}, "hnsw_config": {"m": 4, "ef_construct": 16}}
            http.put("/collections/c", json=schema).raise_for_status()
            for start in range(0, ROWS, 3_000):
                points = [
                    {"id": row, "vector": vectors[row].tolist()} for row in range(start, min(ROWS, start + 3_000))
                ]
                http.put("/collections/c/points", json={"points": points}).raise_for_status()
            assert nearest(http, vectors[7]) == 7
            # By the worker: the server was told to start none.
            until(lambda: http.get("/collections/c").json()["result"]["indexed_vectors_count"] >= 10_000, "a fold", pod)
            assert nearest(http, vectors[7]) == 7
            for container in pod.containers.values():
                container.terminate()
            until(lambda: not pod.server.probe("readinessProbe"), "unreadiness", pod)
            # Until the Service knows it, requests still come, and are answered.
            assert pod.server.probe("livenessProbe")
            assert nearest(http, vectors[9]) == 9
        codes = {name: container.ended(pod.grace) for name, container in pod.containers.items()}
        assert codes == {"server": 0, "worker": 0}, [one.said() for one in pod.containers.values()]
        for container in pod.containers.values():
            assert "Traceback" not in container.said()
            assert " ERROR " not in container.said()
    finally:
        pod.close()

    again = Pod(manifests, tmp_path)
    try:
        again.server.wait_for("readinessProbe")
        with again.client(headers={"api-key": KEY}) as http:
            assert http.post("/collections/c/points/count", json={}).json()["result"]["count"] == ROWS
            assert nearest(http, vectors[ROWS - 1]) == ROWS - 1
    finally:
        again.close()


def nearest(http: httpx.Client, vector: np.ndarray) -> int:
    answer = http.post("/collections/c/points/query", json={"query": vector.tolist(), "limit": 1})
    return int(answer.raise_for_status().json()["result"]["points"][0]["id"])
