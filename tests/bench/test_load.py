"""`vss bench load`: real servers, short loads; what is measured is what happened."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from api.bench.http_client import request
from api.bench.load import address, choose_cores, parse_rate
from api.bench.load_client import run_apart
from api.bench.load_cpu import cpu_seconds
from api.bench.load_figures import figures, percentiles
from api.bench.load_loops import UNFINISHED, ClosedLoop, Load, OpenLoop, Operation, Outcome, Plan, poisson
from api.bench.load_workloads import parse_mix
from api.cli.main import commands
from tests.api.server_process import ServerProcess
from vss.errors import VssError

DIM = 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with 300 points in `items` and a collection of named vectors."""
    running = ServerProcess(tmp_path_factory.mktemp("load") / "data", models="[]")
    vectors = np.random.default_rng(5).normal(size=(300, DIM))
    try:
        with running.client() as client:
            for name, params in (
                ("items", {"size": DIM, "distance": "Cosine"}),
                ("named", {"a": {"size": 2, "distance": "Dot"}}),
            ):
                client.put(f"/collections/{name}", json={"vectors": params}).raise_for_status()
            points = [
                {"id": row, "vector": vector.tolist(), "payload": {"even": row % 2 == 0}}
                for row, vector in enumerate(vectors)
            ]
            client.put("/collections/items/points?wait=true", json={"points": points}).raise_for_status()
        yield running
    finally:
        running.stop()


def plan(server: ServerProcess, **given: Any) -> Plan:
    """A load of empty replies."""
    operations = [Operation(name="empty", requests=[request("GET", "/livez", "x")])]
    values = {"host": "127.0.0.1", "port": server.port, "operations": operations, "connections": 4}
    return Plan(**(values | {"seconds": 0.5, "most": 100_000, "seed": 3, "server": server.process.pid} | given))


def run_here(load: Load) -> Outcome:
    """Run a load in this process, on an event loop as its own process has it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load.run())


def vss(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`vss bench load`, to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VSS_")}
    return subprocess.run(
        [sys.executable, "-m", "api.cli", "bench", "load", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


def test_a_stall_of_the_server_shows_in_the_open_loop(server: ServerProcess) -> None:
    """A closed loop would send next to nothing during it; here all that was due then has waited."""
    load = OpenLoop(plan(server, rate=200.0, seconds=1.5))

    def stall() -> None:
        until = time.monotonic() + 30
        while load.answers < 40 and time.monotonic() < until:
            time.sleep(0.005)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=stall)
    thread.start()
    try:
        outcome = run_here(load)
    finally:
        thread.join()
    found = figures(load.plan, outcome)
    assert found["failures"] == {}
    assert found["p99_ms"] >= 200
    assert np.frombuffer(outcome.latencies).max() >= 0.25
    # 60 requests are due in 300 ms and four connections can hold but four of them.
    assert (np.frombuffer(outcome.latencies) > 0.05).sum() > 20


def test_the_open_loop_asks_when_it_was_due_whatever_the_answers(server: ServerProcess) -> None:
    """One connection or eight, and a rate that nothing could keep: the schedule is the seed's."""
    schedule = poisson(300.0, 0.4, 100_000, 3)
    for connections in (1, 8):
        outcome = run_here(OpenLoop(plan(server, rate=300.0, seconds=0.4, connections=connections)))
        assert np.allclose(np.sort(np.frombuffer(outcome.due)), schedule, rtol=0, atol=1e-9)
    flooded = run_here(OpenLoop(plan(server, rate=200_000.0, seconds=0.2, connections=1, most=1_500)))
    due = poisson(200_000.0, 0.2, 1_500, 3)
    assert np.allclose(np.sort(np.frombuffer(flooded.due)), due, rtol=0, atol=1e-9)
    # Requests wait their turn: those due last have waited longest.
    order = np.argsort(np.frombuffer(flooded.due))
    taken = np.frombuffer(flooded.latencies)[order]
    assert np.median(taken[-200:]) > 3 * np.median(taken[:50])


def test_the_schedule_is_a_poisson_process() -> None:
    gaps = np.diff(poisson(1_000.0, 100.0, 1_000_000, 1))
    assert len(gaps) == pytest.approx(100_000, rel=0.02)
    assert gaps.mean() == pytest.approx(1e-3, rel=0.02)
    assert gaps.std() == pytest.approx(1e-3, rel=0.02)
    assert poisson(1_000.0, 1.0, 100, 1) == poisson(1_000.0, 9.0, 100, 1)
    assert poisson(1_000.0, 1.0, 100, 1) != poisson(1_000.0, 1.0, 100, 2)


