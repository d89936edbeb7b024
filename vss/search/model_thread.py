"""One thread that owns one loaded model, and the queue before it.

    submit -> waiting -> [chosen by priority, cut to a token budget] -> running -> finished
                 |  deadline passed or caller gone: dropped before any compute
                 |  too much waiting: refused at the door (OVERLOADED)

A model is not thread-safe, so nothing else ever calls it. While one batch is computed the next one gathers; no
request waits for a batch to fill. A long task is cut into batches too, and small tasks pass between them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vss.errors import Code, VssError
from vss.protocols import Candidates, Deadline, Embedder, EmbedderInfo, Reranker, RerankQuery
from vss.types import Role, Vectors

SECONDS_PER_TOKEN = 0.001
"""The alpha of `priority = arrival + alpha * cost`: a task of 1,000 tokens lets pass what arrives 1 s later."""

MAX_WAITING = 512
"""Tasks that may wait for one model."""

MAX_WAITING_TOKENS = 262_144
"""Estimated tokens that may wait for one model; a single task above it is taken when nothing else waits."""

BATCH_TOKENS = {"cpu": 2_048}
"""Estimated tokens of one call to `Embedder.embed` by device: a fifth of a second on two cores."""

ACCELERATOR_BATCH_TOKENS = 65_536

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Task:
    """One request: what it costs (estimated tokens), until when it is wanted, and where its answer goes."""

    cost: int
    deadline: Deadline
    arrival: float = field(default_factory=time.monotonic)
    answer: Future[Any] = field(default_factory=Future)
    _finishing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def priority(self) -> float:
        """Smaller goes first."""
        return self.arrival + SECONDS_PER_TOKEN * self.cost

    def unwanted(self) -> bool:
        """Whether nobody waits for the answer any more; a passed deadline is answered here."""
        if self.answer.done():
            return True
        try:
            self.deadline.check("waiting for the model")
        except VssError as error:
            self.fail(error)
            return True
        return False

    def finish(self, result: Any) -> None:
        """Give the answer, unless there is one already or the caller has gone."""
        with self._finishing:
            if not self.answer.done() and self.answer.set_running_or_notify_cancel():
                self.answer.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Give an error instead."""
        with self._finishing:
            if not self.answer.done() and self.answer.set_running_or_notify_cancel():
                self.answer.set_exception(error)


@dataclass(eq=False, slots=True, kw_only=True)
class EmbedTask(Task):
    """Texts to embed. `costs` and `made` run along `texts`; `cost` falls as batches are done."""

    texts: Sequence[str]
    costs: Sequence[int]
    role: Role
    made: list[Vectors] = field(default_factory=list)
    done: int = 0


@dataclass(eq=False, slots=True, kw_only=True)
class CountTask(Task):
    """Texts whose tokens are to be counted."""

    texts: Sequence[str]


@dataclass(eq=False, slots=True, kw_only=True)
class RerankTask(Task):
    """Candidates to score with one re-ranker."""

    reranker: str
    query: RerankQuery
    candidates: Candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched(Deadline):
    """A deadline that has also passed once the caller is gone."""

    task: Task

    def check(self, doing: str) -> None:
        if self.task.answer.done():
            raise VssError(Code.DEADLINE, f"the caller went away while {doing}")
        Deadline.check(self, doing)


