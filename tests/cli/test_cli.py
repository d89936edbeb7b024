"""Every command: help with an example that parses, one line for an error, exit codes."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from api.cli.main import commands
from api.demo.process import Server

GROUP: Any = typer.main.get_command(commands)


def leaves(group: Any, before: str = "") -> dict[str, Any]:
    """Name -> command, those of groups too: "bench recall"."""
    found = {}
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        found |= leaves(command, f"{before}{name} ") if hasattr(command, "commands") else {before + name: command}
    return found


COMMANDS = leaves(GROUP)
NAMES = sorted(COMMANDS)
HEAVY = ("faiss", "pyarrow", "sentence_transformers", "starlette", "torch", "transformers", "uvicorn")


def vss(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def examples(name: str) -> list[str]:
    lines = (line.strip() for line in (COMMANDS[name].help or "").splitlines())
    return [line for line in lines if line.startswith("vss ")]


def test_the_commands_that_there_are() -> None:
    assert NAMES == [
        "bench embed",
        "bench filter",
        "bench load",
        "bench recall",
        "bench write",
        "demo",
        "doctor",
        "fold",
        "gc",
        "generations",
        "index",
        "promote",
        "publish",
        "purge",
        "search",
        "serve",
        "worker",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example_that_parses(name: str) -> None:
    command = COMMANDS[name]
    called = ["vss", *name.split()]
    assert examples(name), f"vss {name} --help shows no example"
    for line in examples(name):
        words = shlex.split(line)
        assert words[: len(called)] == called
        command.make_context(name, words[len(called) :])
    assert "--data" in {option for parameter in command.params for option in parameter.opts}
    for parameter in command.params:
        assert parameter.help or "--help" in parameter.opts, f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", NAMES)
def test_help_is_printed(name: str) -> None:
    said = CliRunner().invoke(commands, [*name.split(), "--help"], prog_name="vss")
    assert said.exit_code == 0
    for line in examples(name):
        assert line in said.stdout, "an example is folded"


def test_help_loads_nothing_heavy() -> None:
    load = "import sys; from api.cli.commands.registry import *; list(map(command, COMMANDS))"
    code = f"{load}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_serving_waits_for_no_other_command() -> None:
    load = "import sys; from api.cli.commands.registry import *; command('serve'); import api.supervisor"
    code = f"{load}; print(*(name for name in ('numpy', 'httpx', 'vss.jobs') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("index", "none.jsonl", "--collection", "c", "--text-field", "t"), 1, "there is no file none.jsonl"),
        (("index", "none.jsonl", "--collection", "c"), 1, "give --text-field or --vector-field"),
        (("index", "none.jsonl"), 2, "Missing option '--collection'"),
        (("index", "none.jsonl", "--collection", "c", "--mode", "swap"), 2, "'swap'"),
        (("index", "none.jsonl", "-c", "c", "--index", "annoy"), 2, "auto, coded, faiss_hnsw, faiss_ivf, flat, hnsw"),
        (("index", "none.jsonl", "-c", "c", "--index", "flat", "--index-param", "m"), 2, "wanted key=value"),
        (("index", "none.jsonl", "-c", "c", "--index-param", "m=8"), 2, "--index-param needs --index"),
        (("fold", "none"), 1, "got collection 'none', which does not exist"),
        (("search", "c", "text"), 1, "start one with vss serve"),
        (("search", "c", "text", "--filter", "{"), 1, "a filter that is not JSON"),
        (("nothing",), 2, "No such command 'nothing'"),
    ],
)
def test_an_error_is_one_clear_line(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    data = () if arguments == ("nothing",) else ("--data", str(tmp_path / "data"))
    done = vss(*arguments, *data)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stderr.startswith("vss: ")


STOPPED = """
import os, signal, sys
from api.cli import bars, main
from vss.jobs.progress import Silent

class Stopped(Silent):
    def phase(self, name, total, unit):
        if name == {phase!r}:
            os.kill(os.getpid(), signal.{signal})

