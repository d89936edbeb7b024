"""Paths into payloads: the grammar of Qdrant's keys.

    a.b        into objects
    a[].b      into every element of an array
    a[0]       into one element
    "a.b".c    a name in quotes may hold dots and brackets

Names without quotes may hold anything but `.`, `[`, `]` and `"`; Qdrant itself wants letters, digits, `_` and `-`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from vss.errors import invalid

Step = str | int
"""A member's name, or an element's place; `EACH` is every element."""

Path = tuple[Step, ...]

EACH: Final = -1

_PLAIN = re.compile(r'[^.\[\]"]+')
_STEP = re.compile(r'(?:^|\.)(?:"([^"]*)"|([^.\[\]"]+))|\[([0-9]{0,19})\]')


@lru_cache(maxsize=4096)
def parse_path(path: str) -> Path:
    """The steps of a path. Raises VssError (INVALID)."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None or (found[3] is not None and not steps):
            break
        if found[3] is not None:
            steps.append(int(found[3]) if found[3] else EACH)
        else:
            steps.append(found[2] if found[1] is None else found[1])
        at = found.end()
    if at < len(path) or not steps:
        raise invalid(
            f'got the path {path!r}, wanted one like `a.b`, `a[].b`, `a[0]` or `"a.b".c`',
            hint="put names with dots or brackets in double quotes",
        )
    return tuple(steps)


def reach(value: Any, path: Path) -> Iterator[Any]:
    """Every value that the path leads to, arrays whole."""
    for at, step in enumerate(path):
        if step == EACH:
            for one in value if isinstance(value, list) else ():
                yield from reach(one, path[at + 1 :])
            return
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return
            value = value[step]
        else:
            if not isinstance(value, list) or step >= len(value):
                return
            value = value[step]
    yield value


def elements(value: Any, path: Path) -> Iterator[Any]:
    """Every value that the path leads to; of an array its elements, one level deep."""
    for one in reach(value, path):
        if isinstance(one, list):
            yield from one
        else:
            yield one


def written_name(name: str) -> str | None:
    """A name as a path spells it, in quotes where it needs them; None when no path can name it."""
    if _PLAIN.fullmatch(name):
        return name
    return None if '"' in name else f'"{name}"'


def written(path: Path) -> str:
    """The one spelling of a path."""
    text = ""
    for step in path:
        if isinstance(step, str):
            text += ("." if text else "") + (written_name(step) or "")
        else:
            text += "[]" if step == EACH else f"[{step}]"
    return text
