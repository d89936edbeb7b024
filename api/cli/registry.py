"""What commands need of the heavier parts, loaded only by the command that needs it: `vss --help` loads none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

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


def serve(data: Path, host: str, port: int) -> None:
    """Serve until told to stop."""
    from api import server
    from api.settings import read_settings

    server.serve(read_settings(data=data, host=host, port=port))
