"""What an import is asked for, and what follows from it together with the collection's schema."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vss.defaults import MIN_RECALL
from vss.errors import invalid
from vss.jobs.dead_letters import DEFAULT_MAX_BAD_SHARE, OnError
from vss.jobs.gate import Fields
from vss.schema import DEFAULT_VECTOR, IndexSettings, Schema
from vss.types import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What to import, and how.

    uri:        a file, a glob or a directory: a path, or what fsspec opens
    fields:     which field is the id, and which the text or the vector
    model:      embedder of a new collection's texts; an existing collection has its own
    metric:     of a new collection of ready vectors; None is Cosine
    index:      how the index is built; None is what the collection says
    min_recall: least recall@10 that some effort must reach, 0 to 1
    on_error:   what is done with a row that cannot be stored; max_bad_share: of all rows, 0 to 1, that may be such
    """

    uri: str
    fields: Fields
    vector_name: str = DEFAULT_VECTOR
    model: str | None = None
    metric: Metric | None = None
    index: IndexSettings | None = None
    min_recall: float = MIN_RECALL
    on_error: OnError = OnError.DEAD_LETTER
    max_bad_share: float = DEFAULT_MAX_BAD_SHARE


def fields_of(job: Import, collection: str, known: Schema | None, default: str | None) -> tuple[Fields, str | None]:
    """Which fields are read, and the embedder's name when they are texts.

    known: the collection's schema, None for a new one; default: the embedder of a new one when the job names none
    VssError (INVALID) when the request contradicts itself or the collection.
    """
    fields = job.fields
    if fields.text and fields.vector:
        raise invalid("got a text field and a vector field, wanted one of them", field="text_field")
    has = known.vector(job.vector_name) if known else None
    if has is not None and job.metric not in (None, has.metric):
        raise invalid(
            f"got the metric {job.metric}, collection {collection!r} has {has.metric}",
            field="metric",
            hint="leave it out, or import into a new collection",
        )
    if fields.vector:
        if job.model:
            raise invalid("got a model for ready vectors", field="model", hint="leave it out, or name a text field")
        return fields, None
    text = fields.text or (has.text_field if has else None)
    if text is None:
        raise invalid("got no field to index", hint="give --text-field or --vector-field")
    if has is not None and has.model is None:
        raise invalid(
            f"collection {collection!r} holds ready vectors and has no model",
            field="text_field",
            hint="give --vector-field, or import into a new collection",
        )
    model = job.model or (has.model if has else default)
    if model is None:
        raise invalid("got texts and no model", field="model", hint="give --model")
    return replace(fields, text=text), model