# A test run in the background is deaf to SIGINT, and what it starts would be too.
signal.signal(signal.SIGINT, signal.default_int_handler)
bars.reporter = lambda console: Stopped()
main.app()
"""


def stopped(job: tuple[str, ...], phase: str, told: str = "SIGTERM") -> subprocess.CompletedProcess[str]:
    code = STOPPED.format(phase=phase, signal=told)
    return subprocess.run([sys.executable, "-c", code, *job], capture_output=True, text=True, check=False)


def import_of_a_row(folder: Path) -> tuple[str, ...]:
    (folder / "rows.jsonl").write_text('{"id": 1, "v": [1, 2]}\n')
    data = str(folder / "data")
    return ("index", str(folder / "rows.jsonl"), "--collection", "c", "--vector-field", "v", "--data", data)


@pytest.mark.parametrize(("told", "code"), [("SIGTERM", 128 + signal.SIGTERM), ("SIGINT", 130)])
def test_an_import_that_is_told_to_stop_says_what_it_keeps_and_goes_on(tmp_path: Path, told: str, code: int) -> None:
    job = import_of_a_row(tmp_path)
    done = stopped(job, "index", told)
    assert done.returncode == code
    assert "stopped; 1 rows are kept: the same command run again goes on after them" in done.stderr
    again = vss(*job)
    assert again.returncode == 0, again.stderr
    assert "resumed after 1 rows" in again.stderr
    assert not list((tmp_path / "data").glob("collections/*/staging/*"))


def test_an_import_that_is_told_to_stop_before_it_has_anything_leaves_nothing(tmp_path: Path) -> None:
    done = stopped(import_of_a_row(tmp_path), "read")
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert not list((tmp_path / "data" / "collections").iterdir())


def test_a_bundle_that_is_told_to_stop_leaves_nothing(tmp_path: Path) -> None:
    done = stopped((*import_of_a_row(tmp_path), "--out", str(tmp_path / "bundle")), "index")
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--index-param", "storage=zip"), "storage: got 'zip', wanted one of sq8, pq, rabitq"),
        (("--index-param", "nlist=2.5"), "nlist: got 2.5, wanted a whole number"),
        (("--index-param", "colour=1"), "faiss_ivf has no parameter 'colour'"),
        (("--metric", "Manhattan"), "use the index kind flat"),
    ],
)
def test_an_index_that_cannot_be_built_is_refused_before_anything_is_made(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    rows, data = tmp_path / "rows.jsonl", tmp_path / "data"
    rows.write_text('{"id": 1, "v": [1, 2]}\n')
    job = ("index", str(rows), "-c", "c", "--vector-field", "v", "--data", str(data), "--index", "faiss_ivf")
    done = vss(*job, *options)
    assert done.returncode == 1
    assert said in done.stderr
    assert not list((data / "collections").iterdir())


def test_the_index_is_built_as_the_command_says(tmp_path: Path) -> None:
    rows, data = tmp_path / "rows.jsonl", tmp_path / "data"
    rows.write_text("".join(f'{{"id": {row}, "v": [{row}, {row * row % 97}]}}\n' for row in range(500)))
    job = ("index", str(rows), "-c", "c", "--vector-field", "v", "--metric", "Euclid", "--data", str(data))
    done = vss(*job, "--index", "faiss_ivf", "--index-param", "storage=rabitq", "--index-param", "nlist=9")
    assert done.returncode == 0, done.stderr
    assert "faiss_ivf (storage rabitq, nlist 9, m 0, bits 1, rescore 20)" in done.stderr


def test_serve_says_where_it_listens_and_ends_well(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with Server(data, free_port(), {"VSS_MODELS": "hashing"}) as server:
        assert f"listening on {server.url}" in (data / "serve.log").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = vss("fold", "c", "--data", str(tmp_path / "file" / "data"))
    assert done.returncode == 1
    assert "cannot create the data directory" in done.stderr


def test_the_doctor_finds_a_damaged_file(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "v": [1, 2]}\n{"id": 2, "v": [2, 1]}\n')
    data = tmp_path / "data"
    assert vss("index", str(rows), "--collection", "c", "--vector-field", "v", "--data", str(data)).returncode == 0
    healthy = vss("doctor", "--data", str(data))
    assert healthy.returncode == 0, healthy.stdout
    assert "c: generation 1, 2 points" in healthy.stdout
    artifact = next(path for path in data.glob("collections/*/artifacts/*") if path.stat().st_size > 128)
    artifact.chmod(0o644)
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"!")
    sick = vss("doctor", "--data", str(data))
    assert sick.returncode == 1
    assert artifact.name[:12] in sick.stdout
