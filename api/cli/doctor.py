"""`vss doctor`: what is installed, whether every file still says what was written to it, and mending what does not."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from functools import partial
from typing import Annotated

import apsw
import typer
from rich.console import Console

from api.cli import registry
from api.cli.generations import promote
from api.cli.options import DEFAULT_DATA, Data
from vss.cores import usable_cores
from vss.engines.health import Health, health
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.jobs.remote import JobWriter
from vss.jobs.repair import go_back, rebuild, restore_catalog
from vss.jobs.scrub import scrub
from vss.storage.datadir import DataDir, file_system

PACKAGES = ("vss-service", "numpy", "apsw", "faiss-cpu", "pyarrow", "starlette", "torch", "sentence-transformers")

Say = Callable[[str], None]


def doctor(
    collection: Annotated[str | None, typer.Argument(help="Check this collection alone.")] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Build damaged indexes and columns again, go back to an older generation where nothing is lost by it, "
            "restore the catalog from its copy. Nothing is deleted.",
        ),
    ] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Say what is installed, and read every byte of every collection, beside a server or without one.

    Exit code 1 when something is damaged and was not mended.

    \b
    Examples:
      vss doctor --data vss-data
      vss doctor docs --repair
    """
    console = Console(highlight=False, soft_wrap=True)
    say: Say = partial(console.print, markup=False)
    if collection is None:
        say(f"Python {platform.python_version()} on {platform.platform()}")
        say(f"SQLite {apsw.sqlite_lib_version()} (apsw)")
        for name in PACKAGES:
            say(f"{name} {_version(name)}")
        say(f"native kernel: {_kernel()}")
    if not data.is_dir():
        say(f"{data}: not there yet")
        return
    folder = DataDir(data)
    say(f"{folder.path} on {file_system(folder.path) or 'an unknown file system'}")
    sound = _catalog(folder, say, repair=repair)
    if sound:
        engine = LocalEngine(folder, registry.indexers(), writable=False)
        try:
            chosen = engine.entries() if collection is None else [engine.entry(collection)]
            # All are looked at, whatever the first one says.
            sound = all([_look(engine, entry.name, say, repair=repair) for entry in chosen])
        finally:
            engine.close()
    if not sound:
        raise typer.Exit(1)


def _catalog(data: DataDir, say: Say, *, repair: bool) -> bool:
    """Whether the catalog can be read, maybe after it was restored."""
    engine = LocalEngine(data, registry.indexers(), writable=False)
    try:
        engine.entries()
        return True
    except VssError as error:
        say(f"catalog: {error}")
        if error.code is not Code.CORRUPT or not repair:
            return False
    finally:
        engine.close()
    say(f"catalog: restored from its copy; the damaged one is {restore_catalog(data).name}")
    return True


def _look(engine: LocalEngine, name: str, say: Say, *, repair: bool) -> bool:
    """Whether a collection is sound, maybe after it was mended."""
    folder = engine.data.collection(engine.entry(name).id)
    found = [str(problem) for problem in scrub(folder)]
    for problem in found:
        say(f"{name}: {problem}")
    now = _opened(engine, name, say)
    if repair and (now.damage or now.unreadable):
        try:
            _mend(engine, name, say, now)
        except VssError as error:
            say(f"{name}: not mended: {error}")
        else:
            found = [str(problem) for problem in scrub(folder)]
            now = _opened(engine, name, say)
    files = len(list((folder / "artifacts").iterdir())) if (folder / "artifacts").is_dir() else 0
    if now.unreadable is None:
        view = engine.collection(name).view()
        say(f"{name}: generation {view.generation}, {view.points:,} points, {files} files checked")
    for problem in now.problems():
        say(f"{name}: {problem}")
    old = found and not now.problems()
    if old:
        say(f"{name}: what is damaged is of older generations only; they cannot be promoted")
    return not found and not now.problems()


def _opened(engine: LocalEngine, name: str, say: Say) -> Health:
    found = health(engine, name)
    if found.unreadable is not None and found.unreadable.code is Code.UNSUPPORTED:
        say(f"{name}: {found.unreadable}")
    return found


def _mend(engine: LocalEngine, name: str, say: Say, now: Health) -> None:
    collection = engine.collection(name)
    if now.unreadable is not None:
        number = go_back(name, collection, partial(promote, data=engine.data.path), registry.indexers())
        say(f"{name}: generation {number} is current again; the log has everything since")
        return
    manifest = rebuild(collection, JobWriter(engine.data), registry.indexers(), threads=usable_cores())
    if manifest is not None:
        say(f"{name}: built again as generation {manifest.generation}")


def _kernel() -> str:
    try:
        return ", ".join(registry.native_kernels())
    except VssError as error:
        return f"none: {error}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"
