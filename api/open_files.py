"""How many files a process may have open: as many as the system lets it.

A mapped file keeps a handle (CPython's `mmap`), and a segment maps some dozens of files: the 1,024 that many systems
begin with are used up by a few dozen collections.
"""

from __future__ import annotations

import sys
from contextlib import suppress

if sys.platform != "win32":
    import resource


def allow_open_files() -> None:
    """Raise this process's limit to what it is allowed to be; its children inherit it."""
    if sys.platform == "win32":
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems say infinity and mean less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
