"""The one error type. The faces in `api` render it in each dialect's shape.

An error names what was got, what was wanted and what to do:

    VssError
      code     machine-readable, one of `Code`
      message  one sentence for a person
      field    path of the offending value in the request (`points[3].vector`), or None
      hint     what to do about it, or None
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """What kind of failure; `api.errors` maps each to an HTTP status."""

    INVALID = "invalid_argument"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    UNSUPPORTED = "unsupported"
    FINGERPRINT_MISMATCH = "fingerprint_mismatch"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNAUTHENTICATED = "unauthenticated"
    OVERLOADED = "overloaded"
    DEADLINE = "deadline_exceeded"
    MODEL_FAILED = "model_failed"
    CORRUPT = "corrupt"
    LOCKED = "locked"
    NO_SPACE = "no_space"
    STORAGE = "storage_failed"
    UNAVAILABLE = "unavailable"


class VssError(Exception):
    """A failure that a caller can act on."""

    def __init__(self, code: Code, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


def invalid(message: str, *, field: str | None = None, hint: str | None = None) -> VssError:
    """A `VssError` with `Code.INVALID`, the most common one."""
    return VssError(Code.INVALID, message, field=field, hint=hint)
