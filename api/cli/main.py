"""`vss`: every command, and how errors look.

An error is one line on stderr; exit code 1, or 2 for a wrong command line. VSS_DEBUG=1 shows where it came from.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import NoReturn

import typer

from api.cli import bench, demo, doctor, fold, generations, index, publish, search, serve, worker
from vss.errors import VssError

commands = typer.Typer(
    name="vss",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
commands.command("demo")(demo.demo)
commands.command("serve")(serve.serve)
commands.command("worker")(worker.worker)
commands.command("index")(index.index)
commands.command("publish")(publish.publish)
commands.command("fold")(fold.fold)
commands.command("generations")(generations.generations)
commands.command("promote")(generations.promote)
commands.command("gc")(generations.gc)
commands.command("purge")(generations.purge)
commands.command("search")(search.search)
commands.command("doctor")(doctor.doctor)
commands.add_typer(bench.group)


@commands.callback()
def settle() -> None:
    """Vector similarity search: embed, index offline, serve, recommend."""
    level = os.environ.get("VSS_LOG", "WARNING").upper()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level)


def app() -> None:
    """Run the command line of this process."""
    # As Ctrl-C does: a job that is told to stop keeps what it can go on from, and removes the rest.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
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
