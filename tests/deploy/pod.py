"""A pod as the kubelet runs it, with processes for containers: the commands, variables and probes of the manifest."""

from __future__ import annotations

import math
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.manifests import Manifest, containers, one

KEY = "the key of the Secret"

READ_ONLY = """
set -e
writable="$1 $2"; shift 2
for place in $writable; do mount --bind "$place" "$place"; done
while read -r _ place kind rest; do
  case "$kind" in ext*|xfs|btrfs|overlay|tmpfs|zfs) ;; *) continue;; esac
  case " $writable " in *" $place "*) continue;; esac
  case "$place" in /dev/*|/sys/*) continue;; esac
  mount -o remount,bind,ro "$place"
done < /proc/self/mounts
exec "$@"
"""
"""Runs a command where only two folders can be written to, as readOnlyRootFilesystem and the pod's volumes have it."""


def read_only_prefix(data: Path, tmp: Path) -> list[str]:
    """What to put before a command; nothing where this machine lets nobody have mounts of their own."""
    prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, "sh", str(data), str(tmp)]
    if shutil.which("unshare") is None:
        return []
    outside = data.parent / "outside"
    probe = subprocess.run([*prefix, "touch", str(outside)], capture_output=True, text=True, check=False)
    return prefix if "Read-only file system" in probe.stderr and not outside.exists() else []


class Container:
    """One container's process. `log` is what it says."""

    def __init__(self, manifests: list[Manifest], name: str, folder: Path, port: int) -> None:
        self.spec = containers(manifests)[name]
        self._data, self._tmp = folder / "data", folder / f"tmp-{name}"
        for place in (self._data, self._tmp):
            place.mkdir(exist_ok=True)
        self.port = port
        self.read_only = read_only_prefix(self._data, self._tmp)
        environment = self._environment(one(manifests, "ConfigMap"))
        # Expanded from the container's variables by the kubelet, before it starts the command.
        words = [
            re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], word)
            for word in [*self.spec["command"], *self.spec["args"]]
        ]
        mapped = {"vss": str(Path(sys.executable).with_name("vss")), "/data": str(self._data), "6333": str(port)}
        self._log = open(folder / f"{name}.log", "ab+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [*self.read_only, *(mapped.get(word, word) for word in words)],
            env=environment,
            cwd=self._data,
            stdout=self._log,
            stderr=self._log,
        )

    def _environment(self, settings: Manifest) -> dict[str, str]:
        """The image's variables and the manifest's, and none of ours."""
        given = {"PATH": os.environ["PATH"], "HOME": "/proc", "TMPDIR": str(self._tmp), "PYTHONDONTWRITEBYTECODE": "1"}
        given |= settings["data"]
        for variable in self.spec["env"]:
            match variable.get("valueFrom"):
                case {"secretKeyRef": _}:
                    given[variable["name"]] = KEY
                case {"resourceFieldRef": {"resource": "limits.cpu"}}:
                    limit = self.spec["resources"]["limits"]["cpu"]
                    cores = float(limit[:-1]) / 1000 if limit.endswith("m") else float(limit)
                    given[variable["name"]] = str(math.ceil(cores))
                case other:
                    raise AssertionError(f"the kubelet of this test does not know {other}")
        # As in the image without the extra `models`.
        return given | {"VSS_MODELS": "hashing"}

    def probe(self, kind: str) -> bool:
        """Asked once, as the kubelet asks: without the key."""
        wanted = self.spec[kind]
        (port,) = (port for port in self.spec["ports"] if port["name"] == wanted["httpGet"]["port"])
        assert port["containerPort"] == 6333
        try:
            url = f"http://127.0.0.1:{self.port}{wanted['httpGet']['path']}"
            return httpx.get(url, timeout=wanted["timeoutSeconds"], trust_env=False).is_success
        except httpx.TransportError:
            return False

    def wait_for(self, kind: str) -> None:
        """Until a probe succeeds, as long as the manifest would wait."""
        probe = self.spec[kind]
        deadline = time.monotonic() + min(60, probe["periodSeconds"] * probe["failureThreshold"] + 20)
        while not self.probe(kind):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{kind} did not succeed:\n{self.said()}")
            select.select([], [], [], 0.05)

    def terminate(self) -> None:
        """The kubelet's SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self, grace: float) -> int:
        """Its exit code, -9 when it outlived the grace period."""
        try:
            return self.process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def said(self) -> str:
        """What it has logged."""
        self._log.seek(0)
        return self._log.read().decode()

    def close(self) -> None:
        """End it, however."""
        if self.process.poll() is None:
            # Unlike the kubelet's signal this one waits for no client.
            self.process.send_signal(signal.SIGINT)
            self.ended(15)
        self._log.close()


class Pod:
    """All containers of the pod over one folder, which stands for its volumes."""

    def __init__(self, manifests: list[Manifest], folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        spec = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
        self.grace: float = spec["terminationGracePeriodSeconds"]
        self.containers = {name: Container(manifests, name, folder, port) for name in containers(manifests)}
        self.server = self.containers["server"]
        self.worker = self.containers["worker"]

    def client(self, **options: Any) -> httpx.Client:
        """A client of the Service."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.server.port}", trust_env=False, timeout=30, **options)

    def close(self) -> None:
        """End what still runs."""
        for container in self.containers.values():
            container.close()
