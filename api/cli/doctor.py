"""`vss doctor`: what is installed, and whether every artifact still has the bytes that its name says."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import typer
from rich.console import Console

from api.cli import registry
from api.cli.options import DEFAULT_DATA, Data
from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.storage.artifacts import Artifact, hash_file
from vss.storage.datadir import DataDir, file_system
from vss.storage.manifest import Manifest

PACKAGES = ("vss-service", "numpy", "apsw", "faiss-cpu", "pyarrow", "starlette", "torch", "sentence-transformers")


def doctor(data: Data = DEFAULT_DATA) -> None:
    """Say what is installed, and check every file of every collection.

    Exit code 1 when a file is damaged or missing.

    \b
    Example:
      vss doctor --data vss-data
    """
    console = Console(highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        console.print(line, markup=False)

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
    engine = LocalEngine(folder, registry.indexers(), writable=False)
    damaged = 0
    try:
        for entry in engine.entries():
            try:
                view = engine.collection(entry.name).view()
                checked, problems = check(folder.collection(entry.id), view.manifest)
                say(f"{entry.name}: generation {view.generation}, {view.points:,} points, {checked} files checked")
            except VssError as error:
                problems = [str(error)]
            damaged += len(problems)
            for problem in problems:
                say(f"{entry.name}: {problem}")
    finally:
        engine.close()
    if damaged:
        raise typer.Exit(1)


def check(folder: Path, manifest: Manifest | None) -> tuple[int, list[str]]:
    """How many artifacts a manifest names, and what is wrong with them. Hashes each, whatever was verified before."""
    problems = []
    artifacts = {one.sha256: one for one in _artifacts(msgspec.to_builtins(manifest))}
    for one in artifacts.values():
        path = folder / "artifacts" / one.sha256
        if not path.is_file():
            problems.append(f"artifact {one.sha256[:12]} is missing")
        elif path.stat().st_size != one.bytes or hash_file(path) != one.sha256:
            problems.append(f"artifact {one.sha256[:12]} is damaged")
    return len(artifacts), problems


def _artifacts(value: Any) -> Iterator[Artifact]:
    if isinstance(value, dict):
        if value.keys() == {"sha256", "bytes"}:
            yield Artifact(**value)
        else:
            for below in value.values():
                yield from _artifacts(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _artifacts(below)


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
