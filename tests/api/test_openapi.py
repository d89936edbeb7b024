"""The document says what the router does, and the page that shows it loads nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from api.operations import Operation
from api.routes.table import OPERATIONS


@pytest.fixture(scope="module")
def described(http: httpx.Client) -> dict[str, Any]:
    """The document as it is served."""
    document: dict[str, Any] = http.get("/openapi.json").json()
    return document


def public() -> list[Operation]:
    """What stands in the document."""
    return [one for one in OPERATIONS if not one.internal]


def test_every_operation_is_described_and_nothing_else(described: dict[str, Any]) -> None:
    shown = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert shown == {(one.method, one.path.replace(":path", "")) for one in public()}
    assert "/internal/publish" not in described["paths"]


@pytest.mark.parametrize("operation", public(), ids=lambda one: f"{one.method} {one.path}")
def test_every_described_operation_is_answered(http: httpx.Client, operation: Operation) -> None:
    path = re.sub(r"{.*?}", "1", operation.path.replace("{collection}", "none"))
    answer = http.request(operation.method, path, content=b"{}" if operation.body else None)
    assert answer.status_code != 405
    assert "there is nothing at" not in answer.text


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    names = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', str(described).replace("'", '"')))
    assert names
    assert names <= set(schemas)


def test_operation_ids_are_unique(described: dict[str, Any]) -> None:
    ids = [one["operationId"] for methods in described["paths"].values() for one in methods.values()]
    assert len(ids) == len(set(ids))


def test_structs_forbid_what_they_do_not_name(described: dict[str, Any]) -> None:
    query = described["components"]["schemas"]["QueryWire"]
    assert query["additionalProperties"] is False
    assert {"query", "using", "limit", "filter", "vss"} <= set(query["properties"])


def test_the_page_names_every_operation_and_loads_nothing(http: httpx.Client) -> None:
    page = http.get("/docs").text
    for operation in public():
        assert operation.path.replace(":path", "") in page
        assert operation.summary in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
