"""Each kind of condition through the unmodified qdrant-client, on points in a live part and in a folded segment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from indexers.registry import INDEXERS
from tests.api.server_process import ServerProcess
from vss.engines.local import LocalEngine
from vss.storage.datadir import DataDir
from vss.storage.fold import fold

FIELD = models.FieldCondition
PAYLOADS: dict[int, dict[str, Any]] = {
    1: {"name": "A red fox", "tags": ["a", "b"], "made": "2024-05-01T10:00:00+02:00", "size": 3, "a.b": 1},
    2: {"name": "red, a FOX!", "tags": [], "made": "2024-05-01T08:00:00.000001Z", "size": None},
    3: {"name": "foxes", "tags": "a", "made": "2023-01-01", "size": 3.5, "deep": {"n": 1}},
    4: {"name": None, "tags": [None, "c"], "made": "soon", "parts": [{"n": 1, "ok": False}, {"n": 2, "ok": True}]},
    5: {"parts": [{"n": 1, "ok": True}], "size": [1, 2, 3]},
    6: {},
}
UTC_TWO = timezone(timedelta(hours=2))


def vectors(row: int) -> dict[str, Any]:
    """Every other point has two."""
    return {"one": [1.0, row]} | ({"two": [1.0, 0.0]} if row % 2 == 0 else {})


@pytest.fixture(scope="module", params=["live", "folded"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantClient]:
    """A client of a server whose collection `c` lies in the live part or in a segment."""
    folder: Path = tmp_path_factory.mktemp("filters") / "data"
    server = ServerProcess(folder)
    try:
        made = QdrantClient(url=server.url, timeout=30)
        params = models.VectorParams(size=2, distance=models.Distance.DOT)
        made.create_collection("c", vectors_config={"one": params, "two": params})
        made.upsert(
            "c",
            [models.PointStruct(id=row, vector=vectors(row), payload=payload) for row, payload in PAYLOADS.items()],
        )
        if request.param == "folded":
            made.close()
            server.stop()
            engine = LocalEngine(DataDir(folder), INDEXERS, writable=True)
            fold(engine.collection("c"), engine, INDEXERS, threads=1)
            engine.close()
            server = ServerProcess(folder)
            made = QdrantClient(url=server.url, timeout=30)
        yield made
        made.close()
    finally:
        server.stop()


def field(key: str, **asked: object) -> models.FieldCondition:
    """A condition on a payload field."""
    return FIELD.model_validate({"key": key} | asked)


TAG_A, TAG_B = (field("tags", match=models.MatchValue(value=one)) for one in ("a", "b"))
MANY = field("size", values_count=models.ValuesCount(gte=1))
CASES: list[tuple[models.Condition, list[int]]] = [
    (field("tags", match=models.MatchAny(any=["a", "c"])), [1, 3, 4]),
    (field("tags", match=models.MatchExcept(**{"except": ["a"]})), [1, 4]),
    (field("tags[0]", match=models.MatchValue(value="a")), [1]),
    (field('"a.b"', match=models.MatchValue(value=1)), [1]),
    (field("deep.n", match=models.MatchValue(value=1)), [3]),
    (field("parts[].n", match=models.MatchValue(value=2)), [4]),
    (field("name", match=models.MatchText(text="fox RED")), [1, 2]),
    (field("name", match=models.MatchTextAny(text_any="foxes red")), [1, 2, 3]),
    (field("name", match=models.MatchPhrase(phrase="red fox")), [1]),
    (field("name", match=models.MatchPrefix(prefix="red")), [2]),
    (field("name", match=models.MatchSubstring(substring="fox")), [1, 3]),
    (field("size", range=models.Range(gt=2, lte=3.5)), [1, 3, 5]),
    (field("made", range=models.DatetimeRange(gte=datetime(2024, 5, 1, 8, tzinfo=UTC))), [1, 2]),
    (field("made", range=models.DatetimeRange(gt=datetime(2024, 5, 1, 10, tzinfo=UTC_TWO))), [2]),
    (field("made", range=models.DatetimeRange(lt=datetime(2024, 5, 1, 8, 0, 0, 1))), [1, 3]),
    (field("made", range=models.DatetimeRange(lte=date(2023, 1, 1))), [3]),
    (field("tags", values_count=models.ValuesCount(gte=2)), [1, 4]),
    (field("tags", values_count=models.ValuesCount(lt=1)), [2, 5, 6]),
    (MANY, [1, 3, 5]),
    (models.IsEmptyCondition(is_empty=models.PayloadField(key="tags")), [2, 5, 6]),
    (models.IsNullCondition(is_null=models.PayloadField(key="tags")), [4]),
    (field("size", is_empty=False), [1, 3, 5]),
    (field("name", is_null=True), [4]),
    (models.HasIdCondition(has_id=[2, 5, 99]), [2, 5]),
    (models.HasVectorCondition(has_vector="two"), [2, 4, 6]),
    (
        models.NestedCondition(
            nested=models.Nested(
                key="parts",
                filter=models.Filter(
                    must=[
                        field("n", match=models.MatchValue(value=1)),
                        field("ok", match=models.MatchValue(value=True)),
                    ]
                ),
            )
        ),
        [5],
    ),
    (models.Filter(min_should=models.MinShould(conditions=[TAG_A, TAG_B, MANY], min_count=2)), [1, 3]),
    (models.Filter(must_not=[models.Filter(should=[TAG_A, MANY])]), [2, 4, 6]),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_conditions(client: QdrantClient, case: int) -> None:
    condition, expected = CASES[case]
    where = condition if isinstance(condition, models.Filter) else models.Filter(must=[condition])
    assert [point.id for point in client.scroll("c", scroll_filter=where)[0]] == expected
    assert client.count("c", count_filter=where).count == len(expected)
    hits = client.query_points("c", [0.0, 1.0], using="one", query_filter=where).points
    assert [point.id for point in hits] == expected[::-1]
    others = models.Filter(must_not=[where])
    assert client.count("c", count_filter=others).count == len(PAYLOADS) - len(expected)
