"""The models of the writer process, for readers: `vss.protocols.Models` over the Unix socket.

    follow      keeps the catalogue: asks for it again and again, sooner while a model loads
    embed ...   one request each; the deadline travels along, and is kept here too

A request names the life of the writer that the catalogue is of. A writer that was started again refuses it, so that no
vector of a model comes through that has not shown its canaries (see `Service.text_model`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from api.wire.models import (
    AskEmbed,
    AskRerank,
    AskTokens,
    ModelCatalogue,
    ServedModel,
    pack_floats,
    unpack_floats,
)
from api.writer import Answer, Writer
from vss.errors import Code, VssError
from vss.jobs.messages import error_of
from vss.protocols import Candidates, Deadline, EmbedderInfo, RerankQuery
from vss.types import Role, Scores, Vectors

SOON_SECONDS = 0.1
LATER_SECONDS = 1.0


class RemoteModels:
    """As `vss.protocols.Models`. Before the first catalogue, and without a writer, every model is UNAVAILABLE."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._catalogue: ModelCatalogue | None = None
        self._stale = asyncio.Event()

    async def follow(self, changed: Callable[[], None]) -> None:
        """Keep the catalogue until cancelled; `changed` is called when another process has the models."""
        while True:
            settled = False
            try:
                settled = await self._refresh(changed)
            except VssError:
                self._catalogue = None
            self._stale.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stale.wait(), LATER_SECONDS if settled else SOON_SECONDS)

    async def _refresh(self, changed: Callable[[], None]) -> bool:
        answer = _checked(await self._writer.send("GET", b"/internal/models"))
        known, self._catalogue = self._catalogue, msgspec.json.decode(answer.body, type=ModelCatalogue)
        if known is None or known.process != self._catalogue.process:
            changed()
        return all(one.code is not Code.UNAVAILABLE for one in self._catalogue.embedders)

    def infos(self) -> Sequence[EmbedderInfo]:
        """The embedders that are loaded and alive."""
        return [one.info for one in self._known().embedders if one.info is not None]

    def rerankers(self) -> Sequence[str]:
        """The names of the re-rankers that are served."""
        return self._known().rerankers

    def info(self, model: str) -> EmbedderInfo:
        """One embedder. VssError: NOT_FOUND, UNAVAILABLE while it loads, MODEL_FAILED."""
        served = self._known().embedders
        found = next((one for one in served if one.name == model), None)
        # A schema holds the embedder's own name; it may be served by a shorter one.
        found = found or next((one for one in served if one.info is not None and one.info.name == model), None)
        if found is None:
            names = ", ".join(one.name for one in served) or "none"
            raise VssError(Code.NOT_FOUND, f"there is no model {model!r}", hint=f"served are: {names}")
        return _info(found)

    async def embed(self, model: str, texts: Sequence[str], role: Role, deadline: Deadline) -> Vectors:
        """`(len(texts), dim)` float32. VssError: NOT_FOUND, OVERLOADED, DEADLINE, MODEL_FAILED, UNAVAILABLE."""
        if not texts:
            return np.empty((0, self.info(model).dim), dtype=np.float32)
        asked = AskEmbed(
            process=self._known().process,
            model=model,
            texts=list(texts),
            role=role,
            milliseconds=_milliseconds(deadline),
        )
        return unpack_floats(await self._ask(b"/internal/embed", asked, deadline), len(texts))

    async def tokens(self, model: str, texts: Sequence[str]) -> int:
        """How many tokens the model reads for these texts."""
        if not texts:
            return 0
        asked = AskTokens(process=self._known().process, model=model, texts=list(texts))
        return msgspec.json.decode(await self._ask(b"/internal/tokens", asked, Deadline()), type=int)

    async def rerank(self, reranker: str, query: RerankQuery, candidates: Candidates, deadline: Deadline) -> Scores:
        """`(n,)` float32. VssError: NOT_FOUND, OVERLOADED, DEADLINE, MODEL_FAILED, UNAVAILABLE."""
        asked = AskRerank(
            process=self._known().process,
            reranker=reranker,
            wanted=query.wanted,
            unwanted=query.unwanted,
            texts=candidates.texts,
            similarity=pack_floats(candidates.similarity),
            milliseconds=_milliseconds(deadline),
        )
        return unpack_floats(await self._ask(b"/internal/rerank", asked, deadline), len(candidates.texts))[:, 0]

    async def _ask(self, path: bytes, asked: msgspec.Struct, deadline: Deadline) -> bytes:
        deadline.check("asking the model")
        sending = self._writer.send("POST", path, body=msgspec.msgpack.encode(asked))
        try:
            answer = _checked(await asyncio.wait_for(sending, deadline.remaining()))
        except TimeoutError:
            raise VssError(Code.DEADLINE, "the deadline passed while the model was busy") from None
        except VssError as error:
            if error.code is Code.UNAVAILABLE:
                self._stale.set()
            raise
        return answer.body

    def _known(self) -> ModelCatalogue:
        if self._catalogue is None:
            raise VssError(
                Code.UNAVAILABLE, "the models of the writer process are not known yet", hint="wait for /readyz"
            )
        return self._catalogue

    def close(self) -> None:
        """Nothing to free: the models are the writer's."""


def _info(served: ServedModel) -> EmbedderInfo:
    if served.info is None:
        raise VssError(served.code or Code.UNAVAILABLE, served.message, hint=served.hint)
    return served.info


def _milliseconds(deadline: Deadline) -> float | None:
    left = deadline.remaining()
    return None if left is None else left * 1000


def _checked(answer: Answer) -> Answer:
    if answer.status >= 400:
        raise error_of(answer.status, answer.body)
    return answer
