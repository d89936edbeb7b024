"""One server process: HTTP on a TCP port and on the Unix socket of the data directory.

    python -m api.server        settings come from the environment (`VSS_DATA`, `VSS_PORT`, ...)

SIGTERM: /readyz turns 503 and requests are still answered for `drain_seconds`; then nothing new is accepted and what
is in flight finishes. SIGINT skips the wait. Both end within `STOP_SECONDS`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn

from api.app import App, create_app
from api.settings import Settings, read_settings
from api.wiring import model_host, model_names
from indexers.registry import INDEXERS
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.storage.datadir import DataDir

STOP_SECONDS = 9

LOCK_SECONDS = 5.0
"""How long a starting server waits for the writer lock: a job that commits holds it for a moment."""

log = logging.getLogger("vss.server")


class Server(uvicorn.Server):
    """uvicorn that drains before it stops."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came. Unlike uvicorn's own, it is not raised again after the end: `serve` still has to clean up."""
        service = self._app.service
        at_once = sig == signal.SIGINT or service.draining
        self.force_exit = self.should_exit and sig == signal.SIGINT
        service.draining = True
        if at_once:
            self._stop()
        else:
            asyncio.get_running_loop().call_later(service.settings.drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def serve(settings: Settings) -> None:
    """Serve until a signal comes. VssError: LOCKED (another server has the data), STORAGE, UNAVAILABLE (the port)."""
    # FAISS reads it when it is imported, which happens when the first collection with a graph is opened.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    data = DataDir(settings.data)
    engine = LocalEngine(data, INDEXERS, writable=True, lock_wait=LOCK_SECONDS)
    try:
        models = model_host(settings)
        models.start()
        try:
            app = create_app(engine, models, INDEXERS, settings, model_names=model_names(settings))
            tcp = _tcp_socket(settings)
            unix = _unix_socket(data)
            try:
                _run(app, settings, tcp, unix)
            finally:
                data.socket.unlink(missing_ok=True)
        finally:
            models.close()
    finally:
        engine.close()


def _run(app: App, settings: Settings, tcp: socket.socket, unix: socket.socket) -> None:
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
        timeout_graceful_shutdown=max(1, STOP_SECONDS - 1 - int(settings.drain_seconds)),
    )
    host, port = tcp.getsockname()[:2]
    log.info("listening on http://%s:%s and %s", host, port, settings.data)
    Server(config, app).run(sockets=[tcp, unix])


def _tcp_socket(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise VssError(
            Code.UNAVAILABLE,
            f"cannot listen at {settings.host}:{settings.port}: {error.strerror}",
            hint="choose another --host or --port",
        ) from error
    listener.set_inheritable(False)
    return listener


def _unix_socket(data: DataDir) -> socket.socket:
    """The socket for this machine's jobs; only this user may open it."""
    # We hold the writer lock, so a socket that lies here is of a server that died.
    data.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(data.socket))
    except OSError as error:
        listener.close()
        raise VssError(
            Code.UNAVAILABLE,
            f"cannot listen at the socket in the data directory: {error}",
            hint="its path must be shorter than 108 bytes: choose another data directory",
        ) from error
    finally:
        os.umask(before)
    return listener


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    serve(read_settings())
