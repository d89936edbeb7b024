"""From what a write asks for to the operations that the log keeps.

A filter is evaluated here, by the writer, between two commits: so it selects exactly what is stored at that moment, and
the log names the points, so that replaying it needs no filter.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from vss.changes import Change, Delete, DeleteVectors, PatchPayload, Selector, UpdateMode, UpdateVectors, Upsert
from vss.errors import invalid
from vss.filters import Filter
from vss.patches import PayloadPatch, pack_patch, patched
from vss.points import MAX_PAYLOAD_BYTES, id_key
from vss.storage.log import Kind, Operation, pack_vectors
from vss.storage.view import View


def needs_view(change: Change) -> bool:
    """Whether the operations depend on what is stored."""
    match change:
        case Upsert(_, mode, where):
            return mode is not UpdateMode.UPSERT or where is not None
        case Delete(select):
            return isinstance(select, Filter)
        case PatchPayload() | UpdateVectors() | DeleteVectors():
            return True


def operations_of(change: Change, view: View | None) -> list[Operation]:
    """The operations of one change; `view` is everything before it, and may be None when `needs_view` says so.

    Raises VssError (INVALID) when a payload would grow too large; nothing of the change is done then.
    """
    match change:
        case Upsert(points) if not needs_view(change):
            return [
                Operation(Kind.UPSERT, id_key(point.id), pack_vectors(point.vectors), point.payload) for point in points
            ]
        case Delete(select) if not isinstance(select, Filter):
            return [Operation(Kind.DELETE, id_key(one)) for one in select]
    assert view is not None
    if isinstance(change, Upsert):
        # Of one id the last counts before anything else: which it is must not hang on what is stored.
        last = {id_key(point.id): point for point in change.points}
        passes = _passing(view, last, change.where)
        return [
            Operation(Kind.UPSERT, key, pack_vectors(point.vectors), point.payload)
            for key, point in last.items()
            if _wanted(change.mode, passes.get(key))
        ]
    if isinstance(change, UpdateVectors):
        passes = _passing(view, map(id_key, (point.id for point in change.points)), change.where)
        return [
            Operation(Kind.UPDATE_VECTORS, key, pack_vectors(point.vectors))
            for point in change.points
            if passes.get(key := id_key(point.id))
        ]
    keys = _selected(view, change.select)
    match change:
        case Delete():
            return [Operation(Kind.DELETE, key) for key in keys]
        case PatchPayload(_, patch):
            _check_growth(view, keys, patch)
            data = pack_patch(patch)
            return [Operation(Kind.PATCH_PAYLOAD, key, payload=data) for key in keys]
        case DeleteVectors(_, names):
            data = msgspec.json.encode(names)
            return [Operation(Kind.DELETE_VECTORS, key, payload=data) for key in keys]


def affected(change: Change, view: View) -> int:
    """How many points a change would write or remove. VssError as `operations_of`."""
    if isinstance(change, Delete):
        return len(_selected(view, change.select))  # by id it is written for ids that are not there too
    return len({operation.key for operation in operations_of(change, view)})


def _passing(view: View, keys: Iterable[bytes], where: Filter | None) -> dict[bytes, bool]:
    """Of the keys that are there, whether their points pass the filter."""
    allowed = [part.allowed(where) for part in view.parts]
    found = {}
    for key in keys:
        for part, mask in zip(view.parts, allowed, strict=True):
            row = part.find(key)
            if row >= 0:
                found[key] = mask is None or bool(mask[row])
                break
    return found


def _wanted(mode: UpdateMode, passes: bool | None) -> bool:
    """Whether to write a point; `passes` is None when it is not there yet."""
    if passes is None:
        return mode is not UpdateMode.UPDATE_ONLY
    return passes and mode is not UpdateMode.INSERT_ONLY


def _selected(view: View, select: Selector) -> list[bytes]:
    """The keys of the points that are there."""
    if not isinstance(select, Filter):
        keys = dict.fromkeys(map(id_key, select))
        return [key for key in keys if any(part.find(key) >= 0 for part in view.parts)]
    found = []
    for part in view.parts:
        allowed = part.allowed(select)
        rows = np.arange(len(part.body)) if allowed is None else np.flatnonzero(allowed)
        found += [part.body.key(row) for row in rows.tolist()]
    return found


def _check_growth(view: View, keys: list[bytes], patch: PayloadPatch) -> None:
    added = len(pack_patch(patch))
    for key in keys:
        for part in view.parts:
            row = part.find(key)
            if row < 0:
                continue
            payload = part.payload(row)
            if len(payload) + added > MAX_PAYLOAD_BYTES and len(patched(payload, patch)) > MAX_PAYLOAD_BYTES:
                raise invalid(
                    f"a payload would grow past {MAX_PAYLOAD_BYTES} bytes", field="payload", hint="send less of it"
                )
