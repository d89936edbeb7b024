"""Who commits for a job: this process while nobody holds the writer lock, else the server, over its Unix socket.

    LocalWriter    takes the writer lock for each small commit
    SocketWriter   asks the server that listens at `<data>/vss.sock`; same HTTP API as outside
    JobWriter      the one of the two that is right at the moment of each commit

A job may run for hours, and servers come and go meanwhile; so the choice is made anew each time.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from vss.errors import Code, VssError
from vss.jobs.messages import Retire, error_of
from vss.schema import DEFAULT_VECTOR, Schema, VectorSchema
from vss.storage.catalog import Catalog
from vss.storage.collection import remove_collection
from vss.storage.datadir import DataDir, WriterLock
from vss.storage.history import Retired, retire
from vss.storage.log import Log
from vss.storage.manifest import Manifest
from vss.storage.publish import LocalPublisher

T = TypeVar("T")

TIMEOUT_SECONDS = 120.0
"""How long a server may take for one commit: it opens the new generation before it answers."""


PATIENCE_SECONDS = 30.0
"""How long a job waits while the lock is held and nobody listens: another job commits, or a server starts or stops."""

PAUSE_SECONDS = 0.02

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For a socket, which has none; httpx would read all authorities that the system trusts, 40 ms of CPU each time."""


class Writer(Protocol):
    """What a job needs committed. `vss.storage.publish.Publisher`, and collections made and removed."""

    def create(self, name: str, schema: Schema) -> None:
        """Make an empty collection. VssError: INVALID, ALREADY_EXISTS."""

    def delete(self, name: str) -> None:
        """Remove a collection; none of that name is no error."""

    def publish(self, manifest: Manifest) -> None:
        """Make the manifest current. VssError (CONFLICT) when its parent no longer is."""

    def retire(self, collection: str, keep: int, *, erase: bool = False) -> Retired:
        """As `vss.jobs.collect.Keeper.retire`."""


class LocalWriter:
    """Commits from this process. VssError (LOCKED) when another process is the writer."""

    def __init__(self, data: DataDir) -> None:
        self._data = data

    def create(self, name: str, schema: Schema) -> None:
        """As `Writer.create`."""
        with WriterLock(self._data):
            catalog = Catalog(self._data)
            try:
                catalog.create(name, schema)
            finally:
                catalog.close()

    def delete(self, name: str) -> None:
        """As `Writer.delete`."""
        with WriterLock(self._data):
            catalog = Catalog(self._data)
            try:
                entry = catalog.delete(name)
            finally:
                catalog.close()
        if entry is not None:
            remove_collection(self._data.collection(entry.id))

    def publish(self, manifest: Manifest) -> None:
        """As `Writer.publish`."""
        LocalPublisher(self._data).publish(manifest)

    def retire(self, collection: str, keep: int, *, erase: bool = False) -> Retired:
        """As `Writer.retire`."""
        with WriterLock(self._data):
            log = Log(self._data.collection(collection) / "log.db")
            try:
                return retire(log, keep, lambda: self._data.held_seq(collection), erased=erase)
            finally:
                log.close()


