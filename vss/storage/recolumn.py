"""Columns for one payload path of segments that lack them, in a new generation that shares every other file.

Segments have the columns of all their paths from the day they are built, but for old forms and for paths past the
builder's limits. Only payloads are read; no vector is copied and no index built.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from vss.points import EMPTY_PAYLOAD
from vss.storage.build import store_arrays
from vss.storage.collection import Collection
from vss.storage.columnize import ColumnsBuilder
from vss.storage.columns import FORM, column_path
from vss.storage.manifest import ColumnRecord, Manifest, SegmentRecord
from vss.storage.publish import CHEAP_ATTEMPTS, Publisher, successor, until_published
from vss.storage.segment import Segment
from vss.storage.staging import staging_folder


def add_columns(collection: Collection, key: str, publisher: Publisher) -> Manifest | None:
    """Publish the columns of a path that segments lack; None when none does, or when no column can answer the path.

    Raises VssError (CONFLICT) when other jobs publish all the time.
    """
    path = column_path(key)
    if path is None:
        return None
    view = collection.view()
    segments = [part.body for part in view.parts if isinstance(part.body, Segment) and lacks(part.body.record, path)]
    if not segments:
        return None
    with staging_folder(collection.staging, "columns") as staged:
        made: dict[str, ColumnsBuilder] = {}
        stored: dict[str, tuple[ColumnRecord, ...]] = {}
        for segment in segments:
            builder = made[segment.record.id] = ColumnsBuilder(only=path)
            for row in range(len(segment)):
                payload = segment.payload(row)
                if payload != EMPTY_PAYLOAD:
                    builder.add(row, msgspec.json.decode(payload))
            stored[segment.record.id] = tuple(
                ColumnRecord(path=path, type=type_, arrays=store_arrays(collection.artifacts, staged, arrays))
                for (_, type_), arrays in builder.finish()
            )

        def once() -> Manifest | None:
            manifest = collection.current()
            assert manifest is not None  # there were segments
            # A segment that was merged meanwhile lies in one that has its columns.
            if not any(one.id in made and lacks(one, path) for one in manifest.segments):
                return None
            following = successor(
                collection,
                manifest,
                (
                    _with(one, path, stored[one.id], made[one.id]) if one.id in made and lacks(one, path) else one
                    for one in manifest.segments
                ),
                source="columns",
            )
            publisher.publish(following)
            return following

        return until_published(once, CHEAP_ATTEMPTS)


def lacks(record: SegmentRecord, path: str) -> bool:
    """Whether a segment may lack columns of a path that a build of now would make."""
    if path in record.added:
        return False
    there = any(column.path == path and column.type != "shape" for column in record.columns)
    return record.columns_form < FORM or not (there or path in record.scanned or record.columns_complete)


def _with(record: SegmentRecord, path: str, columns: tuple[ColumnRecord, ...], made: ColumnsBuilder) -> SegmentRecord:
    return replace(
        record,
        columns=(*(one for one in record.columns if one.path != path), *columns),
        scanned=tuple(sorted({*record.scanned} - {path} | made.scanned)),
        added=tuple(sorted({*record.added, path})),
    )
