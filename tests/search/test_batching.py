"""The micro-batcher: who goes first, who is refused, and that nobody waits for a model that is dead."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from vss.errors import Code, VssError
from vss.protocols import Candidates, Deadline, Embedder, EmbedderInfo, RerankQuery
from vss.search.batching import ModelHost, RerankerSource
from vss.search.model_thread import EmbedTask, ModelThread
from vss.types import Role, Scores, Vectors

FOREVER = Deadline()
INFO = EmbedderInfo(name="m", fingerprint="f", dim=2, max_tokens=100)


class Gated:
    """An embedder of (length, 1) that computes nothing until its gate opens, and notes each call."""

    def __init__(self) -> None:
        self.info = INFO
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.calls: list[tuple[tuple[str, ...], Role]] = []
        self.error: BaseException | None = None
        self.closed = False

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        self.calls.append((tuple(texts), role))
        self.entered.set()
        assert self.gate.wait(30)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    def close(self) -> None:
        self.closed = True


class Slow:
    """A re-ranker of many batches that looks at its deadline between them."""

    name = "slow"
    needs = frozenset({"text"})

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.batch = threading.Semaphore(0)
        self.batches = 0
        self.stopped = threading.Event()

    def score(self, query: RerankQuery, candidates: Candidates, deadline: Deadline) -> Scores:
        self.entered.set()
        try:
            for _ in candidates.texts:
                assert self.batch.acquire(timeout=30)
                deadline.check("re-ranking")
                self.batches += 1
            return candidates.similarity.copy()
        finally:
            self.stopped.set()

    def close(self) -> None:
        pass


@contextmanager
def hosted(model: Gated, **limits: int) -> Iterator[ModelHost]:
    host = ModelHost({"m": lambda: model}, {}, **limits)
    host.start()
    host.wait(30)
    try:
        yield host
    finally:
        model.gate.set()
        host.close()


async def entered(event: threading.Event) -> None:
    """Wait for another thread without blocking the loop."""
    assert await asyncio.to_thread(event.wait, 30)


def ask(host: ModelHost, *texts: str, role: Role = Role.QUERY, deadline: Deadline = FOREVER) -> asyncio.Task[Vectors]:
    return asyncio.ensure_future(host.embed("m", texts, role, deadline))


async def busy(host: ModelHost, model: Gated) -> asyncio.Task[Vectors]:
    """One request inside the model; those that follow wait in the queue."""
    first = ask(host, "first")
    await entered(model.entered)
    return first


async def queued(*tasks: asyncio.Task[Vectors]) -> None:
    """Let each task run until it waits for its answer: submitting needs no more than a turn of the loop."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


async def code(waiter: asyncio.Future[Vectors]) -> Code:
    with pytest.raises(VssError) as caught:
        await asyncio.wait_for(waiter, 30)
    return caught.value.code


def run(test: Callable[[Gated, ModelHost], object], **limits: int) -> Gated:
    model = Gated()
    with hosted(model, **limits) as host:
        asyncio.run(test(model, host))  # type: ignore[arg-type]
    return model


def test_waiting_requests_share_a_call_and_each_gets_its_own_rows() -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        first = await busy(host, model)
        others = [ask(host, "a" * size, "b") for size in (3, 5, 7)]
        await queued(*others)
        model.gate.set()
        assert (await first).tolist() == [[5, 1]]
        assert [(await one).tolist() for one in others] == [[[size, 1], [1, 1]] for size in (3, 5, 7)]
        assert len(model.calls) == 2

    assert run(test).closed


def test_queries_and_documents_never_share_a_call() -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        await busy(host, model)
        others = [ask(host, f"text {i}", role=list(Role)[i % 2]) for i in range(6)]
        await queued(*others)
        model.gate.set()
        await asyncio.gather(*others)
        assert sorted((len(texts), role) for texts, role in model.calls[1:]) == [
            (3, Role.DOCUMENT),
            (3, Role.QUERY),
        ]

    run(test)


