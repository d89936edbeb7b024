"""The image: its locks are whole and up to date, and the Dockerfile's own steps make a `vss` that works."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.manifests import ROOT

DOCKERFILE = ROOT / "Dockerfile"
LOCKS = {name: ROOT / "deploy" / name for name in ("requirements.lock", "requirements-models.lock")}
BUILD_LOCK = ROOT / "deploy" / "requirements-build.lock"
CPU = "+cpu"


def pins(lock: Path) -> dict[str, str]:
    """Name -> version. Every requirement is one exact version with at least one sha256, or this fails."""
    text = re.sub(r"^(#|--extra-index-url ).*\n", "", lock.read_text(), flags=re.MULTILINE)
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        match = re.fullmatch(r"([\w.-]+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+)", line)
        assert match, f"{lock.name}: {line[:80]} is not NAME==VERSION with hashes"
        found[canonicalize_name(match[1])] = match[2]
    return found


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints-cpu.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize(("lock", "extras"), [("requirements.lock", ()), ("requirements-models.lock", ("models",))])
def test_a_lock_holds_what_the_project_asks_for_in_the_pinned_versions(lock: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    locked = pins(LOCKS[lock])
    for requirement in map(Requirement, asked):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in {lock}: make locks"
        assert requirement.specifier.contains(version), f"{lock} has {requirement.name} {version}: make locks"
    wanted = constraints()
    for name, version in locked.items():
        # pip does not count what it installs packages with among the pins.
        if name != "setuptools":
            assert version.removesuffix(CPU) == wanted.get(name), f"{name} in {lock}: make locks"


def test_the_models_lock_has_the_build_of_torch_for_cpus_and_the_rest_of_the_base() -> None:
    base, models = (pins(path) for path in LOCKS.values())
    assert base.items() <= models.items()
    assert models["torch"].endswith(CPU)
    assert not [name for name in models if name.startswith(("nvidia", "triton"))]
    assert "--extra-index-url https://download.pytorch.org/whl/cpu\n" in LOCKS["requirements-models.lock"].read_text()


def test_what_builds_the_wheel_is_locked() -> None:
    locked = pins(BUILD_LOCK)
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), f"{line}: make locks"


def test_the_dockerfile_has_no_complaints() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint has no wheel for this platform")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of that name."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def test_the_image_runs_as_a_number_that_is_not_root_from_an_exact_tag() -> None:
    assert instructions("USER") == ["10001:10001"]
    (image,) = (line for line in instructions("ARG") if line.startswith("PYTHON_IMAGE="))
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", image)
    assert instructions("FROM") == ["${PYTHON_IMAGE} AS builder", "${PYTHON_IMAGE}"]
    assert instructions("ENTRYPOINT") == ['["vss"]']


def test_what_is_copied_is_let_through_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    let_through = {line[1:] for line in lines if line.startswith("!")}
    copied = {source for line in instructions("COPY") if not line.startswith("--from") for source in line.split()[:-1]}
    assert copied == let_through
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= copied


@pytest.mark.soak
def test_the_steps_of_the_dockerfile_make_a_vss(tmp_path: Path) -> None:
    """There need be no Docker: each COPY and RUN of the builder runs here, with its folders moved under one of ours."""
    source = tmp_path / "source"
    source.mkdir()
    builder = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    builder = builder.split("FROM ")[1]
    (requirements,) = re.findall(r"ARG REQUIREMENTS=(\S+)", builder)
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment |= {"REQUIREMENTS": requirements, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for line in builder.splitlines():
        name, _, words = line.partition(" ")
        if name == "COPY":
            *wanted, target = words.split()
            for path in (found for one in wanted for found in sorted(ROOT.glob(one))):
                into = source / target / ("" if path.is_dir() else path.name)
                into.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.copytree(path, into, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(path, into)
        elif name == "RUN" and "apt-get" in words:
            if shutil.which("c++") is None:
                pytest.skip("the builder's compiler is not installed here")
        elif name == "RUN":
            moved = re.sub(r"(?<![\w.])/(opt|wheels)", rf"{shlex.quote(str(tmp_path))}/\1", words)
            done = subprocess.run(
                ["sh", "-ec", moved], cwd=source, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{moved}\n{done.stdout}\n{done.stderr}"
    vss = tmp_path / "opt" / "vss" / "bin" / "vss"
    shown = subprocess.run([vss, "doctor", "--data", tmp_path / "data"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^native kernel: .*portable$", shown.stdout, re.MULTILINE), shown.stdout
    listed = subprocess.run(
        [vss.with_name("pip"), "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout
    installed = dict(line.split("==") for line in listed.splitlines())
    installed = {canonicalize_name(name): version for name, version in installed.items()}
    extra = installed.keys() - {"pip", "setuptools", "vss-service"} - pins(ROOT / requirements).keys()
    assert not extra, f"not of the lock: {extra}"
