"""What jobs and readers of this data directory ask of the writer. Answered on the Unix socket only."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer, plain
from api.middleware.auth import on_unix_socket
from api.operations import Operation
from api.service import Service
from api.wire.base import decode
from api.wire.models import (
    FLOATS,
    AskEmbed,
    AskRerank,
    AskTokens,
    ModelCatalogue,
    ServedModel,
    pack_floats,
    unpack_floats,
)
from vss.errors import Code, VssError, invalid
from vss.jobs.messages import Retire
from vss.protocols import Candidates, Deadline, RerankQuery
from vss.storage.history import Retired
from vss.storage.manifest import Manifest

A = TypeVar("A", AskEmbed, AskRerank, AskTokens)


async def publish_generation(service: Service, request: Request) -> Response:
    """Make a job's generation current, and open it before a query has to."""
    _only_here(request)
    manifest = decode(await request.body(), Manifest)
    await asyncio.to_thread(_publish, service, manifest)
    return answer(request, True, vss={"generation": manifest.generation})


def _publish(service: Service, manifest: Manifest) -> None:
    service.engine.publish(manifest)
    for entry in service.engine.entries():
        if entry.id == manifest.collection:
            service.engine.collection(entry.name).view()


async def retire_generations(service: Service, request: Request) -> Response:
    """Forget old generations and operations of a collection."""
    _only_here(request)
    asked = decode(await request.body(), Retire)
    retired = await asyncio.to_thread(service.engine.retire, asked.collection, asked.keep, erase=asked.erase)
    return answer(request, retired)


async def describe_models(service: Service, request: Request) -> Response:
    """Every model, and whether it can be asked."""
    _only_here(request)
    return plain(
        ModelCatalogue(
            process=service.process,
            embedders=[_served(service, name) for name in service.model_names],
            rerankers=list(service.models.rerankers()),
        )
    )


def _served(service: Service, name: str) -> ServedModel:
    try:
        return ServedModel(name=name, info=service.models.info(name))
    except VssError as error:
        return ServedModel(name=name, code=error.code, message=error.message, hint=error.hint)


async def embed_for_reader(service: Service, request: Request) -> Response:
    """Turn texts into vectors."""
    asked = await _read(service, request, AskEmbed)
    made = await service.models.embed(asked.model, asked.texts, asked.role, Deadline.after_ms(asked.milliseconds))
    return Response(pack_floats(made), media_type=FLOATS)


async def count_tokens(service: Service, request: Request) -> Response:
    """Count the tokens of texts."""
    asked = await _read(service, request, AskTokens)
    return plain(await service.models.tokens(asked.model, asked.texts))


async def rerank_for_reader(service: Service, request: Request) -> Response:
    """Score candidates."""
    asked = await _read(service, request, AskRerank)
    scores = await service.models.rerank(
        asked.reranker,
        RerankQuery(wanted=asked.wanted, unwanted=asked.unwanted),
        Candidates(texts=asked.texts, similarity=unpack_floats(asked.similarity, len(asked.texts))[:, 0]),
        Deadline.after_ms(asked.milliseconds),
    )
    return Response(pack_floats(scores), media_type=FLOATS)


async def _read(service: Service, request: Request, kind: type[A]) -> A:
    _only_here(request)
    try:
        asked = msgspec.msgpack.decode(await request.body(), type=kind)
    except msgspec.DecodeError as error:
        raise invalid(f"got a body that cannot be read: {error}", field="body") from None
    if asked.process != service.process:
        raise VssError(
            Code.UNAVAILABLE,
            "the process that holds the models was started again",
            hint="send the request again after Retry-After",
        )
    return asked


def _only_here(request: Request) -> None:
    if not on_unix_socket(request.scope):
        raise HTTPException(404)


OPERATIONS = (
    Operation(
        method="POST",
        path="/internal/publish",
        handler=publish_generation,
        summary="Make a job's generation current",
        tag="internal",
        body=Manifest,
        result=bool,
        internal=True,
    ),
    Operation(
        method="POST",
        path="/internal/retire",
        handler=retire_generations,
        summary="Forget old generations",
        tag="internal",
        body=Retire,
        result=Retired,
        internal=True,
    ),
    Operation(
        method="GET",
        path="/internal/models",
        handler=describe_models,
        summary="Describe the models",
        tag="internal",
        result=ModelCatalogue,
        envelope=False,
        internal=True,
    ),
    Operation(
        method="POST",
        path="/internal/embed",
        handler=embed_for_reader,
        summary="Turn texts into vectors",
        tag="internal",
        envelope=False,
        internal=True,
    ),
    Operation(
        method="POST",
        path="/internal/tokens",
        handler=count_tokens,
        summary="Count tokens",
        tag="internal",
        envelope=False,
        internal=True,
    ),
    Operation(
        method="POST",
        path="/internal/rerank",
        handler=rerank_for_reader,
        summary="Score candidates",
        tag="internal",
        envelope=False,
        internal=True,
    ),
)
