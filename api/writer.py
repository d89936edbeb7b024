"""The writer process as a reader sees it: HTTP over the Unix socket of the data directory.

Every request carries `FORWARDED`, by which the writer leaves counting it to the reader.
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from vss.errors import Code, VssError
from vss.storage.datadir import DataDir

FORWARDED = b"vss-forwarded"
"""Header of what a reader sends. It counts on the Unix socket only."""

IDLE_SECONDS = 30.0
"""How long an idle connection is kept: less than the server keeps it, so that none is used while it is being closed."""

_MAX_IDLE = 64
_HOST = "vss"

Headers = Sequence[tuple[bytes, bytes]]


class Writer:
    """Connections to the writer. Used from one event loop."""

    def __init__(self, data: DataDir) -> None:
        # A bare transport: what a client adds to it (cookies, redirects, authentication) costs more than the sending.
        # The reader's own limits bound how many requests there are at once.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_MAX_IDLE, keepalive_expiry=IDLE_SECONDS)
        self._transport = httpx.AsyncHTTPTransport(verify=False, trust_env=False, uds=str(data.socket), limits=limits)

    async def send(self, method: str, target: bytes, headers: Headers = (), body: bytes = b"") -> httpx.Response:
        """The whole answer, whatever its status. `target` is path and query as they stand in a request line.

        Raises VssError (UNAVAILABLE) at once when no writer listens, and when it ends before it has answered.
        """
        url = httpx.URL(scheme="http", host=_HOST, raw_path=target)
        sent = [(b"host", _HOST.encode()), (FORWARDED, b"1"), *headers]
        try:
            answer = await self._transport.handle_async_request(httpx.Request(method, url, headers=sent, content=body))
            try:
                await answer.aread()
            finally:
                await answer.aclose()
        except httpx.ConnectError as error:
            raise VssError(
                Code.UNAVAILABLE,
                "the writer process is not there; nothing was applied",
                hint="it is being started again: send the request again after Retry-After",
            ) from error
        except httpx.TransportError as error:
            raise VssError(
                Code.UNAVAILABLE,
                "the writer process ended before it answered; a write may have been applied or not",
                hint="send the request again after Retry-After: the same upsert or delete twice does no harm",
            ) from error
        return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()
