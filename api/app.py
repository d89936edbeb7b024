"""The ASGI application: middleware around a router of operations. Plain Starlette: msgspec does what FastAPI would."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from api.metrics import Metrics
from api.middleware.auth import Auth
from api.middleware.drain import Drain
from api.middleware.errors import Errors
from api.middleware.limits import Limits
from api.middleware.observe import Observe
from api.middleware.request_id import RequestId
from api.operations import routes
from api.remote_models import RemoteModels
from api.routes.refused import refusals
from api.routes.table import OPERATIONS
from api.service import Service
from api.settings import Settings
from api.writer import Writer
from vss.engines.health import health
from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.protocols import Indexers, Models

log = logging.getLogger("vss.server")


class App:
    """The whole HTTP face; `service` is what its handlers work with."""

    def __init__(self, service: Service) -> None:
        self.service = service
        settings = service.settings
        key = settings.api_key.get_secret_value() if settings.api_key else None

        @asynccontextmanager
        async def lifespan(_: object) -> AsyncIterator[None]:
            opening = asyncio.create_task(asyncio.to_thread(_open_collections, service))
            following = asyncio.create_task(_follow(service))
            yield
            await opening
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

        router = Router([*routes(OPERATIONS, service), *refusals()], redirect_slashes=False, lifespan=lifespan)
        # The router raises for unknown paths and methods only inside an application: say that this is one.
        inner: ASGIApp = Limits(router, max_body_bytes=settings.max_body_bytes, max_in_flight=settings.max_in_flight)
        inner = Errors(Auth(inner, key))
        inner = Observe(Drain(inner, service), service.metrics, log_all=settings.access_log)
        self._stack: ASGIApp = RequestId(inner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._stack(scope, receive, send)


def create_app(
    engine: LocalEngine,
    models: Models,
    indexers: Indexers,
    settings: Settings,
    *,
    model_names: tuple[str, ...] = (),
    writer: Writer | None = None,
) -> App:
    """The application over an open engine and started models; it closes neither.

    writer: the process that a reader forwards to; the application closes the connections to it
    """
    metrics = Metrics(engine)
    return App(
        Service(
            engine=engine,
            models=models,
            indexers=indexers,
            settings=settings,
            metrics=metrics,
            model_names=model_names,
            writer=writer,
        )
    )


async def _follow(service: Service) -> None:
    """Keep up with the writer, in a reader."""
    try:
        if isinstance(service.models, RemoteModels):
            await service.models.follow(service.canaries.clear)
    finally:
        if service.writer is not None:
            service.writer.close()


def _open_collections(service: Service) -> None:
    """Open what there is before the first query has to. A damaged collection does not stop the others."""
    try:
        entries = service.engine.entries()
    except VssError as error:
        log.error("no collection can be opened: %s", error)
        entries = []
    for entry in entries:
        for problem in health(service.engine, entry.name).problems():
            log.error("collection %s: %s", entry.name, problem)
    service.warm = True
    log.info("all %d collections were opened", len(entries))
