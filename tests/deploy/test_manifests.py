"""deploy/k8s/base: what kubectl renders is valid, safe and starts the commands that there are."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from api.cli.main import commands
from api.settings import ELSEWHERE, Settings
from tests.deploy.manifests import BASE, ROOT, Manifest, containers, faults, one, render

KUBERNETES = ("1.29", "1.32", "1.37")
"""The oldest with everything that the manifests use, one of 2024, and the newest that the validator knows."""


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return render(BASE)


def check(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        check(manifest, version)


def test_a_misspelt_field_is_seen(manifests: list[Manifest]) -> None:
    wrong = copy.deepcopy(one(manifests, "StatefulSet"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        check(wrong, KUBERNETES[-1])


def test_all_that_a_server_needs_is_there(manifests: list[Manifest]) -> None:
    assert sorted(manifest["kind"] for manifest in manifests) == [
        "ConfigMap",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Service",
        "StatefulSet",
    ]
    stateful = one(manifests, "StatefulSet")["spec"]
    assert one(manifests, "Service", stateful["serviceName"])["spec"]["clusterIP"] == "None"
    assert one(manifests, "Service", "vss")["spec"]["ports"][0]["port"] == Settings.model_fields["port"].default
    assert set(containers(manifests)) == {"server", "worker"}


def test_an_object_a_file() -> None:
    for path in BASE.glob("*.yaml"):
        assert len(list(yaml.safe_load_all(path.read_text()))) == 1, path


def test_no_rule_is_broken(manifests: list[Manifest]) -> None:
    assert faults(manifests) == []


def of_server(name: str, value: Any) -> Callable[[Manifest], None]:
    """A change of the server's container; None takes the field away."""

    def change(spec: Manifest) -> None:
        container = spec["template"]["spec"]["containers"][0]
        if value is None:
            del container[name]
        elif isinstance(value, dict):
            container[name] = container[name] | value
        else:
            container[name] = value

    return change


def of_pod(name: str, value: Any) -> Callable[[Manifest], None]:
    return lambda spec: spec["template"]["spec"].update({name: value})


BREAKS: dict[str, Callable[[Manifest], Any]] = {
    "replicas is 2": lambda spec: spec.update(replicas=2),
    "replicas is None": lambda spec: spec.pop("replicas"),
    "can be mounted by several pods": lambda spec: spec["volumeClaimTemplates"][0]["spec"].update(
        accessModes=["ReadWriteMany"]
    ),
    "a user other than root": of_pod("securityContext", {"runAsNonRoot": True}),
    "system calls": of_pod("securityContext", {"runAsNonRoot": True, "runAsUser": 1, "fsGroup": 1}),
    "a token of the cluster": of_pod("automountServiceAccountToken", True),
    "VSS_PORT": of_pod("enableServiceLinks", True),
    "host's namespaces": of_pod("hostNetwork", True),
    "before its server has drained": of_pod("terminationGracePeriodSeconds", 5),
    "bounded size": of_pod("volumes", [{"name": "server-tmp", "emptyDir": {}}]),
    "can become root": of_server("securityContext", {"privileged": True}),
    "has capabilities": of_server("securityContext", {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
    "root file system": of_server("securityContext", {"readOnlyRootFilesystem": False}),
    "vss:latest names no version": of_server("image", "vss:latest"),
    "example.com:5000/vss names no version": of_server("image", "example.com:5000/vss"),
    "no limits for cpu, ephemeral-storage, memory": of_server("resources", {"limits": {}}),
    "no startupProbe": of_server("startupProbe", None),
    "no readinessProbe": of_server("readinessProbe", None),
    "no livenessProbe": of_server("livenessProbe", None),
    "PodDisruptionBudget vss does not select": lambda spec: spec["template"]["metadata"]["labels"].update(
        {"app.kubernetes.io/name": "other"}
    ),
}


@pytest.mark.parametrize("fault", BREAKS)
def test_what_breaks_a_rule_is_refused(manifests: list[Manifest], fault: str) -> None:
    broken = copy.deepcopy(manifests)
    BREAKS[fault](one(broken, "StatefulSet")["spec"])
    assert any(fault in found for found in faults(broken)), faults(broken)


def test_the_commands_and_options_exist(manifests: list[Manifest]) -> None:
    group = get_command(commands)
    assert isinstance(group, TyperGroup)
    for name, container in containers(manifests).items():
        assert container["command"] == ["vss"]
        command, *args = container["args"]
        # Parsed as the command line parses it, values too; raises on what it does not know.
        group.get_command(None, command).make_context(name, ["2" if arg == "$(VSS_THREADS)" else arg for arg in args])


def test_the_settings_exist(manifests: list[Manifest]) -> None:
    known = {f"VSS_{name.upper()}" for name in Settings.model_fields} | ELSEWHERE | {"HF_HUB_OFFLINE"}
    given = set(one(manifests, "ConfigMap")["data"])
    for container in containers(manifests).values():
        given |= {variable["name"] for variable in container["env"]}
    assert given <= known


def test_the_key_is_a_secret_that_the_base_does_not_hold(manifests: list[Manifest]) -> None:
    (key,) = (one for one in containers(manifests)["server"]["env"] if one["name"] == "VSS_API_KEY")
    assert key["valueFrom"]["secretKeyRef"] == {"name": "vss-api-key", "key": "api-key", "optional": False}
    assert "VSS_API_KEY" not in {variable["name"] for variable in containers(manifests)["worker"]["env"]}


def test_threads_are_the_containers_own_cpu_limit(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests).items():
        (threads,) = (one for one in container["env"] if one["name"] == "VSS_THREADS")
        assert threads["valueFrom"]["resourceFieldRef"] == {
            "containerName": name,
            "resource": "limits.cpu",
            "divisor": "1",
        }


def test_both_containers_write_to_one_volume_and_to_a_tmp_of_their_own(manifests: list[Manifest]) -> None:
    mounts = {
        name: {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        for name, container in containers(manifests).items()
    }
    assert mounts == {
        "server": {"/data": "data", "/tmp": "server-tmp"},
        "worker": {"/data": "data", "/tmp": "worker-tmp"},
    }


def test_the_settings_change_the_name_that_the_pod_asks_for(manifests: list[Manifest]) -> None:
    """Else a changed setting would wait for the next restart."""
    name = one(manifests, "ConfigMap")["metadata"]["name"]
    assert re.fullmatch(r"vss-settings-\w{10}", name)
    for container in containers(manifests).values():
        assert container["envFrom"] == [{"configMapRef": {"name": name}}]


def test_the_overlay_of_the_document(tmp_path: Path) -> None:
    """docs/kubernetes.md shows an overlay: it renders, is valid, breaks no rule and does what is said."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    (overlay,) = re.findall(r"```yaml\n(# kustomization\.yaml.*?)```", text, re.DOTALL)
    if b"GitVersion:" in subprocess.run(["kubectl", "version", "--client"], capture_output=True, check=False).stdout:
        pytest.skip("this kubectl is of 2022 or older and has other words for patches; the base does not need them")
    (tmp_path / "base").symlink_to(BASE)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(overlay.replace("../../deploy/k8s/base", "../base"))
    rendered = render(folder)
    for manifest in rendered:
        check(manifest, KUBERNETES[-1])
    assert faults(rendered) == []
    stateful = one(rendered, "StatefulSet")
    assert stateful["metadata"]["namespace"] == "search"
    claim = stateful["spec"]["volumeClaimTemplates"][0]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast-ssd", "100Gi")
    assert {found["image"] for found in containers(rendered).values()} == {"registry.example.com/vss:0.1.0"}
