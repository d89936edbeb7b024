"""What commands need of the heavier parts, loaded only by the command that needs it: `vss --help` loads none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:  # `vss serve` does without numpy
    from vss.protocols import Embedder, Indexers

DEFAULT_MODEL = "all-MiniLM-L6-v2"


def embedders(data: Path) -> Callable[[str], Embedder]:
    """Opens an embedder by name; what it finds out once is kept in the data directory."""
    from embedders.registry import open_embedder

    return partial(open_embedder, cache=data)


def indexers() -> Indexers:
    """The index backends."""
    from indexers.registry import INDEXERS

    return INDEXERS


def kinds() -> tuple[str, ...]:
    """The kinds of index that there are, whether their libraries are installed or not."""
    from indexers.registry import kinds as known

    return known()


def native_kernels() -> tuple[str, ...]:
    """The sets of instructions that the native engine runs in here; VssError says why it does not."""
    from indexers.registry import native_kernels as found

    return found()


def serve(data: Path, host: str, port: int, workers: int, *, worker: bool) -> NoReturn:
    """Become the supervisor of a server: another program in this process, which keeps nothing of this one in memory."""
    given = {"VSS_DATA": str(data), "VSS_HOST": host, "VSS_PORT": str(port), "VSS_WORKERS": str(workers)}
    isolation = () if os.getcwd() in sys.path else ("-P",)
    options = () if worker else ("--no-worker",)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *isolation, "-m", "api.supervisor", *options], os.environ | given)
