"""OpenAPI 3.1, and a page for people, both made from the operations and their structs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib.metadata import version
from typing import Any

import msgspec

from api.operations import Operation
from api.wire.collections import VectorParams

_REF = "#/components/schemas/{name}"
_JSON = "application/json"

_ERROR = {
    "type": "object",
    "properties": {
        "status": {"type": "object", "properties": {"error": {"type": "string"}}},
        "time": {"type": "number"},
        "vss": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "field": {"type": ["string", "null"]},
                "hint": {"type": ["string", "null"]},
            },
        },
    },
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of the public operations."""
    public = [one for one in operations if not one.internal]
    bodies = [one.body for one in public if one.body is not None]
    results = [one.result for one in public if one.result is not None]
    # VectorParams stands behind a raw member, where msgspec does not look.
    known = [*bodies, *results, VectorParams]
    schemas, components = msgspec.json.schema_components(known, ref_template=_REF)
    body_schemas = iter(schemas[: len(bodies)])
    result_schemas = iter(schemas[len(bodies) : len(bodies) + len(results)])
    paths: dict[str, dict[str, Any]] = {}
    for one in public:
        body = next(body_schemas) if one.body is not None else None
        result = next(result_schemas) if one.result is not None else None
        paths.setdefault(_path(one.path), {})[one.method.lower()] = _operation(one, body, result)
    return {
        "openapi": "3.1.0",
        "info": {"title": "VSS", "version": version("vss-service"), "description": (__doc__ or "").strip()},
        "paths": paths,
        "components": {
            "schemas": components | {"Error": _ERROR},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _path(path: str) -> str:
    return path.replace(":path}", "}")


def _operation(one: Operation, body: Any, result: Any) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)", one.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": {"type": "string"}} for name in one.query]
    parameters += [{"name": name, "in": "header", "schema": {"type": "string"}} for name in one.headers]
    good: dict[str, Any] = {"description": "OK"}
    if result is not None:
        good["content"] = {_JSON: {"schema": _enveloped(result) if one.envelope else result}}
    described: dict[str, Any] = {
        "operationId": one.handler.__name__,
        "summary": one.summary,
        "description": (one.handler.__doc__ or "").strip(),
        "tags": [one.tag],
        "parameters": parameters,
        "responses": {
            "200": good,
            "default": {
                "description": "An error",
                "content": {_JSON: {"schema": {"$ref": _REF.format(name="Error")}}},
            },
        },
    }
    if body is not None:
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": body}}}
    return described


def _enveloped(result: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "result": result,
            "status": {"type": "string"},
            "time": {"type": "number", "description": "seconds"},
            "vss": {"type": "object", "description": "generation, complete, reason and what else was asked for"},
        },
        "required": ["result", "status", "time", "vss"],
    }


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2rem; text-transform: capitalize; }
code, pre { font: 13px/1.4 ui-monospace, monospace; }
summary { padding: .3rem 0; cursor: pointer; } summary b { display: inline-block; width: 4.5rem; }
table { border-collapse: collapse; margin: .3rem 0 1rem 4.5rem; }
td { padding: .15rem .8rem .15rem 0; vertical-align: top; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #dde; } a { color: #8bf; } }
"""


def page(operations: Sequence[Operation]) -> str:
    """The operations as HTML that loads nothing."""
    described = document(operations)
    schemas = described["components"]["schemas"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>VSS</title>",
        f"<style>{_STYLE}</style><h1>VSS {escape(described['info']['version'])}</h1>",
        "<p>As OpenAPI: <a href=openapi.json>openapi.json</a></p>",
    ]
    tags: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            tags.setdefault(one["tags"][0], []).append(_shown(method, path, one, schemas))
    for tag, members in tags.items():
        parts.append(f"<h2>{escape(tag)}</h2>" + "".join(members))
    return "\n".join(parts)


def _shown(method: str, path: str, one: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows = [("query", item["name"], "") for item in one["parameters"] if item["in"] == "query"]
    body = one.get("requestBody", {}).get("content", {}).get(_JSON, {}).get("schema", {})
    rows += [("body", name, kind) for name, kind in _members(body, schemas)]
    table = "".join(
        f"<tr><td>{place}</td><td><code>{escape(name)}</code></td><td>{escape(kind)}</td></tr>"
        for place, name, kind in rows
    )
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> {escape(one['summary'])}</summary>"
        f"<p>{escape(one['description'])}</p><table>{table}</table></details>"
    )


def _members(schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[tuple[str, str]]:
    target = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    for name, member in target.get("properties", {}).items():
        if not member.get("description", "").startswith("Not supported"):
            yield name, _kind(member)


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " | ".join(_kind(one) for one in schema[union] if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "any"))
