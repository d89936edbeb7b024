"""`vss search`: a text query, asked of a running server."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from api.cli.client import Client
from api.cli.options import DEFAULT_DATA, Collection, Data
from vss.errors import invalid

CELL = 100
"""Characters of a payload that a row shows."""


def search(
    collection: Collection,
    text: Annotated[str, typer.Argument(help="What to look for.")],
    limit: Annotated[int, typer.Option("-k", "--limit", min=1, help="How many points.")] = 5,
    filter_: Annotated[str | None, typer.Option("--filter", help="A filter as JSON.")] = None,
    url: Annotated[str | None, typer.Option(help="A server; else the one that runs on DATA.")] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Search a collection by text.

    \b
    Examples:
      vss search docs "compress a folder" -k 3
      vss search docs "compress a folder" --filter '{"must": [{"key": "kind", "match": {"value": "class"}}]}'
    """
    body: dict[str, Any] = {"query": {"text": text}, "limit": limit, "with_payload": True}
    if filter_ is not None:
        try:
            body["filter"] = msgspec.json.decode(filter_)
        except msgspec.DecodeError as error:
            raise invalid(f"got a filter that is not JSON: {error}", field="--filter") from error
    with Client(url, data) as client:
        answer = client.send("POST", f"/collections/{quote(collection, safe='')}/points/query", body)
    table = Table("score", "id", "payload")
    for point in answer["result"]["points"]:
        shown = msgspec.json.encode(point.get("payload") or {}).decode()
        table.add_row(f"{point['score']:.3f}", str(point["id"]), shown if len(shown) <= CELL else shown[:CELL] + " ...")
    console = Console()
    if table.row_count:
        console.print(table)
    reason = answer["vss"].get("reason")
    if reason:
        console.print(f"fewer than {limit}: {reason}")
