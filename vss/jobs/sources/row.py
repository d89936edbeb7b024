"""What every source yields: one row, or the reason why it is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from vss.errors import invalid

RAW_LIMIT = 2_000
"""Characters of a row that a dead letter shows."""


@dataclass(slots=True, kw_only=True)
class Row:
    """One row of a source.

    line:   its number, from 1
    fields: its values by name; a vector may be a list or a `(d,)` array. None when the row cannot be read
    fault:  why it cannot be read, when `fields` is None
    size:   bytes that it takes, about
    end:    how far into `Source.total` the source is behind it
    raw:    its bytes, when it has any
    file:   where it stands
    """

    line: int
    fields: dict[str, Any] | None
    size: int
    end: int
    fault: str | None = None
    raw: bytes = b""
    file: str = ""

    def shown(self) -> str:
        """The row for a person, at most `RAW_LIMIT` characters."""
        if self.raw:
            text = self.raw[: 4 * RAW_LIMIT].decode(errors="replace")
        else:
            try:
                text = msgspec.json.encode(self.fields, enc_hook=_listed).decode(errors="replace")
            except (ValueError, TypeError, OverflowError):  # a lone surrogate; a key that is no string
                text = ascii(self.fields)
        return text if len(text) <= RAW_LIMIT else text[:RAW_LIMIT] + " ..."


class Source(Protocol):
    """Rows of a file or of several, read once and in order, in bounded memory."""

    total: int
    """What `Row.end` runs up to: bytes or rows."""

    def rows(self) -> Iterator[Row]:
        """Every row; those that cannot be read too. VssError (INVALID, STORAGE) when the file itself cannot be."""


def payload_json(fields: dict[str, Any]) -> bytes:
    """A payload as JSON bytes; dates become ISO strings, decimals strings, bytes base64, NaN null.

    VssError (INVALID) names the field that cannot be JSON.
    """
    try:
        return msgspec.json.encode(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        for name, value in fields.items():
            try:
                msgspec.json.encode(value)
            except (TypeError, ValueError, OverflowError, RecursionError):
                raise invalid(f"got a value that is not JSON: {error}", field=str(name)) from error
        raise invalid(f"got a payload that is not JSON: {error}") from error


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else repr(value)
