"""Embeddings and models, in OpenAI's dialect."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.answers import plain
from api.operations import Operation
from api.requests import deadline_of
from api.service import Service
from api.wire.base import decode
from api.wire.embeddings import (
    EmbeddingsReply,
    EmbeddingsWire,
    ModelReply,
    ModelsReply,
    TokensReply,
    read_texts,
    show_embedding,
)
from vss.errors import VssError


async def embed_texts(service: Service, request: Request) -> Response:
    """Turn texts into vectors."""
    wire = decode(await request.body(), EmbeddingsWire)
    try:
        info = service.models.info(wire.model)
    except VssError as error:
        raise VssError(error.code, error.message, field="model", hint=error.hint) from None
    texts, role = read_texts(wire, info.dim)
    vectors = await service.models.embed(wire.model, texts, role, deadline_of(request))
    tokens = await service.models.tokens(wire.model, texts)
    return plain(
        EmbeddingsReply(
            data=[show_embedding(vector, index, wire.encoding_format) for index, vector in enumerate(vectors)],
            model=wire.model,
            usage=TokensReply(prompt_tokens=tokens, total_tokens=tokens),
            fingerprint=info.fingerprint,
        )
    )


async def list_models(service: Service, request: Request) -> Response:
    """List the models that are loaded."""
    embedders = []
    for name in service.model_names:
        try:
            info = service.models.info(name)
        except VssError:
            continue  # loading, or failed: /readyz says which
        embedders.append(
            ModelReply(
                id=name,
                kind="embedder",
                dim=info.dim,
                max_tokens=info.max_tokens,
                fingerprint=info.fingerprint,
                device=info.device,
                precision=info.precision,
            )
        )
    rerankers = [ModelReply(id=name, kind="reranker") for name in service.models.rerankers()]
    return plain(ModelsReply(data=embedders + rerankers))


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/embeddings",
        handler=embed_texts,
        summary="Turn texts into vectors",
        tag="models",
        query=("timeout",),
        body=EmbeddingsWire,
        result=EmbeddingsReply,
        envelope=False,
        forwarded=True,
    ),
    Operation(
        method="GET",
        path="/v1/models",
        handler=list_models,
        summary="List models",
        tag="models",
        result=ModelsReply,
        envelope=False,
        forwarded=True,
    ),
)
