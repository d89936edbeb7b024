"""What is running, whether it is alive and ready, its metrics."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib.metadata import version

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.answers import plain
from api.forward import forward
from api.operations import Operation
from api.service import Service
from vss.engines.health import problems
from vss.errors import VssError

QDRANT_VERSION = "1.20.0"
"""The Qdrant whose REST dialect this is: its clients compare the version and warn when it is another."""

TITLE = f"vss {version('vss-service')} (speaks Qdrant's REST dialect)"


class VersionReply(msgspec.Struct, kw_only=True):
    """What `GET /` says, as Qdrant's clients expect it."""

    title: str
    version: str
    commit: str | None = None


class ReadyReply(msgspec.Struct, kw_only=True):
    """Whether requests should come here, and why not; and what is wrong with single collections, which stops none."""

    ready: bool
    reason: str | None = None
    warnings: list[str] = []


async def root(service: Service, request: Request) -> Response:
    """Name and version."""
    return plain(VersionReply(title=TITLE, version=QDRANT_VERSION))


async def livez(service: Service, request: Request) -> Response:
    """200 as long as the process answers."""
    return PlainTextResponse("alive\n")


async def healthz(service: Service, request: Request) -> Response:
    """200 as long as the process answers; Qdrant's name for it."""
    return PlainTextResponse("healthz check passed\n")


async def readyz(service: Service, request: Request) -> Response:
    """200 when collections are open and their models loaded; 503 with the reason otherwise, and while stopping."""
    reason = service.not_ready()
    warnings = [] if reason else await _warnings(service, request)
    return plain(ReadyReply(ready=reason is None, reason=reason, warnings=warnings), 200 if reason is None else 503)


async def _warnings(service: Service, request: Request) -> list[str]:
    found = await asyncio.to_thread(problems, service.engine)
    if service.writer is not None:
        # Only the writer knows what it cannot write; while it is away nobody writes at all.
        with suppress(VssError, ValueError):
            said = msgspec.json.decode((await service.writer.send("GET", b"/readyz")).body, type=ReadyReply)
            found += [one for one in said.warnings if one not in found]
    return found


async def metrics(service: Service, request: Request) -> Response:
    """Prometheus metrics of all processes of this server."""
    if service.writer is not None:
        with suppress(VssError):  # what it cannot write only the writer knows
            return await forward(service.writer, request)
    text = await asyncio.to_thread(service.metrics.show)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


OPERATIONS = (
    Operation(
        method="GET",
        path="/",
        handler=root,
        summary="Name and version",
        tag="service",
        result=VersionReply,
        envelope=False,
    ),
    Operation(method="GET", path="/livez", handler=livez, summary="Is it alive", tag="service", envelope=False),
    Operation(
        method="GET",
        path="/readyz",
        handler=readyz,
        summary="Is it ready",
        tag="service",
        result=ReadyReply,
        envelope=False,
    ),
    Operation(method="GET", path="/healthz", handler=healthz, summary="Is it alive", tag="service", envelope=False),
    Operation(method="GET", path="/metrics", handler=metrics, summary="Metrics", tag="service", envelope=False),
)
