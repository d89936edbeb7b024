"""Payload patches: what a payload becomes.

set        merge keys at the top (or below `key`), as Qdrant's "set payload"
overwrite  the payload becomes `set` (or what lies at `key` does)
delete     remove keys (paths: `a.b`, `a[].b`)
clear      the payload becomes `{}`
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from vss.paths import EACH, Path, parse_path, reach
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
            _set_at(value, parse_path(patch.key), patch.set, overwrite=patch.overwrite)
    for path in patch.delete:
        remove_at(value, parse_path(path))
    return msgspec.json.encode(value) if value else EMPTY_PAYLOAD


def remove_at(value: Any, path: Path) -> None:
    """Remove, in place, what the path leads to: a member of an object, or the elements of an array (`a[]`, `a[0]`)."""
    for parent in reach(value, path[:-1]):
        step = path[-1]
        if isinstance(step, str):
            if isinstance(parent, dict):
                parent.pop(step, None)
        elif isinstance(parent, list):
            if step == EACH:
                parent.clear()
            elif step < len(parent):
                del parent[step]


def _set_at(value: Any, path: Path, new: dict[str, Any], *, overwrite: bool) -> None:
    """Merge at the path, in place. Objects are made on the way; elements of arrays exist or nothing happens."""
    step, last = path[0], len(path) == 1
    if isinstance(step, str):
        if not isinstance(value, dict):
            return
        keys: Iterable[Any] = (step,)
        if not last and step not in value and isinstance(path[1], str):
            value[step] = {}
    else:
        if not isinstance(value, list):
            return
        keys = range(len(value)) if step == EACH else range(step, min(step + 1, len(value)))
    for key in keys:
        if last:
            here = value.get(key) if isinstance(value, dict) else value[key]
            value[key] = dict(new) if overwrite or not isinstance(here, dict) else here | new
        elif isinstance(value, list) or key in value:
            if isinstance(path[1], str) and not isinstance(value[key], dict):
                value[key] = {}
            _set_at(value[key], path[1:], new, overwrite=overwrite)