def test_percentiles_of_a_known_distribution() -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1, 1001)) / 1e3
    assert percentiles(shuffled) == pytest.approx({"p50_ms": 500, "p90_ms": 900, "p99_ms": 990, "max_ms": 1000})
    assert all(np.isnan(value) for value in percentiles(np.array([])).values())


def test_the_closed_loop_ends_after_its_requests(server: ServerProcess) -> None:
    found = run_apart(plan(server, most=37, seconds=60.0))
    assert len(np.frombuffer(found.latencies)) == 37
    assert set(np.frombuffer(found.statuses, np.uint16)) == {200}


def test_cpu_of_server_and_client_is_counted(server: ServerProcess) -> None:
    load = plan(server, seconds=1.0)
    found = figures(load, run_apart(load))
    assert found["requests"] > 0
    assert found["server_cpu_us"] > 0
    assert found["server_cpu_us"] == pytest.approx(sum(found["server_cpu_us_by_role"].values()))
    # One core each at most; the kernel's ticks are coarse.
    assert 0 < found["client_cores_used"] <= 1.1
    assert 0 < found["server_cores_used"] <= os.cpu_count()  # type: ignore[operator]
    assert found["per_second"] == pytest.approx(found["requests"] / found["seconds"])


def test_children_and_the_ended_count() -> None:
    burn = "import subprocess,sys,time\nwhile time.process_time() < {0}: pass\n"
    child = burn.format(0.3)
    program = f"subprocess.run([sys.executable, '-c', {child!r}])\nprint('burnt', flush=True)\ntime.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", "import subprocess,sys,time\n" + program], stdout=subprocess.PIPE
    ) as one:
        assert one.stdout is not None
        try:
            assert one.stdout.readline() == b"burnt\n"
            assert sum(cpu_seconds(one.pid).values()) >= 0.28
        finally:
            one.kill()
    with pytest.raises(VssError, match="no process"):
        cpu_seconds(one.pid)


def test_a_refusal_is_a_failure_and_no_latency(server: ServerProcess) -> None:
    operations = [
        Operation(name="right", requests=[request("GET", "/livez", "x")]),
        Operation(name="wrong", requests=[request("GET", "/collections/absent", "x")]),
    ]
    load = plan(server, operations=operations, most=200)
    outcome = run_here(ClosedLoop(load))
    found = figures(load, outcome)
    assert set(found["failures"]) == {"404"}
    assert found["requests"] + found["failures"]["404"] == 200
    assert found["requests"] > 50
    assert found["operations"]["wrong"]["requests"] == 0


