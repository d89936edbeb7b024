"""What jobs of this data directory ask of the writer. Answered on the Unix socket only."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.middleware.auth import on_unix_socket
from api.operations import Operation
from api.service import Service
from api.wire.base import decode
from vss.storage.manifest import Manifest


async def publish_generation(service: Service, request: Request) -> Response:
    """Make a job's generation current, and open it before a query has to."""
    if not on_unix_socket(request.scope):
        raise HTTPException(404)
    manifest = decode(await request.body(), Manifest)
    await asyncio.to_thread(_publish, service, manifest)
    return answer(request, True, vss={"generation": manifest.generation})


def _publish(service: Service, manifest: Manifest) -> None:
    service.engine.publish(manifest)
    for entry in service.engine.entries():
        if entry.id == manifest.collection:
            service.engine.collection(entry.name).view()


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
)
