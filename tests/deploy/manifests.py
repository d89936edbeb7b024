"""The manifests as kubectl renders them, and the rules that they keep."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "deploy" / "k8s" / "base"

Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send. Nothing may be said on the way: a warning there is tomorrow's error."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl renders the manifests and is not installed (Debian: kubernetes-client)")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return list(yaml.safe_load_all(done.stdout))


def one(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The object of a kind, and of a name where there are several."""
    (found,) = (
        manifest for manifest in manifests if manifest["kind"] == kind and name in {None, manifest["metadata"]["name"]}
    )
    return found


def containers(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Name -> container of the pod, those that only prepare it too."""
    spec = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    return {found["name"]: found for found in [*spec.get("initContainers", ()), *spec["containers"]]}


def faults(manifests: list[Manifest]) -> list[str]:
    """Which rules are broken, each as a sentence."""
    return [*_of_the_set(one(manifests, "StatefulSet")), *_of_the_pod(manifests), *_of_selectors(manifests)]


def _of_the_set(stateful: Manifest) -> Iterator[str]:
    spec = stateful["spec"]
    if spec.get("replicas") != 1:
        yield f"replicas is {spec.get('replicas')}: the volume is the truth and has one writer"
    for claim in spec["volumeClaimTemplates"]:
        if claim["spec"]["accessModes"] != ["ReadWriteOncePod"]:
            yield f"the volume {claim['metadata']['name']} can be mounted by several pods"


def _of_the_pod(manifests: list[Manifest]) -> Iterator[str]:
    spec = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    user = spec.get("securityContext", {})
    if not user.get("runAsNonRoot") or not user.get("runAsUser") or not user.get("fsGroup"):
        yield "the pod does not name a user other than root and the group of its volume, by number"
    if user.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "system calls are not filtered"
    if spec.get("automountServiceAccountToken") is not False:
        yield "the pod holds a token of the cluster"
    if spec.get("enableServiceLinks") is not False:
        yield "the Service vss becomes VSS_PORT=tcp://..., which the server would read as its port"
    if spec.get("hostNetwork") or spec.get("hostPID") or spec.get("hostIPC"):
        yield "the pod shares the host's namespaces"
    if spec.get("terminationGracePeriodSeconds", 30) <= 10:
        yield "the pod is killed before its server has drained"
    for volume in spec.get("volumes", ()):
        if "emptyDir" not in volume or "sizeLimit" not in volume["emptyDir"]:
            yield f"the volume {volume['name']} is not an empty directory of bounded size"
    for name, container in containers(manifests).items():
        yield from (f"container {name}: {fault}" for fault in _of_a_container(container))


def _of_a_container(container: Manifest) -> Iterator[str]:
    locked = container.get("securityContext", {})
    if locked.get("privileged") or locked.get("allowPrivilegeEscalation") is not False:
        yield "it can become root"
    if locked.get("capabilities") != {"drop": ["ALL"]}:
        yield "it has capabilities"
    if locked.get("readOnlyRootFilesystem") is not True:
        yield "its root file system can be written to"
    if not re.search(r":(?!latest$)[\w.-]+$|@sha256:[0-9a-f]{64}$", container["image"]):
        yield f"the image {container['image']} names no version"
    for kind in ("requests", "limits"):
        missing = {"cpu", "memory", "ephemeral-storage"} - set(container.get("resources", {}).get(kind, ()))
        if missing:
            yield f"it has no {kind} for {', '.join(sorted(missing))}"
    if container.get("ports"):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in container:
                yield f"it serves and has no {probe}"


def _of_selectors(manifests: list[Manifest]) -> Iterator[str]:
    labels = one(manifests, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    selectors = {
        "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
        "Service": lambda spec: spec["selector"],
    }
    for manifest in manifests:
        select = selectors.get(manifest["kind"])
        if select is not None and not select(manifest["spec"]).items() <= labels.items():
            yield f"{manifest['kind']} {manifest['metadata']['name']} does not select the pod"