def test_what_no_answer_came_to_counts_with_the_time_it_waited(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.bench.load_loops.DRAIN_SECONDS", 0.1)
    load = plan(server, rate=100.0, seconds=0.3, connections=2)
    server.process.send_signal(signal.SIGSTOP)
    try:
        # The kernel accepts connections for a stopped process.
        outcome = run_here(OpenLoop(load))
    finally:
        server.process.send_signal(signal.SIGCONT)
    statuses = np.frombuffer(outcome.statuses, np.uint16)
    assert len(statuses) == len(poisson(100.0, 0.3, 100, 3))
    assert set(statuses) == {UNFINISHED}
    found = figures(load, outcome)
    assert found["failures"] == {"unfinished": len(statuses)}
    assert found["p99_ms"] >= 300


def test_rates_mixes_and_addresses_are_read() -> None:
    assert parse_rate("0.7x").of(1000.0) == 700.0
    assert parse_rate("250").of(1000.0) == 250.0
    assert parse_mix("query=0.9,upsert=0.1") == {"query": 0.9, "upsert": 0.1}
    assert address("http://127.0.0.1:6333") == ("127.0.0.1", 6333)
    for bad in ("0", "-1x", "fast", "nan"):
        with pytest.raises(VssError, match="--rate"):
            parse_rate(bad)
    for bad in ("query", "query=0", "query=x", "walk=1", "query=1,query=2", ""):
        with pytest.raises(VssError, match="--mix"):
            parse_mix(bad)
    for bad in ("https://a:1", "a:1", "http://a/b", "http://a:x"):
        with pytest.raises(VssError, match="--url"):
            address(bad)


def test_server_and_client_get_cores_of_their_own_where_there_are_enough() -> None:
    assert choose_cores([0, 1], 1) == ((0,), 1)
    assert choose_cores([0, 1], 2) == ((0, 1), 1)
    assert choose_cores([0, 1, 2, 3], 3) == ((0, 1, 2), 3)
    assert choose_cores([4], 1) == ((4,), 4)
    assert choose_cores([0, 1, 2], 1, server=[2], client=0) == ((2,), 0)
    assert [choose_cores([0, 1], count).apart for count in (1, 2)] == [True, False]
    with pytest.raises(VssError, match="--client-core"):
        choose_cores([0, 1], 1, client=7)


def test_a_served_collection_is_measured_and_left_as_it_was(server: ServerProcess, tmp_path: Path) -> None:
    mixed = "query=0.2,filter=0.2,batch=0.2,retrieve=0.2,upsert=0.2"
    out, png = tmp_path / "lines.jsonl", tmp_path / "latency.png"
    done = vss(
        *("--url", server.url, "-c", "items", "--pid", str(server.process.pid), "--seconds", "0.3"),
        *("--repetitions", "1", "-o", "query", "--mix", mixed, "--rate", "150"),
        *("--filter", '{"must": [{"key": "even", "match": {"value": true}}]}'),
        *("--out", str(out), "--png", str(png)),
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    by = {(line["figure"], line["workload"]): line for line in lines}
    assert set(by) == {("ceiling", "/livez")} | {
        (loop, work) for loop in ("closed", "open") for work in ("query", mixed)
    }
    for (loop, work), line in by.items():
        assert line["failures"] == {}, (loop, work)
        assert line["seed"] == 7
        assert line["requests"] > 0
        assert line["p50_ms"]["min"] > 0
        if loop != "ceiling":
            assert line["recall@10"]["min"] == 1.0, (loop, work)
            assert line["queries"] == "stored"
    assert by["open", "query"]["rate"]["median"] == 150
    assert by["closed", mixed]["operations"].keys() == {"query", "filter", "batch", "retrieve", "upsert"}
    assert by["closed", "query"]["server_cpu_us"]["median"] > 0
    assert png.read_bytes()[:4] == b"\x89PNG"
    with server.client() as client:
        assert client.post("/collections/items/points/count", json={}).json()["result"]["count"] == 300


def test_servers_of_its_own_are_started_filled_and_asked(tmp_path: Path) -> None:
    npy = tmp_path / "some.npy"
    np.save(npy, np.random.default_rng(1).normal(size=(600, DIM)).astype(np.float32))
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"item {row} of {row % 7}\n" for row in range(200)))
    done = vss(
        *(
            "--texts",
            str(texts),
            "--npy",
            str(npy),
            "--queries",
            "240",
            "--seconds",
            "0.2",
            "--repetitions",
            "1",
            "--connections",
            "4",
        ),
        *("--mix", "query=0.4,text=0.4,upsert100=0.2", "--requests", "100", "--workers", "1,2"),
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(line["figure"], line["workers"]) for line in lines} == {
        *((figure, count) for figure in ("ceiling", "closed", "open") for count in (1, 2)),
        ("scaling", 2),
    }
    for line in lines:
        if line["figure"] in ("closed", "open"):
            assert line["points"] == 360
            assert line["queries"] == "held out"
            assert line["failures"] == {}
            assert line["recall@10"]["min"] == 1.0  # so few are searched exactly
            roles = {"supervisor", "writer"} | ({"reader"} if line["workers"] == 2 else set())
            assert set(line["server_cpu_us_by_role"]) == roles


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "http://127.0.0.1:9", "-c", "items"], "no server answers"),
        (["--url", "URL", "-c", "absent"], "absent"),
        (["--url", "URL", "-c", "named"], "named vectors"),
        (["--url", "URL"], "--collection"),
        (["--url", "URL", "-c", "items", "-o", "filter"], "--filter"),
        (["--url", "URL", "-c", "items", "-o", "text"], "--texts"),
        (["--url", "URL", "-c", "items", "--pid", "999999999"], "no process"),
        (["--mix", "query=much"], "--mix"),
        (["-o", "dance"], "dance"),
        (["--npy", "absent.npy"], "absent.npy"),
        (["--workers", "many"], "--workers"),
    ],
)
def test_what_cannot_be_measured_is_said(server: ServerProcess, arguments: list[str], said: str) -> None:
    given = [server.url if one == "URL" else one for one in arguments]
    with pytest.raises(VssError, match=said):
        commands(["bench", "load", *given], standalone_mode=False)
