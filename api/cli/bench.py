"""`vss bench`: the group of commands that measure."""

from __future__ import annotations

import typer

group = typer.Typer(
    name="bench",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure this machine: indexes beside the raw libraries, embedding, imports, writes, the server.",
)


@group.callback()
def bench() -> None:
    """Each figure is a JSON line on stdout: machine, versions, seed, date, load and command line stand in it."""
