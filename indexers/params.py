"""Build parameters as the backends declare and check them."""

from __future__ import annotations

from collections.abc import Mapping

from vss.errors import Code, VssError, invalid

Value = int | float | str


def checked(
    kind: str,
    given: Mapping[str, Value],
    defaults: Mapping[str, Value],
    ranges: Mapping[str, tuple[int, int]],
    choices: Mapping[str, tuple[str, ...]],
) -> dict[str, Value]:
    """The defaults with what was given in their place. VssError (INVALID) names the first bad one.

    ranges:  whole numbers, least and most
    choices: words
    """
    for name, value in given.items():
        if name not in defaults:
            raise invalid(f"{kind} has no parameter {name!r}", field=name, hint=f"it has {', '.join(defaults)}")
        if name in ranges:
            low, high = ranges[name]
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise invalid(f"got {value!r}, wanted a whole number from {low} to {high}", field=name)
        elif value not in choices[name]:
            raise invalid(f"got {value!r}, wanted one of {', '.join(choices[name])}", field=name)
    return {**defaults, **given}


def corrupt(message: str) -> VssError:
    """The error for files that cannot be what `build` wrote for this spec and these vectors."""
    return VssError(Code.CORRUPT, message, hint="restore the artifact, or build the index again")
