"""`vss`: every command, and how errors look.

An error is one line on stderr; exit code 1, or 2 for a wrong command line. VSS_DEBUG=1 shows where it came from.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from api.cli.commands import registry
from api.open_files import allow_open_files
from vss.errors import VssError


class Commands(TyperGroup):
    """Loads a command when it is asked for: `vss serve` need not wait for what imports and benchmarks need."""

    def list_commands(self, context: Any) -> list[str]:
        """All of them, in the order of the help."""
        return list(registry.COMMANDS)

    def get_command(self, context: Any, name: str) -> Any:
        """One of them; None for another name."""
        return registry.command(name) if name in registry.COMMANDS else None


commands = typer.Typer(
    name="vss",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@commands.callback()
def settle() -> None:
    """Vector similarity search: embed, index offline, serve, recommend."""
    level = os.environ.get("VSS_LOG", "WARNING").upper()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level)


def app() -> None:
    """Run the command line of this process."""
    # As Ctrl-C does: a job that is told to stop keeps what it can go on from, and removes the rest.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    allow_open_files()
    if os.environ.get("VSS_DEBUG"):
        commands(prog_name="vss")
        return
    try:
        commands(prog_name="vss")
    except VssError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        _fail(f"this is a bug: {type(error).__name__}: {error} (VSS_DEBUG=1 shows where)")


def _fail(message: str) -> NoReturn:
    typer.echo("vss: " + " ".join(message.split()), err=True)
    sys.exit(1)
