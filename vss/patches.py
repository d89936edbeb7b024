"""Payload patches: what a payload becomes.

set        merge keys at the top (or below `key`), as Qdrant's "set payload": a key whose new value is null is removed
overwrite  the payload becomes `set` (or what lies at `key` does)
delete     remove keys (paths: `a.b`, `a[].b`)
clear      the payload becomes `{}`
"""

from __future__ import annotations

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


# Made here, where one thread imports: two threads that decode a struct for the first time at once crash msgspec 0.22.
_decode_patch = msgspec.json.Decoder(PayloadPatch).decode


def pack_patch(patch: PayloadPatch) -> bytes:
    """The patch as JSON."""
    return msgspec.json.encode(patch)


def unpack_patch(data: bytes) -> PayloadPatch:
    """What `pack_patch` was given."""
    return _decode_patch(data)


def patched(payload: bytes, patch: PayloadPatch) -> bytes:
    """The payload after the patch, as JSON bytes."""
    value: dict[str, Any] = {} if patch.clear else msgspec.json.decode(payload)
    if patch.set is not None:
        if patch.key is None:
            value = dict(patch.set) if patch.overwrite else _merged(value, patch.set)
        else:
            value = _set_at(value, parse_path(patch.key), patch.set, overwrite=patch.overwrite)
    for path in patch.delete:
        remove_at(value, parse_path(path))
    return msgspec.json.encode(value) if value else EMPTY_PAYLOAD


def remove_at(value: Any, path: Path) -> None:
    """Remove, in place, what the path leads to: a member of an object, or all elements of an array (`a[]`).

    A path that ends in one element (`a[0]`) removes nothing, as in Qdrant: sent again, it would remove the next one.
    """
    for parent in reach(value, path[:-1]):
        step = path[-1]
        if isinstance(step, str):
            if isinstance(parent, dict):
                parent.pop(step, None)
        elif step == EACH and isinstance(parent, list):
            parent.clear()


def _merged(value: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    kept = {name: one for name, one in value.items() if name not in new}
    return kept | {name: one for name, one in new.items() if one is not None}


def _set_at(value: Any, path: Path, new: dict[str, Any], *, overwrite: bool) -> Any:
    """The value with `new` merged at the path. What is no object, or no array, and has to be one becomes an empty one;
    elements of arrays exist or nothing happens."""
    if not path:
        return dict(new) if overwrite else _merged(value if isinstance(value, dict) else {}, new)
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        members = value if isinstance(value, dict) else {}
        members[step] = _set_at(members.get(step), rest, new, overwrite=overwrite)
        return members
    elements = value if isinstance(value, list) else []
    for place in range(len(elements)) if step == EACH else range(step, min(step + 1, len(elements))):
        elements[place] = _set_at(elements[place], rest, new, overwrite=overwrite)
    return elements
