"""Payload patches: what a payload becomes.

set        merge keys at the top (or below `key`), as Qdrant's "set payload"
overwrite  the payload becomes `set` (or what lies at `key` does)
delete     remove keys (paths: `a.b`, `a[].b`)
clear      the payload becomes `{}`
"""

from __future__ import annotations

from typing import Any

import msgspec

from vss.points import EMPTY_PAYLOAD


class PayloadPatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One patch, carried out in this order: clear, set (merging, or replacing when `overwrite`), delete.

    key: the path that `set` applies to; None is the payload itself
    """

    clear: bool = False
    set: dict[str, Any] | None = None
    overwrite: bool = False
    key: str | None = None
    delete: tuple[str, ...] = ()


def pack_patch(patch: PayloadPatch) -> bytes:
    """The patch as JSON."""
    return msgspec.json.encode(patch)


def unpack_patch(data: bytes) -> PayloadPatch:
    """What `pack_patch` was given."""
    return msgspec.json.decode(data, type=PayloadPatch)


def patched(payload: bytes, patch: PayloadPatch) -> bytes:
    """The payload after the patch, as JSON bytes."""
    value: dict[str, Any] = {} if patch.clear else msgspec.json.decode(payload)
    if patch.set is not None:
        if patch.key is None:
            value = dict(patch.set) if patch.overwrite else value | patch.set
        else:
            _set_at(value, patch.key.split("."), patch.set, overwrite=patch.overwrite)
    for path in patch.delete:
        _delete_at(value, path.split("."))
    return msgspec.json.encode(value) if value else EMPTY_PAYLOAD


def _set_at(value: dict[str, Any], steps: list[str], new: dict[str, Any], *, overwrite: bool) -> None:
    """Walk to the path, making objects on the way, and merge there. `a[]` goes into every element of a list."""
    name, last = steps[0].removesuffix("[]"), len(steps) == 1
    if steps[0].endswith("[]"):
        below = value.get(name)
        elements: list[Any] = below if isinstance(below, list) else []
        for place, one in enumerate(elements):
            if last:
                elements[place] = dict(new) if overwrite or not isinstance(one, dict) else one | new
            elif isinstance(one, dict):
                _set_at(one, steps[1:], new, overwrite=overwrite)
        return
    here = value.get(name)
    if last:
        value[name] = dict(new) if overwrite or not isinstance(here, dict) else here | new
        return
    if not isinstance(here, dict):
        here = value[name] = {}
    _set_at(here, steps[1:], new, overwrite=overwrite)


def _delete_at(value: Any, steps: list[str]) -> None:
    if not isinstance(value, dict):
        return
    name = steps[0].removesuffix("[]")
    if len(steps) == 1:
        if steps[0].endswith("[]"):
            if isinstance(value.get(name), list):
                value[name] = []
        else:
            value.pop(name, None)
    elif steps[0].endswith("[]"):
        below = value.get(name)
        for one in below if isinstance(below, list) else ():
            _delete_at(one, steps[1:])
    else:
        _delete_at(value.get(name), steps[1:])
