"""Where a load's points come from: made, from a .npy, or in a collection that is served already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from api.bench.load_workloads import Material
from api.bench.registry import write_arrow
from api.cli.client import Client
from api.demo import process
from vss.errors import invalid
from vss.types import Metric, Vectors

VECTORS, TEXTS = "vectors", "texts"
"""The collections of the benchmark's own data directory."""

MOST = 1_000
"""Different requests of one operation, unless more were held out."""

MADE_TEXTS, MADE_WORDS, TEXT_WORDS = 5_000, 3_000, 12

_PAGE = 250


def store(data: Path, vectors: Vectors, held: Vectors, metric: Metric) -> Material:
    """Index vectors `(n, dim)` into a data directory with `vss index`, and ask for those that were held out.

    Half of those are asked for, half written. Points have a payload: a title, `group` of 10 values, a price. The filter
    asks for one group.
    """
    source = data.with_name(f"{data.name}.arrow")
    write_arrow(source, vectors)
    try:
        process.run(
            *("index", str(source), "--data", str(data), "--collection", VECTORS),
            *("--vector-field", "vector", "--metric", metric.value),
        )
    finally:
        source.unlink()
    half = len(held) // 2
    ids = np.linspace(0, len(vectors) - 1, min(MOST, len(vectors)), dtype=np.int64)
    return Material(
        collection=VECTORS,
        metric=metric,
        queries=held[:half],
        fresh=held[half:],
        ids=ids.tolist(),
        held_out=True,
        filter={"must": [{"key": "group", "match": {"value": 3}}]},
    )


def store_texts(data: Path, texts: Sequence[str], model: str, seed: int, material: Material) -> Material:
    """Index texts into a collection of their own, all but those that are to be asked for."""
    order = np.random.default_rng(seed).permutation(len(texts))
    asked = min(MOST, len(texts) // 10)
    source = data.with_name(f"{data.name}.jsonl")
    lines = [{"id": int(row), "text": texts[row]} for row in order[asked:]]
    source.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    try:
        process.run(
            *("index", str(source), "--data", str(data), "--collection", TEXTS),
            *("--text-field", "text", "--model", model),
        )
    finally:
        source.unlink()
    return replace(material, texts=[texts[row] for row in order[:asked]], text_collection=TEXTS)


def made_texts(seed: int) -> list[str]:
    """Sentences of made words, some of them frequent as in languages."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, size)) for size in random.integers(3, 10, MADE_WORDS)]
    chance = 1.0 / np.arange(1, MADE_WORDS + 1)
    chosen = random.choice(MADE_WORDS, size=(MADE_TEXTS, TEXT_WORDS), p=chance / chance.sum())
    return [" ".join(words[word] for word in row) for row in chosen]


def read_texts(path: Path) -> list[str]:
    """One text a line; of JSON Lines the field `text`. VssError (INVALID) when there are fewer than 10."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        texts = [msgspec.json.decode(line)["text"] for line in lines] if path.suffix == ".jsonl" else lines
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise invalid(f"got {path}, which cannot be read: {error!r}", field="--texts") from error
    texts = [text for text in texts if isinstance(text, str) and text.strip()]
    if len(texts) < 10:
        raise invalid(f"got {len(texts)} texts in {path}, wanted 10 at least", field="--texts")
    return texts


def served(
    client: Client, collection: str, queries: Vectors | None, texts: Sequence[str], condition: dict[str, Any] | None
) -> Material:
    """A collection that is served already, asked for these `(q, dim)` queries or else for its own points.

    VssError: NOT_FOUND; INVALID when it has named vectors, no points, or another dimension than the queries.
    """
    found = client.send("GET", f"/collections/{quote(collection, safe='')}")["result"]["config"]["params"]["vectors"]
    if "size" not in found:
        raise invalid(
            f"got collection {collection!r} with the named vectors {', '.join(found)}, wanted one without a name",
            field="--collection",
        )
    points: list[dict[str, Any]] = []
    offset: Any = None
    while len(points) < MOST:
        body = {"limit": _PAGE, "with_vector": True, "with_payload": False, "offset": offset}
        page = client.send("POST", f"/collections/{quote(collection, safe='')}/points/scroll", body)["result"]
        points += page["points"]
        offset = page["next_page_offset"]
        if offset is None:
            break
    if not points:
        raise invalid(f"got collection {collection!r} without points", field="--collection", hint="import some first")
    own = np.asarray([one["vector"] for one in points], np.float32)
    asked = own if queries is None else queries
    if asked.shape[1] != found["size"]:
        raise invalid(f"got vectors of {asked.shape[1]} numbers, wanted {found['size']}", field="--npy")
    metric = Metric(found["distance"])
    return Material(
        collection=collection,
        metric=metric,
        queries=asked,
        fresh=asked,
        ids=[one["id"] for one in points],
        held_out=queries is not None,
        filter=condition,
        texts=texts[:MOST],
        text_collection=collection,
        text_metric=metric,
    )