def test_a_small_task_passes_a_large_one_between_its_batches() -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        large = ask(host, *["word " * 60] * 40, role=Role.DOCUMENT)
        await entered(model.entered)
        small = ask(host, "small")
        await queued(large, small)
        model.gate.set()
        assert (await small).shape == (1, 2)
        assert (await large).shape == (40, 2)
        place = [texts for texts, _ in model.calls].index(("small",))
        assert place == 1
        assert len(model.calls) > 10

    run(test, batch_tokens=300)


def test_a_large_task_goes_before_small_ones_that_came_much_later() -> None:
    """Small tasks that keep coming cannot starve a large one: what arrives 60 s later waits behind it."""
    model = Gated()
    thread = ModelThread("m", lambda: model, {})
    thread.start()

    def task(text: str, cost: int, arrival: float, role: Role) -> EmbedTask:
        made = EmbedTask(cost=cost, deadline=FOREVER, texts=[text], costs=[cost], role=role, arrival=arrival)
        thread.submit(made)
        return made

    task("first", 1, 0, Role.QUERY)
    assert model.entered.wait(30)
    waiting = [
        task("small, 60 s later", 10, 160, Role.DOCUMENT),
        task("large", 2048, 100, Role.DOCUMENT),
        task("small, 1 s later", 10, 101, Role.QUERY),
    ]
    model.gate.set()
    for one in waiting:
        one.answer.result(30)
    order = [("first",), ("small, 1 s later",), ("large",), ("small, 60 s later",)]
    assert [texts for texts, _ in model.calls] == order
    thread.close()


def test_one_too_many_is_refused_at_the_door() -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        await busy(host, model)
        waiting = [ask(host, f"text {i}") for i in range(3)]
        await queued(*waiting)
        assert await code(ask(host, "one too many")) is Code.OVERLOADED
        waiting[0].cancel()  # who goes away makes room
        await queued(*waiting[1:])
        room = ask(host, "fits")
        await queued(room)
        model.gate.set()
        assert (await room).shape == (1, 2)

    run(test, max_waiting=3)


def test_too_many_tokens_are_refused_but_one_big_task_is_taken() -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        await busy(host, model)
        big = ask(host, *["word " * 100] * 20, role=Role.DOCUMENT)
        await queued(big)
        assert await code(ask(host, "small")) is Code.OVERLOADED
        model.gate.set()
        assert (await big).shape == (20, 2)

    run(test, max_waiting_tokens=500)


def test_a_late_request_is_answered_while_the_model_is_busy_and_never_computed() -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        first = await busy(host, model)
        assert await code(ask(host, "late", deadline=Deadline.after_ms(1))) is Code.DEADLINE
        assert await code(ask(host, "too late", deadline=Deadline(at=0.0))) is Code.DEADLINE
        model.gate.set()
        await first
        await ask(host, "next")
        assert [texts for texts, _ in model.calls] == [("first",), ("next",)]

    run(test)


def test_an_abandoned_request_is_never_computed() -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        first = await busy(host, model)
        gone = ask(host, "abandoned")
        await queued(gone)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        model.gate.set()
        await first
        await ask(host, "next")
        assert [texts for texts, _ in model.calls] == [("first",), ("next",)]

    run(test)


def test_an_ordinary_failure_is_that_of_its_batch_only() -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        model.error = ValueError("bad text in /home/me/model")
        first = await busy(host, model)
        second = ask(host, "second")
        await queued(second)
        model.gate.set()
        with pytest.raises(VssError, match="failed: ValueError") as caught:
            await first
        assert caught.value.code is Code.MODEL_FAILED
        assert "/home" not in str(caught.value)  # the log has it; a client has no business with it
        assert (await second).tolist() == [[6, 1]]
        assert host.ready

    run(test)


@pytest.mark.parametrize("error", [MemoryError("no more in /home/me/model"), SystemExit(3), KeyboardInterrupt()])
def test_a_dead_model_fails_all_its_waiters_and_all_who_come_later(error: BaseException) -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        model.error = error
        waiters = [await busy(host, model), ask(host, "second"), ask(host, "third", role=Role.DOCUMENT)]
        await queued(*waiters)
        model.gate.set()
        assert [await code(waiter) for waiter in waiters] == [Code.MODEL_FAILED] * 3
        with pytest.raises(VssError, match="died") as later:
            await ask(host, "later")
        assert later.value.code is Code.MODEL_FAILED
        assert "/home" not in str(later.value)
        assert not host.ready
        assert host.infos() == []
        with pytest.raises(VssError):
            host.info("m")

    run(test)


