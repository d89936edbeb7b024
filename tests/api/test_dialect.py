"""The table of the dialect is true: complete against the models of Qdrant's client, and what it says happens."""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from pydantic import BaseModel
from qdrant_client.http import api, models

from api.dialect import PARTS, Part, document, rows, served
from api.routes.refused import REFUSED
from api.wire.base import Wire

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "qdrant-dialect.md"
READS = {model: part for part in PARTS for model in part.schemas}

ROOTS = (
    *("CreateCollection", "UpdateCollection", "CreateFieldIndex", "ChangeAliasesOperation", "VectorNameConfig"),
    *("PointsList", "PointsBatch", "PointIdsList", "FilterSelector", "SetPayload", "DeletePayload", "UpdateVectors"),
    *("DeleteVectors", "UpdateOperations", "PointRequest", "ScrollRequest", "CountRequest", "QueryRequest"),
    "QueryRequestBatch",
)
"""What Qdrant's API takes as bodies on the operations that are served."""

OTHER = {"TextQueryInput"}
"""Models that stand for another thing under a name of ours; the note of that field says so."""


def test_the_document_is_what_the_code_says() -> None:
    if os.environ.get("VSS_WRITE_DOCS"):
        DOCUMENT.write_text(document())
    assert DOCUMENT.read_text() == document(), "VSS_WRITE_DOCS=1 pytest tests/api/test_dialect.py writes it anew"


def operations_of_the_client() -> set[tuple[str, str]]:
    """(method, path) of every operation in the client, our names in the braces."""
    found = set()
    for name, module in inspect.getmembers(api, inspect.ismodule):
        if name.endswith("_api"):
            source = inspect.getsource(module)
            found |= set(re.findall(r'method="(\w+)",\s+url="([^"]+)"', source))
    assert len(found) > 60
    return {(method, re.sub("{.*?}", "{}", path)) for method, path in found}


def test_every_operation_of_the_client_is_served_or_refused_by_name() -> None:
    named = [(one.method, one.path) for one in served()] + [(one.method, one.path) for one in REFUSED]
    ours = {(method, re.sub("{.*?}", "{}", path)) for method, path in named}
    assert operations_of_the_client() - ours == set()


def models_in(annotation: typing.Any) -> Iterator[type[BaseModel]]:
    """The models that a type is made of."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for one in typing.get_args(annotation):
        yield from models_in(one)


def encoded(wire: type[Wire]) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields of a struct by their names in JSON."""
    return {one.encode_name: one for one in msgspec.structs.fields(wire)}


def test_every_field_of_the_client_is_classified() -> None:
    """From the bodies down: each model is read by a part, and each of its fields is a field of that part's struct."""
    waiting = [one for root in ROOTS for one in models_in(getattr(models, root))]
    seen: set[type[BaseModel]] = set()
    missing = []
    while waiting:
        model = waiting.pop()
        if model in seen or model.__name__ in OTHER:
            continue
        seen.add(model)
        part = READS.get(model.__name__)
        if part is None:
            missing.append(model.__name__)
            continue
        fields = encoded(part.wire)
        for name, info in model.model_fields.items():
            known = fields.get(info.alias or name)
            if known is None:
                missing.append(f"{model.__name__}.{name}")
            elif known.name not in part.wire.unsupported:
                waiting += models_in(info.annotation)
    assert sorted(missing) == []
    assert len(seen) > 60


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.schemas[0])
def test_notes_are_about_fields_that_are_taken(part: Part) -> None:
    fields = encoded(part.wire)
    for name in part.different:
        assert name in fields
        assert fields[name].name not in part.wire.unsupported


def test_the_status_of_a_field_says_what_happens(http: httpx.Client) -> None:
    """Each refused field of a query is refused by its name; each other one is not."""
    assert http.put("/collections/d", json={"vectors": {"size": 2, "distance": "Dot"}}).status_code == 200
    (part,) = (part for part in PARTS if "QueryRequest" in part.schemas)
    statuses = {row.name: row.status for row in rows(part)}
    assert set(statuses.values()) == {"same", "different", "refused", "ours"}
    for name, status in statuses.items():
        answer = http.post("/collections/d/points/query", json={"query": [1, 0], name: [{"surprise": 1}]}).json()
        refused = answer.get("vss", {}).get("code") == "unsupported"
        assert refused == (status == "refused"), name
        if refused:
            assert answer["vss"]["field"] == name


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: f"{one.method} {one.path}")
def test_operations_are_refused_by_name(http: httpx.Client, one: typing.Any) -> None:
    path = re.sub("{.*?}", "x", one.path)
    answer = http.request(one.method, path, json={} if one.method != "GET" else None)
    assert answer.status_code == 400
    assert answer.json()["vss"]["code"] == "unsupported"
    assert one.path in answer.json()["status"]["error"]
