"""The two loops of a load, as the client's process runs them.

closed   each connection sends when its answer has come: what the server can do
open     requests are due at moments of a Poisson process that no answer can move: what users feel at that rate. A
         request that is due while every connection is busy waits, and its latency is counted from when it was due
         (G. Tene, "How NOT to measure latency", 2015: a closed loop omits just the requests that a stall would hurt)

Nothing here needs numpy, so that the process starts fast.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
import time
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec
import uvloop

from api.bench.http_client import UNREADABLE, Connection
from api.bench.load_cpu import cpu_seconds

LOST, UNFINISHED = 1, 2
"""In place of a status (as UNREADABLE is): the connection ended before an answer; none had come when the load ended."""

DRAIN_SECONDS = 5.0
"""How long answers are waited for after the last request."""

_CHOICES = 4096
"""Operations are drawn so many at a time, then in the same order again."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one kind, asked in turn. The first answers to the first `sample` of them are kept."""

    name: str
    requests: list[bytes]
    weight: float = 1.0
    sample: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One load. rate: requests/s of the open loop; None is the closed one. It ends after `seconds` or `most` requests,
    whichever comes first; nothing of the first `warmup` seconds, a closed loop, is counted.
    server: the process whose CPU is read at the beginning and the end; core: where the client runs."""

    host: str
    port: int
    operations: list[Operation]
    connections: int
    seconds: float
    most: int
    seed: int
    rate: float | None = None
    warmup: float = 0.0
    core: int | None = None
    server: int | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a load gave. The arrays are parallel, one entry for each request.

    due:        float64, seconds from the beginning to when it was sent, or should have been in the open loop
    latencies:  float64, seconds from then to the whole answer
    operations: uint8, places in the plan's operations
    statuses:   uint16, HTTP's, or LOST or UNFINISHED
    late:       float64, of the open loop: seconds from when a request was due to when the client was awake to it
    samples:    operation, request and body of the answers that were kept
    seconds:    that the load took, answers to the last requests included
    server_cpu: seconds by role between beginning and end; empty without a process
    client_cpu: seconds of the client's process
    """

    due: bytes
    latencies: bytes
    operations: bytes
    statuses: bytes
    late: bytes
    samples: list[tuple[int, int, bytes]]
    seconds: float
    server_cpu: dict[str, float]
    client_cpu: float


def poisson(rate: float, seconds: float, most: int, seed: int) -> list[float]:
    """When requests are due, in seconds from the beginning: at most so many, none after `seconds`."""
    draw, at, due = random.Random(seed), 0.0, list[float]()
    while len(due) < most:
        at += draw.expovariate(rate)
        if at >= seconds:
            break
        due.append(at)
    return due


