"""The micro-batcher: `ModelHost` is the one owner of loaded models (`vss.protocols.Models`).

    caller's event loop --submit--> ModelThread (one for each embedder, with the re-rankers that run on it)
                        <--answer--

`vss` imports no embedder: what is served is given as factories, called in the model's own thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vss.errors import Code, VssError
from vss.protocols import Candidates, Deadline, Embedder, EmbedderInfo, Reranker, RerankQuery
from vss.search.model_thread import (
    MAX_WAITING,
    MAX_WAITING_TOKENS,
    CountTask,
    EmbedTask,
    ModelThread,
    RerankTask,
    Task,
)
from vss.types import Role, Scores, Vectors

_UNKNOWN_LIMIT = 512
"""Tokens that a model is taken to read of a text while it still loads."""


@dataclass(frozen=True, slots=True)
class RerankerSource:
    """Where a re-ranker comes from.

    model: the embedder that it runs on, whose thread it shares; None gives it a thread of its own
    open:  called once in that thread with the loaded embedder (None when `model` is)
    """

    model: str | None
    open: Callable[[Embedder | None], Reranker]


class ModelHost:
    """`vss.protocols.Models`: usable from any event loop and any number of them.

    >>> host = ModelHost({"hashing": HashingEmbedder}, {})
    >>> host.start()
    >>> await host.embed("hashing", ["a text"], Role.QUERY, Deadline.after_ms(500))
    """

    def __init__(
        self,
        embedders: Mapping[str, Callable[[], Embedder]],
        rerankers: Mapping[str, RerankerSource] | None = None,
        *,
        batch_tokens: int | None = None,
        max_waiting: int = MAX_WAITING,
        max_waiting_tokens: int = MAX_WAITING_TOKENS,
    ) -> None:
        """Nothing is loaded before `start`.

        batch_tokens: estimated tokens of one model call; None takes what suits the model's device
        max_waiting, max_waiting_tokens: what may wait for one model before requests are refused

        Raises VssError (NOT_FOUND) for a re-ranker on an embedder that is not served.
        """
        sources = dict(rerankers or {})
        limits: dict[str, Any] = {
            "batch_tokens": batch_tokens,
            "max_waiting": max_waiting,
            "max_waiting_tokens": max_waiting_tokens,
        }
        self._embedders: dict[str, ModelThread] = {}
        self._rerankers: dict[str, ModelThread] = {}
        for name, open_embedder in embedders.items():
            own = {key: source.open for key, source in sources.items() if source.model == name}
            self._embedders[name] = ModelThread(name, open_embedder, own, **limits)
        for key, source in sources.items():
            if source.model is None:
                self._rerankers[key] = ModelThread(key, None, {key: source.open}, **limits)
            else:
                self._rerankers[key] = self._embedder(source.model)
        self._threads = list(dict.fromkeys([*self._embedders.values(), *self._rerankers.values()]))

    def start(self) -> None:
        """Load every model in its own thread; returns at once. Requests wait for the loading."""
        for thread in self._threads:
            thread.start()

    def wait(self, timeout: float | None = None) -> None:
        """Block until all models are loaded. VssError: why one failed, or UNAVAILABLE when time is up."""
        end = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            if not thread.loaded.wait(None if end is None else max(0.0, end - time.monotonic())):
                raise VssError(Code.UNAVAILABLE, f"{thread.name} was not loaded within {timeout} s")
            if thread.failure is not None:
                raise thread.failure

    @property
    def ready(self) -> bool:
        """Whether every model is loaded and alive."""
        return all(thread.ready for thread in self._threads)

    def infos(self) -> Sequence[EmbedderInfo]:
        """The embedders that are loaded and alive."""
        return [thread.info for thread in self._embedders.values() if thread.ready and thread.info]

    def rerankers(self) -> Sequence[str]:
        """The names of the re-rankers that are served."""
        return list(self._rerankers)

    def info(self, model: str) -> EmbedderInfo:
        """One embedder. VssError: NOT_FOUND, UNAVAILABLE while it loads, MODEL_FAILED."""
        thread = self._embedder(model)
        if thread.failure is not None:
            raise VssError(thread.failure.code, thread.failure.message, hint=thread.failure.hint)
        if thread.info is None or not thread.loaded.is_set():
            raise VssError(Code.UNAVAILABLE, f"{model} is still loading", hint="wait for /readyz")
        return thread.info

    async def embed(self, model: str, texts: Sequence[str], role: Role, deadline: Deadline) -> Vectors:
        """`(len(texts), dim)` float32. VssError: NOT_FOUND, OVERLOADED, DEADLINE, MODEL_FAILED."""
        thread = self._embedder(model)
        if not texts:
            return np.empty((0, self.info(model).dim), dtype=np.float32)
        costs = [_tokens(text, thread) for text in texts]
        vectors: Vectors = await _answer(
            thread,
            EmbedTask(cost=sum(costs), deadline=deadline, texts=list(texts), costs=costs, role=role),
        )
        return vectors

    async def tokens(self, model: str, texts: Sequence[str]) -> int:
        """How many tokens the model reads for these texts. VssError as for `embed`."""
        # Counting costs about a hundredth of embedding, so that it goes before it.
        cost = sum(len(text) for text in texts) // 400 + 1
        task = CountTask(cost=cost, deadline=Deadline(), texts=list(texts))
        return int(await _answer(self._embedder(model), task)) if texts else 0

    async def rerank(self, reranker: str, query: RerankQuery, candidates: Candidates, deadline: Deadline) -> Scores:
        """`(n,)` float32. VssError: NOT_FOUND, OVERLOADED, DEADLINE, MODEL_FAILED."""
        thread = self._rerankers.get(reranker)
        if thread is None:
            raise _not_found("re-ranker", reranker, self._rerankers)
        texts = (*query.wanted, *query.unwanted, *candidates.texts) if thread.info else ()
        task = RerankTask(
            cost=1 + sum(_tokens(text, thread) for text in texts),
            deadline=deadline,
            reranker=reranker,
            query=query,
            candidates=candidates,
        )
        scores: Scores = await _answer(thread, task)
        return scores

    def close(self, timeout: float = 5.0) -> None:
        """Fail all waiters, stop the threads, free the models. One that loads or computes is left after `timeout` s."""
        for thread in self._threads:
            thread.close()
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _embedder(self, model: str) -> ModelThread:
        thread = self._embedders.get(model)
        if thread is None:
            # A schema holds the embedder's own name ("hashing-256"); it may be served by a shorter one ("hashing").
            named = (one for one in self._embedders.values() if one.info is not None and one.info.name == model)
            thread = next(named, None)
        if thread is None:
            raise _not_found("model", model, self._embedders)
        return thread


async def _answer(thread: ModelThread, task: Task) -> Any:
    """The task's answer, or VssError (DEADLINE) as soon as its time is up, even while the model is busy.

    A caller that goes away cancels the task: it is dropped before it costs anything.
    """
    task.deadline.check("asking the model")
    thread.submit(task)
    try:
        return await asyncio.wait_for(asyncio.wrap_future(task.answer), task.deadline.remaining())
    except TimeoutError:
        raise VssError(Code.DEADLINE, f"the deadline passed while {thread.name} was busy") from None


def _tokens(text: str, thread: ModelThread) -> int:
    """A text's tokens, estimated without the tokenizer, which is the model thread's: four bytes make one."""
    limit = thread.info.max_tokens if thread.info else _UNKNOWN_LIMIT
    return min(len(text) if len(text) > 4 * limit else len(text.encode(errors="replace")) // 4 + 2, limit)


def _not_found(kind: str, name: str, served: Mapping[str, Any]) -> VssError:
    return VssError(
        Code.NOT_FOUND,
        f"there is no {kind} {name!r}",
        hint=f"served are: {', '.join(served) or 'none'}",
    )