class ModelThread:
    """The owner of one embedder (or none) and of the re-rankers that run on it."""

    def __init__(
        self,
        name: str,
        open_embedder: Callable[[], Embedder] | None,
        rerankers: Mapping[str, Callable[[Embedder | None], Reranker]],
        *,
        batch_tokens: int | None = None,
        max_waiting: int = MAX_WAITING,
        max_waiting_tokens: int = MAX_WAITING_TOKENS,
    ) -> None:
        self.name = name
        self.loaded = threading.Event()
        """Set once the model is ready or has failed."""
        self.failure: VssError | None = None
        """Why this model will never answer again."""
        self.info: EmbedderInfo | None = None
        self._open_embedder = open_embedder
        self._open_rerankers = rerankers
        self._embedder: Embedder | None = None
        self._rerankers: dict[str, Reranker] = {}
        self._batch_tokens = batch_tokens
        self._max_waiting = max_waiting
        self._max_waiting_tokens = max_waiting_tokens
        self._changed = threading.Condition()
        self._waiting: list[Task] = []
        self._running: list[Task] = []
        self._closing = False
        self._thread = threading.Thread(target=self._own, name=f"model {name}", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and alive."""
        return self.loaded.is_set() and self.failure is None

    def start(self) -> None:
        """Start loading; returns at once."""
        self._thread.start()

    def submit(self, task: Task) -> None:
        """Queue a task. VssError: OVERLOADED, MODEL_FAILED or UNAVAILABLE (closed)."""
        with self._changed:
            if self.failure is not None:
                raise _again(self.failure)
            self._waiting = [one for one in self._waiting if not one.unwanted()]
            tokens = sum(one.cost for one in self._waiting)
            if len(self._waiting) >= self._max_waiting or (
                self._waiting and tokens + task.cost > self._max_waiting_tokens
            ):
                raise VssError(
                    Code.OVERLOADED,
                    f"{len(self._waiting)} requests of about {tokens} tokens wait for {self.name} already",
                    hint="send again later, or fewer texts at once",
                )
            self._waiting.append(task)
            self._changed.notify()

    def close(self) -> None:
        """Fail all who wait, and let the thread end after the batch that it computes."""
        with self._changed:
            self._closing = True
            self._die(VssError(Code.UNAVAILABLE, f"{self.name} is closed"))
            self._changed.notify()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, `timeout` seconds at most."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _own(self) -> None:
        """The thread's life: load, serve, free. Whatever ends it fails everyone who waits."""
        try:
            self._load()
            self.loaded.set()
            self._serve()
        except BaseException as error:
            failure = (
                error
                if isinstance(error, VssError)
                else VssError(
                    Code.MODEL_FAILED,
                    f"the model {self.name} died: {type(error).__name__}",
                    hint="see the server's log, and restart it",
                )
            )
            _log.error("the model %s died: %s", self.name, failure, exc_info=failure is not error)
            with self._changed:
                self._die(failure)
        finally:
            self.loaded.set()
            self._free()

    def _load(self) -> None:
        if self._open_embedder is not None:
            self._embedder = self._open_embedder()
            self.info = self._embedder.info
            if self._batch_tokens is None:
                self._batch_tokens = BATCH_TOKENS.get(self.info.device, ACCELERATOR_BATCH_TOKENS)
        for name, open_reranker in self._open_rerankers.items():
            self._rerankers[name] = open_reranker(self._embedder)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._running = []
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                batch = self._running = self._next_batch()
            if batch:
                self._compute(batch)

    def _next_batch(self) -> list[Task]:
        """The first task by priority, and with it those that can share its call; they leave the queue."""
        self._waiting = sorted((task for task in self._waiting if not task.unwanted()), key=lambda task: task.priority)
        if not self._waiting:
            return []
        first = self._waiting[0]
        batch = [first]
        if isinstance(first, EmbedTask):
            left = self._budget - first.cost
            for task in self._waiting[1:]:
                if left <= 0:
                    break
                if isinstance(task, EmbedTask) and task.role is first.role:
                    batch.append(task)
                    left -= task.cost
        chosen = set(map(id, batch))
        self._waiting = [task for task in self._waiting if id(task) not in chosen]
        return batch

    @property
    def _budget(self) -> int:
        return self._batch_tokens or BATCH_TOKENS["cpu"]

    def _compute(self, batch: list[Task]) -> None:
        """Run one batch. An ordinary exception is its waiters' alone; anything worse ends the thread."""
        try:
            first = batch[0]
            if isinstance(first, EmbedTask):
                self._embed([task for task in batch if isinstance(task, EmbedTask)])
            elif isinstance(first, CountTask):
                first.finish(sum(self._model().lengths(first.texts)))
            elif isinstance(first, RerankTask):
                watched = _Watched(at=first.deadline.at, task=first)
                first.finish(self._rerankers[first.reranker].score(first.query, first.candidates, watched))
        except MemoryError:
            raise
        except Exception as error:
            if not isinstance(error, VssError):
                _log.exception("a batch of the model %s failed", self.name)
            for task in batch:
                task.fail(_failed(self.name, error))

    def _embed(self, tasks: list[EmbedTask]) -> None:
        """Embed up to the budget's worth of texts; tasks that are not finished go back into the queue."""
        texts: list[str] = []
        taken: list[int] = []
        left = self._budget
        for task in tasks:
            start = end = task.done
            while end < len(task.texts) and (left >= task.costs[end] or (not texts and end == start)):
                left -= task.costs[end]
                end += 1
            texts.extend(task.texts[start:end])
            taken.append(end - start)
        made = self._model().embed(texts, tasks[0].role)
        place = 0
        unfinished: list[Task] = []
        for task, count in zip(tasks, taken, strict=True):
            task.made.append(made[place : place + count])
            task.cost -= sum(task.costs[task.done : task.done + count])
            task.done += count
            place += count
            if task.done == len(task.texts):
                task.finish(np.concatenate(task.made))
            else:
                unfinished.append(task)
        with self._changed:
            self._running = []
            self._waiting.extend(unfinished)
            if self.failure is not None:  # closed meanwhile
                self._die(self.failure)

    def _model(self) -> Embedder:
        if self._embedder is None:
            raise VssError(Code.NOT_FOUND, f"{self.name} does not embed")
        return self._embedder

    def _die(self, failure: VssError) -> None:
        """Fail everyone at once; later requests fail at the door. Called with the lock held."""
        self.failure = self.failure or failure
        for task in (*self._waiting, *self._running):
            task.fail(_again(failure))
        self._waiting = []

    def _free(self) -> None:
        for owned in (*self._rerankers.values(), self._embedder):
            try:
                if owned is not None:
                    owned.close()
            except Exception:
                _log.exception("closing the model %s failed", self.name)
        self._embedder = None
        self._rerankers = {}


def _again(error: VssError) -> VssError:
    """A copy for one more waiter: an exception that is raised twice mixes up its tracebacks."""
    return VssError(error.code, error.message, field=error.field, hint=error.hint)


def _failed(name: str, error: Exception) -> VssError:
    if isinstance(error, VssError):
        return _again(error)
    # What a library says may hold paths and parts of other requests: it goes to the log alone.
    return VssError(Code.MODEL_FAILED, f"the model {name} failed: {type(error).__name__}", hint="see the server's log")
