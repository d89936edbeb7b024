"""Which commands there are. Loads the one that is asked for: `vss serve` waits for no bulk job and no benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from vss.errors import invalid

COMMANDS = (
    "demo",
    "serve",
    "worker",
    "index",
    "publish",
    "fold",
    "generations",
    "promote",
    "gc",
    "purge",
    "search",
    "doctor",
    "bench",
)
"""What `vss` can do."""


def command(name: str) -> Any:
    """One of `COMMANDS`, loaded, as a command of the click that typer brings."""
    if name == "bench":
        return typer.main.get_command(_bench())
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name)(_function(name))
    return typer.main.get_command(app)


def _function(name: str) -> Callable[..., None]:
    match name:
        case "demo":
            from api.cli import demo

            return demo.demo
        case "serve":
            from api.cli import serve

            return serve.serve
        case "worker":
            from api.cli import worker

            return worker.worker
        case "index":
            from api.cli import index

            return index.index
        case "publish":
            from api.cli import publish

            return publish.publish
        case "fold":
            from api.cli import fold

            return fold.fold
        case "generations":
            from api.cli import generations

            return generations.generations
        case "promote":
            from api.cli import generations

            return generations.promote
        case "gc":
            from api.cli import generations

            return generations.gc
        case "purge":
            from api.cli import generations

            return generations.purge
        case "search":
            from api.cli import search

            return search.search
        case "doctor":
            from api.cli import doctor

            return doctor.doctor
        case _:
            raise invalid(f"got the command {name!r}, wanted one of {', '.join(COMMANDS)}")


def _bench() -> typer.Typer:
    from api.cli import bench

    return bench.group