def run(plan: Plan) -> Outcome:
    """Run one load to its end. OSError when the server takes no connection."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if plan.warmup > 0:
            warmup = msgspec.structs.replace(plan, rate=None, seconds=plan.warmup, server=None)
            runner.run(ClosedLoop(warmup).run())
        return runner.run((ClosedLoop(plan) if plan.rate is None else OpenLoop(plan)).run())


class Load(ABC):
    """One load of one plan; `run` may be awaited once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._calls = _in_order(plan)
        self._asked: dict[Connection, tuple[float, int, int]] = {}
        self._ended = asyncio.Event()
        self._connections: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._began = 0.0
        self._due, self._latencies, self._late = array("d"), array("d"), array("d")
        self._operations, self._statuses = array("B"), array("H")
        self._samples: dict[tuple[int, int], bytes] = {}

    @property
    def answers(self) -> int:
        """How many requests are over, for those who look on."""
        return len(self._latencies)

    async def run(self) -> Outcome:
        """Connect, send, wait for the answers."""
        try:
            for _ in range(self.plan.connections):
                await self._connect()
            gc.collect()
            gc.disable()  # a collection in the client would look like latency of the server
            server_before, client_before = self._server_cpu(), time.process_time()
            self._began = time.perf_counter()
            self._begin()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self.plan.seconds + DRAIN_SECONDS)
            seconds = time.perf_counter() - self._began
            client_after, server_after = time.process_time(), self._server_cpu()
        finally:
            gc.enable()
            self._close()
        for due, operation, _ in self._left():
            self._note(due, self._began + seconds, operation, UNFINISHED)
        return Outcome(
            due=self._due.tobytes(),
            latencies=self._latencies.tobytes(),
            operations=self._operations.tobytes(),
            statuses=self._statuses.tobytes(),
            late=self._late.tobytes(),
            samples=[(*place, body) for place, body in self._samples.items()],
            seconds=seconds,
            server_cpu={role: used - server_before.get(role, 0.0) for role, used in server_after.items()},
            client_cpu=client_after - client_before,
        )

    @abstractmethod
    def _begin(self) -> None:
        """Every connection stands; send, or have sent."""

    @abstractmethod
    def _next(self, connection: Connection) -> None:
        """A connection has nothing to do."""

    def _left(self) -> Iterable[tuple[float, int, int]]:
        """The requests that have no answer, as `_asked` holds them."""
        return self._asked.values()

    def _send(self, connection: Connection, due: float) -> None:
        operation, number = next(self._calls)
        self._asked[connection] = (due, operation, number)
        connection.send(self.plan.operations[operation].requests[number])

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        due, operation, number = self._asked.pop(connection)
        self._note(due, now, operation, status)
        if status == 200 and number < self.plan.operations[operation].sample:
            self._samples.setdefault((operation, number), body)
        if status != UNREADABLE:
            self._next(connection)

    def _note(self, due: float, now: float, operation: int, status: int) -> None:
        self._due.append(due - self._began)
        self._latencies.append(now - due)
        self._operations.append(operation)
        self._statuses.append(status)

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._ended.is_set():
            return
        if asked := self._asked.pop(connection, None):
            self._note(asked[0], time.perf_counter(), asked[1], LOST)
        task = asyncio.get_running_loop().create_task(self._reconnect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _reconnect(self) -> None:
        try:
            connection = await self._connect()
        except OSError:
            if not self._connections:
                self._ended.set()  # the server is gone
            return
        self._next(connection)

    async def _connect(self) -> Connection:
        connection = Connection(self._answered, self._lost)
        await asyncio.get_running_loop().create_connection(lambda: connection, self.plan.host, self.plan.port)
        self._connections.add(connection)
        return connection

    def _close(self) -> None:
        self._ended.set()
        for task in self._connecting:
            task.cancel()
        for connection in tuple(self._connections):
            connection.close()

    def _server_cpu(self) -> dict[str, float]:
        return {} if self.plan.server is None else cpu_seconds(self.plan.server)


class ClosedLoop(Load):
    """Each connection sends the next request when its answer has come."""

    def _begin(self) -> None:
        self._to_send = self.plan.most
        self._until = self._began + self.plan.seconds
        for connection in tuple(self._connections):
            self._next(connection)

    def _next(self, connection: Connection) -> None:
        now = time.perf_counter()
        if self._to_send and now < self._until:
            self._to_send -= 1
            self._send(connection, now)
        elif not self._asked:
            self._ended.set()


class OpenLoop(Load):
    """Requests are due at moments drawn before; one that finds no free connection waits, and its clock runs."""

    def _begin(self) -> None:
        assert self.plan.rate is not None
        self._free = list(self._connections)
        self._waiting: deque[float] = deque()
        schedule = poisson(self.plan.rate, self.plan.seconds, self.plan.most, self.plan.seed)
        self._to_come = len(schedule)
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._pace, args=(loop, schedule), daemon=True).start()
        self._end_if_done()

    def _pace(self, loop: asyncio.AbstractEventLoop, schedule: list[float]) -> None:
        # A thread that sleeps wakes within some 60 us; timers of an event loop count whole milliseconds.
        for offset in schedule:
            due = self._began + offset
            wait = due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            if self._ended.is_set():
                return
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._is_due, due)

    def _is_due(self, due: float) -> None:
        self._to_come -= 1
        self._late.append(time.perf_counter() - due)
        if self._free:
            self._send(self._free.pop(), due)
        else:
            self._waiting.append(due)

    def _next(self, connection: Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
            return
        self._free.append(connection)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not (self._to_come or self._waiting or self._asked):
            self._ended.set()

    def _left(self) -> Iterable[tuple[float, int, int]]:
        waiting = ((due, *next(self._calls)) for due in self._waiting)
        return itertools.chain(self._asked.values(), waiting)


def _in_order(plan: Plan) -> Iterator[tuple[int, int]]:
    """Operation and request of each call, without end: drawn by weight, and in turn within an operation."""
    turns = [itertools.cycle(range(len(one.requests))) for one in plan.operations]
    weights = [one.weight for one in plan.operations]
    drawn = random.Random(plan.seed).choices(range(len(turns)), weights, k=_CHOICES)
    for operation in itertools.cycle(drawn):
        yield operation, next(turns[operation])
