"""Generations: list, describe, promote."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import Operation
from api.service import Service
from vss.engines.generations import Generation, GenerationDetail, describe_generation, list_generations
from vss.errors import invalid
from vss.storage.collection import Collection


class GenerationsReply(msgspec.Struct, kw_only=True):
    """The generations that can be promoted, oldest first."""

    generations: list[Generation]


class PromotedReply(msgspec.Struct, kw_only=True):
    """promoted: the generation that was asked for.

    current: it, or its successor where so many writes apply to it that they were sealed at once.
    """

    promoted: int
    current: int


async def list_generations_of(service: Service, request: Request) -> Response:
    """List the generations that can be promoted."""
    found = await asyncio.to_thread(list_generations, _collection(service, request))
    return answer(request, GenerationsReply(generations=found))


async def get_generation(service: Service, request: Request) -> Response:
    """Describe a generation."""
    collection, number = _collection(service, request), _number(request)
    return answer(request, await asyncio.to_thread(describe_generation, collection, number))


async def promote_generation(service: Service, request: Request) -> Response:
    """Make a generation current. No acknowledged write is lost: those that it does not cover apply to it again."""
    name, number = service.engine.entry(request.path_params["collection"]).name, _number(request)
    collection = service.engine.collection(name)
    await service.check_models(collection, number)
    await asyncio.to_thread(service.engine.promote, name, number)
    view = await asyncio.to_thread(collection.view)
    return answer(request, PromotedReply(promoted=number, current=view.generation), view=view)


def _collection(service: Service, request: Request) -> Collection:
    return service.engine.collection(service.engine.entry(request.path_params["collection"]).name)


def _number(request: Request) -> int:
    given = request.path_params["generation"]
    if not (given.isascii() and given.isdecimal() and len(given) < 16):
        raise invalid(f"got {given[:40]!r}, wanted the number of a generation", field="generation")
    return int(given)


_ALL = "/collections/{collection}/generations"

OPERATIONS = (
    Operation(
        method="GET",
        path=_ALL,
        handler=list_generations_of,
        summary="List generations",
        tag="generations",
        result=GenerationsReply,
    ),
    Operation(
        method="GET",
        path=_ALL + "/{generation}",
        handler=get_generation,
        summary="Describe a generation",
        tag="generations",
        result=GenerationDetail,
    ),
    Operation(
        method="POST",
        path=_ALL + "/{generation}/promote",
        handler=promote_generation,
        summary="Promote a generation, or roll back to it",
        tag="generations",
        result=PromotedReply,
        forwarded=True,
    ),
)
