"""Moments in time as payloads and filters write them: RFC 3339, and the shorter forms that Qdrant reads.

2024-05-01T12:30:00.25+02:00    an offset may also be `Z`, `+0200` or `+02`; without one it is UTC
2024-05-01 12:30                a space or a `T`; without seconds there is no offset
2024-05-01                      midnight
"""

from __future__ import annotations

import re
from datetime import date

_FORM = re.compile(
    r"\s*([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:[T ]([0-9]{1,2}):([0-9]{1,2})"
    r"(?::([0-9]{1,2})(?:\.([0-9]+))?(?: ?(?:([Zz]|UTC)|([+-])([0-9]{2})(?::?([0-5][0-9]))?))?)?)?"
)
_EPOCH = date(1970, 1, 1).toordinal()


def parse_instant(text: str) -> int | None:
    """Microseconds since 1970 in UTC, finer digits cut off; None when the text is no moment."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, off_hour, off_minute = found.groups(default="0")
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59 or int(off_hour) > 23:
        return None
    offset = int(off_hour) * 3600 + int(off_minute) * 60
    seconds = days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second)
    seconds += offset if sign == "-" else -offset
    return seconds * 1_000_000 + int(fraction[:6].ljust(6, "0"))