def test_closing_fails_those_who_wait() -> None:
    model = Gated()

    async def test(host: ModelHost) -> None:
        waiters = [await busy(host, model), ask(host, "second")]
        await queued(*waiters)
        closing = asyncio.create_task(asyncio.to_thread(host.close))
        assert [await code(waiter) for waiter in waiters] == [Code.UNAVAILABLE] * 2
        model.gate.set()
        await closing
        assert await code(ask(host, "later")) is Code.UNAVAILABLE

    with hosted(model) as host:
        asyncio.run(test(host))
    assert model.closed


def test_a_model_that_does_not_load_says_why() -> None:
    def broken() -> Gated:
        raise VssError(Code.UNSUPPORTED, "no such extra", hint="install it")

    host = ModelHost({"m": broken})
    host.start()
    with pytest.raises(VssError, match="no such extra"):
        host.wait(30)
    assert not host.ready

    async def test() -> None:
        assert await code(ask(host, "text")) is Code.UNSUPPORTED

    asyncio.run(test())
    host.close()


def test_requests_made_while_it_loads_wait_for_it() -> None:
    model, load = Gated(), threading.Event()
    model.gate.set()

    def slowly() -> Gated:
        assert load.wait(30)
        return model

    host = ModelHost({"m": slowly})
    host.start()
    assert not host.ready
    with pytest.raises(VssError) as caught:
        host.info("m")
    assert caught.value.code is Code.UNAVAILABLE

    async def test() -> None:
        early = ask(host, "early")
        await queued(early)
        load.set()
        assert (await early).tolist() == [[5, 1]]
        assert host.ready
        assert host.info("m") == INFO

    asyncio.run(test())
    host.close()


def test_a_model_is_loading_until_its_rerankers_are_open() -> None:
    opening, go = threading.Event(), threading.Event()

    def slowly(_: Embedder | None) -> Slow:
        opening.set()
        assert go.wait(30)
        return Slow()

    host = ModelHost({"m": Gated}, {"slow": RerankerSource("m", slowly)})
    host.start()
    assert opening.wait(30)
    with pytest.raises(VssError) as caught:
        host.info("m")
    assert caught.value.code is Code.UNAVAILABLE
    go.set()
    host.wait(30)
    assert host.info("m") == INFO
    host.close()


def test_an_unknown_name_says_what_is_served() -> None:
    async def test(model: Gated, host: ModelHost) -> None:
        with pytest.raises(VssError, match=r"no model 'x'.*served are: m"):
            await host.embed("x", ["text"], Role.QUERY, FOREVER)
        with pytest.raises(VssError, match="no re-ranker 'x'"):
            await host.rerank("x", RerankQuery(wanted=("q",)), _candidates(1), FOREVER)
        assert (await host.embed("m", [], Role.QUERY, FOREVER)).shape == (0, 2)
        assert await host.tokens("m", ["two words", "and three more"]) == 5

    run(test)


def _candidates(count: int) -> Candidates:
    return Candidates(texts=("text",) * count, similarity=np.arange(count, dtype=np.float32))


@pytest.mark.parametrize("own_thread", [True, False])
def test_an_abandoned_rerank_gives_the_thread_back_after_its_batch(own_thread: bool) -> None:
    model, slow = Gated(), Slow()
    model.gate.set()
    source = RerankerSource(None if own_thread else "m", lambda embedder: slow)
    host = ModelHost({"m": lambda: model}, {"slow": source})
    host.start()
    host.wait(30)

    async def test() -> None:
        query = RerankQuery(wanted=("q",))
        late = asyncio.create_task(host.rerank("slow", query, _candidates(5), FOREVER))
        await entered(slow.entered)
        slow.batch.release()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        for _ in range(4):
            slow.batch.release()
        await entered(slow.stopped)
        assert slow.batches < 5
        for _ in range(5):
            slow.batch.release()
        assert (await host.rerank("slow", query, _candidates(2), FOREVER)).tolist() == [0, 1]
        assert (await ask(host, "text")).shape == (1, 2)

    asyncio.run(test())
    host.close()
