"""Step 3: what a user would ask, through HTTP, each with the curl line that asks the same."""

from __future__ import annotations

import json
import shlex
from typing import Any

from rich.console import Console
from rich.table import Table

from api.cli.client import Client

COLLECTION = "stdlib"

TEXTS = (
    "compress a folder",
    "wait for several threads",
    "parse command line options",
    "send an email with an attachment",
    "remember the results of a slow function",
)

FILTERED = "run a function in another process"
FILTER = {
    "must": [{"key": "kind", "match": {"value": "class"}}],
    "must_not": [{"key": "package", "match": {"value": "distutils"}}],
}

LIKED = ["shutil.make_archive", "zipfile.ZipFile"]
DISLIKED = ["gzip.GzipFile"]
RERANKER = "late_interaction"
LIMIT = 5


def show(console: Console, client: Client, url: str) -> None:
    """Ask and print everything."""
    for text in TEXTS:
        _search(console, client, url, text, None)
    _search(console, client, url, FILTERED, FILTER)
    _recommend(console, client, url)


def _search(console: Console, client: Client, url: str, text: str, where: Any) -> None:
    body: dict[str, Any] = {"query": {"text": text}, "limit": LIMIT, "with_payload": True}
    title = f'search "{text}"'
    if where is not None:
        body["filter"] = where
        title += f"\nonly where {json.dumps(where)}"
    path = f"/collections/{COLLECTION}/points/query"
    answer = client.send("POST", path, body)
    _print(console, title, url + path, body, answer["result"]["points"])


def _recommend(console: Console, client: Client, url: str) -> None:
    body = {
        "positive": LIKED,
        "negative": DISLIKED,
        "limit": LIMIT,
        "candidates": 50,
        "rerank": {"model": RERANKER, "timeout_ms": 10_000},
    }
    path = f"/collections/{COLLECTION}/recommend"
    result = client.send("POST", path, body)["result"]
    title = f"recommend: like {' and '.join(LIKED)}, unlike {' and '.join(DISLIKED)}, re-ranked by {RERANKER}"
    _print(console, title, url + path, body, result["points"])
    spent = ", ".join(f"{stage} {ms:.1f}" for stage, ms in result["timings_ms"].items())
    _line(console, f"  milliseconds: {spent}")
    if result["degraded"]:
        _line(console, f"  degraded: {result['degraded']}")
    console.print()


def _print(console: Console, title: str, url: str, body: Any, points: list[dict[str, Any]]) -> None:
    for line in title.splitlines():
        _line(console, line, style="bold")
    ranked = any("rerank_rank" in point for point in points)
    table = Table(box=None, padding=(0, 1), show_edge=False)
    # Fixed widths: left alone, the table would cut the names to show more of the summaries.
    name = max([len("name"), *(len(str(point["payload"]["name"])) for point in points)])
    table.add_column("score", justify="right", width=6)
    if ranked:
        table.add_column("was", justify="right", width=3)
    table.add_column("name", width=name, no_wrap=True)
    table.add_column(
        "summary", width=max(20, console.width - name - (19 if ranked else 14)), no_wrap=True, overflow="ellipsis"
    )
    for point in points:
        payload = point["payload"]
        was = [str(point["similarity_rank"])] if ranked else []
        table.add_row(f"{point['score']:.3f}", *was, str(payload["name"]), str(payload["summary"]))
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    shown = shlex.quote(json.dumps(body))
    _line(console, f"  curl -s {url} -H 'content-type: application/json' -d {shown}", style="dim")
    if not ranked:
        console.print()


def _line(console: Console, text: str, style: str | None = None) -> None:
    # Never wrapped, so that it can be copied.
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
