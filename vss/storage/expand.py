"""From what a write asks for to the operations that the log keeps.

A filter is evaluated here, by the writer, between two commits: so it selects exactly what is stored at that moment, and
the log names the points, so that replaying it needs no filter.
"""

from __future__ import annotations

import msgspec
import numpy as np

from vss.changes import Change, Delete, DeleteVectors, PatchPayload, Selector, UpdateVectors, Upsert
from vss.errors import invalid
from vss.filters import Filter
from vss.patches import PayloadPatch, pack_patch, patched
from vss.points import MAX_PAYLOAD_BYTES, id_key
from vss.storage.log import Kind, Operation, pack_vectors
from vss.storage.view import View


def needs_view(change: Change) -> bool:
    """Whether the operations depend on what is stored."""
    match change:
        case Upsert():
            return False
        case Delete(select):
            return isinstance(select, Filter)
        case PatchPayload() | UpdateVectors() | DeleteVectors():
            return True


def operations_of(change: Change, view: View | None) -> list[Operation]:
    """The operations of one change; `view` is everything before it, and may be None when `needs_view` says so.

    Raises VssError (INVALID) when a payload would grow too large; nothing of the change is done then.
    """
    match change:
        case Upsert(points):
            return [
                Operation(Kind.UPSERT, id_key(point.id), pack_vectors(point.vectors), point.payload) for point in points
            ]
        case Delete(select) if not isinstance(select, Filter):
            return [Operation(Kind.DELETE, id_key(one)) for one in select]
    assert view is not None
    if isinstance(change, UpdateVectors):
        there = set(_selected(view, tuple(point.id for point in change.points)))
        return [
            Operation(Kind.UPDATE_VECTORS, key, pack_vectors(point.vectors))
            for point in change.points
            if (key := id_key(point.id)) in there
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
