"""What all wire structs share: decoding with errors that name the field, unsupported options, the answer's envelope."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import msgspec

from vss.errors import Code, VssError, invalid

T = TypeVar("T")

_AT = re.compile(r" - at `\$?\.?(.*)`$")
_UNKNOWN = re.compile(r"unknown field `(.*)`")

Unsupported = Annotated[
    Any, msgspec.Meta(description="Not supported: leave it out, or send null or what happens anyway.")
]
"""An option of the dialect that we do not have; `refuse_unsupported` names it when a request needs it."""


Harmless = Mapping[str, tuple[Any, ...]]
Hints = Mapping[str, str]


class Wire(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request body or a part of one.

    unsupported: name of an option we do not have -> the values that are no request for it (besides null)
    hints:       name of such an option -> what to do instead
    """

    unsupported: ClassVar[Harmless] = {}
    hints: ClassVar[Hints] = {}


class Reply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A part of an answer; members that were not asked for are left out."""


class Envelope(msgspec.Struct, Generic[T], kw_only=True):
    """Qdrant's envelope. `vss` is our addition: clients of the dialect ignore it."""

    result: T
    status: str = "ok"
    time: float = 0.0
    vss: dict[str, Any] = {}


def decode(body: bytes, kind: type[T]) -> T:
    """The body as a struct. VssError (INVALID) names the field, what was got and what was wanted."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _validation(str(error)) from None
    except msgspec.DecodeError as error:
        raise _not_finite(body) or invalid(
            f"got a body that is not JSON: {error}", field="body", hint="send a JSON object"
        ) from None
    except UnicodeDecodeError as error:
        raise invalid(f"got text that is not UTF-8 at byte {error.start}", field="body") from None
    except RecursionError:
        raise invalid("got JSON that is nested too deeply", field="body") from None


def _validation(message: str) -> VssError:
    found = _AT.search(message)
    path = found[1] if found else ""
    said = message[: found.start()] if found else message
    unknown = _UNKNOWN.search(said)
    if unknown:
        name = f"{path}.{unknown[1]}" if path else unknown[1]
        return invalid("got a field that does not exist", field=name, hint="GET /docs lists the fields")
    missing = re.search(r"missing required field `(.*)`", said)
    if missing:
        name = f"{path}.{missing[1]}" if path else missing[1]
        return invalid("got nothing, wanted this field", field=name)
    wanted = re.match(r"Expected `(.*)`, got `(.*)`$", said)
    if wanted:
        return invalid(f"got {wanted[2]}, wanted {wanted[1]}", field=path or "body")
    enum = re.match(r"Invalid enum value (.*)$", said)
    if enum:
        return invalid(
            f"got {enum[1]}, wanted one of the values that the API knows",
            field=path or "body",
            hint="GET /docs lists them; capitals count",
        )
    return invalid(said[:1].lower() + said[1:], field=path or "body")


def _not_finite(body: bytes) -> VssError | None:
    """NaN and Infinity are not JSON, but some clients send them: name the place; the parser only knows the byte."""
    try:
        path = _find_not_finite(json.loads(body), "")
    except (ValueError, RecursionError):
        return None
    return None if path is None else invalid("got NaN or Infinity, wanted a finite number", field=path)


def _find_not_finite(value: object, path: str) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return path
    if isinstance(value, dict):
        steps = ((f"{path}.{name}" if path else str(name), below) for name, below in value.items())
    elif isinstance(value, list):
        steps = ((f"{path}[{place}]", below) for place, below in enumerate(value))
    else:
        return None
    return next((found for step, below in steps if (found := _find_not_finite(below, step)) is not None), None)


def refuse_unsupported(wire: Wire, where: str = "") -> None:
    """Raise VssError (UNSUPPORTED) naming the first option that is asked for and that we do not have."""
    for name, harmless in wire.unsupported.items():
        value = getattr(wire, name)
        if value is not None and not any(value == one and type(value) is type(one) for one in harmless):
            # A name that Python keeps for itself ends in an underscore here.
            raise unsupported(under(where, name.rstrip("_")), hint=wire.hints.get(name))


def unsupported(field: str, *, hint: str | None = None) -> VssError:
    """The error for something of the dialect that we do not have."""
    return VssError(Code.UNSUPPORTED, "this is not supported", field=field, hint=hint or "leave it out")


def under(where: str, name: str) -> str:
    """The path of a member."""
    if not where:
        return name
    return where + name if name.startswith("[") else f"{where}.{name}"


def located(error: VssError, field: str) -> VssError:
    """The same error about a value that stands at `field` of the request."""
    return VssError(error.code, error.message, field=field, hint=error.hint)


def exactly_one(wire: Wire, names: tuple[str, ...], where: str) -> str:
    """The one member of a union that is there. VssError (INVALID) when there is none or several."""
    there = [name for name in names if getattr(wire, name) is not None]
    if len(there) != 1:
        got = " and ".join(there).replace("except_", "except") or "none of them"
        raise invalid(f"got {got}, wanted exactly one of {', '.join(names).replace('except_', 'except')}", field=where)
    return there[0]
