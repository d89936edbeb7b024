"""`vss serve`: the HTTP server of one data directory."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli import registry
from api.cli.options import DEFAULT_DATA, Data


def serve(
    data: Data = DEFAULT_DATA,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 6333,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=256,
            envvar="VSS_WORKERS",
            help="HTTP processes: one that also writes and holds the models, the others only read. "
            "Limits and caches are for each of them.",
        ),
    ] = 1,
    worker: Annotated[bool, typer.Option(help="Also run `vss worker`, which folds by itself.")] = True,
) -> None:
    """Serve a data directory over HTTP; /docs describes the API.

    Every other setting is an environment variable: VSS_API_KEY, VSS_MODELS, VSS_THREADS, ...

    \b
    Example:
      vss serve --data vss-data --host 127.0.0.1 --port 6333
      vss serve --workers 4
    """
    registry.serve(data, host, port, workers, worker=worker)
