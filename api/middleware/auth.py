"""The key: header `api-key` (Qdrant's clients) or `Authorization: Bearer` (OpenAI's). Checked before a body is read."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from vss.errors import Code, VssError

OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/healthz"})
"""What a load balancer asks for, and the version that clients check first. Everything else needs the key."""


class Auth:
    """Refuses requests without the key. The Unix socket is guarded by the data directory's permissions instead."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self.app = app
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            self._key is not None
            and scope["type"] == "http"
            and scope["path"] not in OPEN_PATHS
            and not on_unix_socket(scope)
            and not self._known(scope, self._key)
        ):
            raise VssError(
                Code.UNAUTHENTICATED,
                "got no key or a wrong one",
                hint="send the header `api-key: KEY` or `Authorization: Bearer KEY`",
            )
        await self.app(scope, receive, send)

    @staticmethod
    def _known(scope: Scope, key: bytes) -> bool:
        for name, value in scope["headers"]:
            if name == b"api-key" and hmac.compare_digest(value, key):
                return True
            if name == b"authorization" and value[:7].lower() == b"bearer " and hmac.compare_digest(value[7:], key):
                return True
        return False


def on_unix_socket(scope: Scope) -> bool:
    """Whether the request came over the Unix socket: the server then has a path and no port."""
    server = scope.get("server")
    return server is not None and server[1] is None