class SocketWriter:
    """Commits through the server of this data directory.

    VssError: LOCKED when nobody listens, so that nothing was sent; UNAVAILABLE when the server does not answer.
    """

    def __init__(self, data: DataDir) -> None:
        self._data = data

    def create(self, name: str, schema: Schema) -> None:
        """As `Writer.create`."""
        self._send("PUT", f"/collections/{quote(name, safe='')}", create_body(schema))

    def delete(self, name: str) -> None:
        """As `Writer.delete`."""
        self._send("DELETE", f"/collections/{quote(name, safe='')}", b"")

    def publish(self, manifest: Manifest) -> None:
        """As `Writer.publish`."""
        self._send("POST", "/internal/publish", msgspec.json.encode(manifest))

    def retire(self, collection: str, keep: int, *, erase: bool = False) -> Retired:
        """As `Writer.retire`."""
        asked = Retire(collection=collection, keep=keep, erase=erase)
        answer = self._send("POST", "/internal/retire", msgspec.json.encode(asked))
        return msgspec.json.decode(answer, type=_Retirement).result

    def _send(self, method: str, path: str, body: bytes) -> bytes:
        try:
            transport = socket_transport(self._data)
        except OSError as error:
            raise self._silent(Code.LOCKED, error) from error
        try:
            with httpx.Client(transport=transport, base_url="http://vss", timeout=TIMEOUT_SECONDS) as client:
                answer = client.request(method, path, content=body, headers={"content-type": "application/json"})
        except (httpx.HTTPError, OSError) as error:
            raise self._silent(Code.UNAVAILABLE, error) from error
        if answer.is_error:
            raise error_of(answer.status_code, answer.content)
        return answer.content

    def _silent(self, code: Code, error: Exception) -> VssError:
        return VssError(
            code,
            f"the writer of this data directory does not answer at {self._data.socket}: {error}",
            hint="wait until the server has started or stopped, then run the job again",
        )


class JobWriter:
    """Commits here when nobody holds the writer lock, else through the server that does.

    patience: seconds to wait while the lock is held and nobody listens; VssError (LOCKED) after that
    """

    def __init__(self, data: DataDir, patience: float = PATIENCE_SECONDS) -> None:
        self._local = LocalWriter(data)
        self._remote = SocketWriter(data)
        self._patience = patience

    def create(self, name: str, schema: Schema) -> None:
        """As `Writer.create`."""
        self._commit(lambda writer: writer.create(name, schema))

    def delete(self, name: str) -> None:
        """As `Writer.delete`."""
        self._commit(lambda writer: writer.delete(name))

    def publish(self, manifest: Manifest) -> None:
        """As `Writer.publish`."""
        self._commit(lambda writer: writer.publish(manifest))

    def retire(self, collection: str, keep: int, *, erase: bool = False) -> Retired:
        """As `Writer.retire`."""
        return self._commit(lambda writer: writer.retire(collection, keep, erase=erase))

    def _commit(self, ask: Callable[[Writer], T]) -> T:
        """Ask the two in turn until one may write. LOCKED says that nothing was done, so that asking again is safe."""
        until = time.monotonic() + self._patience
        while True:
            for writer in (self._local, self._remote):
                try:
                    return ask(writer)
                except VssError as error:
                    if error.code is not Code.LOCKED or (writer is self._remote and time.monotonic() >= until):
                        raise
            time.sleep(PAUSE_SECONDS)


def socket_transport(data: DataDir) -> httpx.HTTPTransport:
    """How httpx reaches the server of a data directory. OSError when nobody listens."""
    # httpx leaves a socket open when it cannot connect; so it is tried here first.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.connect(str(data.socket))
    return httpx.HTTPTransport(uds=str(data.socket), verify=_NO_TLS)


def serves(data: DataDir) -> bool:
    """Whether a server listens for this data directory."""
    try:
        socket_transport(data).close()
    except OSError:
        return False
    return True


def create_body(schema: Schema) -> bytes:
    """The schema as the body of `PUT /collections/{name}`."""
    vectors: dict[str, Any] = {name: _vector_body(vector) for name, vector in schema.vectors.items()}
    body = {
        "vectors": vectors[DEFAULT_VECTOR] if set(vectors) == {DEFAULT_VECTOR} else vectors,
        "vss": {"index": msgspec.to_builtins(schema.index)},
    }
    return msgspec.json.encode(body)


def _vector_body(vector: VectorSchema) -> dict[str, Any]:
    body: dict[str, Any] = {"size": vector.dim, "distance": vector.metric.value}
    if vector.model is not None:
        body["vss"] = {"model": vector.model, "text_field": vector.text_field}
    return body


class _Retirement(msgspec.Struct):
    result: Retired
