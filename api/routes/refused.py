"""Operations of Qdrant's API that are not served: refused by name, with what there is instead."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vss.errors import Code, VssError

_QUERY = "POST /collections/{collection}/points/query"
_ONE = "/collections/{collection}"
_SNAPSHOTS = ("GET", "POST")


@dataclass(frozen=True, slots=True)
class Refused:
    """One operation that is refused, and what to do instead, where there is something."""

    method: str
    path: str
    instead: str | None = None


REFUSED = (
    Refused("POST", _ONE + "/points/query/groups", f"{_QUERY}, and group the hits"),
    Refused("POST", _ONE + "/points/search", _QUERY),
    Refused("POST", _ONE + "/points/search/batch", _QUERY + "/batch"),
    Refused("POST", _ONE + "/points/search/groups", f"{_QUERY}, and group the hits"),
    Refused("POST", _ONE + "/points/search/matrix/pairs"),
    Refused("POST", _ONE + "/points/search/matrix/offsets"),
    Refused("POST", _ONE + "/points/recommend", _QUERY),
    Refused("POST", _ONE + "/points/recommend/batch", _QUERY + "/batch"),
    Refused("POST", _ONE + "/points/recommend/groups", f"{_QUERY}, and group the hits"),
    Refused("POST", _ONE + "/points/discover"),
    Refused("POST", _ONE + "/points/discover/batch"),
    Refused("POST", _ONE + "/facet"),
    Refused("GET", _ONE + "/optimizations", "GET /collections/{collection} says how many points wait for an index"),
    *(Refused(method, _ONE + "/snapshots") for method in _SNAPSHOTS),
    *(Refused(method, _ONE + "/snapshots/{snapshot}") for method in ("GET", "DELETE")),
    Refused("PUT", _ONE + "/snapshots/recover"),
    Refused("POST", _ONE + "/snapshots/upload"),
    *(Refused(method, "/snapshots") for method in _SNAPSHOTS),
    *(Refused(method, "/snapshots/{snapshot}") for method in ("GET", "DELETE")),
    *(Refused(method, _ONE + "/shards") for method in ("GET", "PUT")),
    Refused("POST", _ONE + "/shards/delete"),
    *(Refused(method, _ONE + "/shards/{shard}/snapshots") for method in _SNAPSHOTS),
    *(Refused(method, _ONE + "/shards/{shard}/snapshots/{snapshot}") for method in ("GET", "DELETE")),
    Refused("PUT", _ONE + "/shards/{shard}/snapshots/recover"),
    Refused("POST", _ONE + "/shards/{shard}/snapshots/upload"),
    Refused("GET", _ONE + "/shards/{shard}/snapshot"),
    *(Refused(method, _ONE + "/cluster") for method in ("GET", "POST")),
    Refused("GET", "/cluster"),
    Refused("GET", "/cluster/telemetry"),
    Refused("POST", "/cluster/recover"),
    Refused("DELETE", "/cluster/peer/{peer}"),
    Refused("GET", "/telemetry", "GET /metrics"),
    *(Refused(method, "/issues") for method in ("GET", "DELETE")),
    *(Refused(method, "/quotas") for method in ("GET", "PUT")),
)


def refusals() -> list[Route]:
    """A route for each of them."""
    return [Route(one.path, partial(_refuse, one), methods=[one.method]) for one in REFUSED]


async def _refuse(one: Refused, request: Request) -> Response:
    raise VssError(
        Code.UNSUPPORTED,
        f"{one.method} {one.path} of Qdrant's API is not supported",
        hint=one.instead or "docs/qdrant-dialect.md lists what is",
    )
