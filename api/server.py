"""One server process.

    python -m api.server        settings come from the environment (`VSS_DATA`, `VSS_PORT`, ...)

Alone it is a whole server: HTTP on a TCP port and on the Unix socket of the data directory. Under `vss serve` its
supervisor gives it a role (`VSS_ROLE`): `writer`, a whole server whose port others share, or `reader`, which answers
queries on that port, and forwards what changes something or needs a model to the writer over the Unix socket.

SIGTERM: /readyz turns 503 and requests are still answered for `drain_seconds`; then nothing new is accepted and what
is in flight finishes. SIGINT skips the wait. Both end within `STOP_SECONDS`. SIGUSR1: it will be stopped soon; /readyz
turns 503, and the SIGTERM that follows needs no wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from types import FrameType

import uvicorn

from api import lifeline
from api.app import App, create_app
from api.listeners import refuse_new, tcp_socket, unix_socket, waiting
from api.logs import start_logging, tell
from api.open_files import allow_open_files
from api.remote_models import RemoteModels
from api.run_folder import say_writing
from api.settings import Settings, read_settings
from api.wiring import model_host, model_names
from api.writer import Writer
from indexers.registry import INDEXERS
from vss.engines.local import LocalEngine
from vss.errors import VssError, invalid
from vss.storage.datadir import DataDir

STOP_SECONDS = 9.0
"""From the signal to the end of a process."""

READER_STOP_SECONDS = 7.0
"""The same for readers: the writer ends after them."""

LAST_CALL_SECONDS = 0.5
"""How long a connection that has just begun may take to send its first request, when the server stops."""

LOCK_SECONDS = 5.0
"""How long a starting server waits for the writer lock: a job that commits holds it for a moment."""

MODELS_SECONDS = 1.0
"""How long models that load or compute are waited for at the end, when nobody waits for them any more."""

CANNOT_START = 78
"""Exit code for a reason that will not go away by itself (EX_CONFIG of sysexits.h)."""

log = logging.getLogger("vss.server")


class Role(StrEnum):
    """What a process is under a supervisor."""

    WRITER = "writer"
    READER = "reader"


class Server(uvicorn.Server):
    """uvicorn that drains before it stops, and cuts nobody off."""

    def __init__(self, config: uvicorn.Config, app: App, stop_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._stop_seconds = stop_seconds
        self._told = 0.0

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes."""
        signal.signal(signal.SIGUSR1, lambda *_: self._drain())
        super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came. Unlike uvicorn's own, it is not raised again after the end: `serve` still has to clean up."""
        service = self._app.service
        at_once = sig == signal.SIGINT or service.draining
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self._drain()
        if at_once:
            self._stop()
        else:
            asyncio.get_running_loop().call_later(service.settings.drain_seconds, self._stop)

    def _drain(self) -> None:
        if not self._app.service.draining:
            self._told = time.monotonic()
        self._app.service.draining = True

    def _stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        for one in sockets or ():
            if one.family != socket.AF_UNIX:
                host, port = one.getsockname()[:2]
                log.info("listening on http://%s:%s and %s", host, port, self._app.service.settings.data)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let in who has connected already, answer what was asked, close."""
        sockets = sockets or []
        for one in sockets:
            refuse_new(one)
        until = time.monotonic() + LAST_CALL_SECONDS
        while self._arriving(sockets) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        left = self._told + self._stop_seconds - time.monotonic()
        # A whole second less: uvicorn looks every tenth of a second, and the collections are closed after it.
        self.config.timeout_graceful_shutdown = max(0.5, left - 1)  # type: ignore[assignment] # awaited: any number
        await super().shutdown(sockets)

    def _arriving(self, sockets: Sequence[socket.socket]) -> bool:
        """Whether a connection waits to be accepted, or was and has not sent a request yet."""
        connections = self.server_state.connections
        return any(map(waiting, sockets)) or any(getattr(one, "cycle", one) is None for one in connections)


def serve(settings: Settings, role: Role | None = None) -> None:
    """Serve until a signal comes. VssError: LOCKED (another server has the data), STORAGE, UNAVAILABLE (the port)."""
    # FAISS reads it when it is imported, which happens when the first collection with a graph is opened.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if role is Role.READER:
        _read(settings)
    else:
        _write(settings, shared=role is Role.WRITER)


def _write(settings: Settings, *, shared: bool) -> None:
    data = DataDir(settings.data)
    engine = LocalEngine(data, INDEXERS, writable=True, lock_wait=LOCK_SECONDS, max_unindexed=settings.max_unindexed)
    say_writing()
    try:
        models = model_host(settings)
        models.start()
        try:
            app = create_app(engine, models, INDEXERS, settings, model_names=model_names(settings))
            tcp = tcp_socket(settings.host, settings.port, shared=shared)
            unix = unix_socket(data)
            try:
                _run(app, [tcp, unix], STOP_SECONDS)
            finally:
                data.socket.unlink(missing_ok=True)
        finally:
            models.close(MODELS_SECONDS)
    finally:
        engine.close()


def _read(settings: Settings) -> None:
    data = DataDir(settings.data)
    engine = LocalEngine(data, INDEXERS, writable=False)
    try:
        writer = Writer(data)
        names = model_names(settings)
        app = create_app(engine, RemoteModels(writer), INDEXERS, settings, model_names=names, writer=writer)
        _run(app, [tcp_socket(settings.host, settings.port, shared=True)], READER_STOP_SECONDS)
    finally:
        engine.close()


def _run(app: App, sockets: list[socket.socket], stop_seconds: float) -> None:
    config = uvicorn.Config(
        app,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
    )
    Server(config, app, stop_seconds).run(sockets)


def main() -> int:
    """Serve in the role of the environment; the exit code."""
    start_logging()
    lifeline.watch()
    allow_open_files()
    try:
        serve(read_settings(), _role())
    except VssError as error:
        tell(error)
        return CANNOT_START
    return 0


def _role() -> Role | None:
    given = os.environ.get("VSS_ROLE")
    try:
        return None if given is None else Role(given)
    except ValueError:
        raise invalid(f"got {given!r}, wanted writer or reader", field="VSS_ROLE") from None


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Python would end under the native code of a model that still loads, which aborts the process.
    os._exit(code)
