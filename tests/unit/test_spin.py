"""The manifests of deploy/spin: rendered by kubectl, valid for every Kubernetes we name, and within Spin's rules."""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from libs.bus import permissions
from libs.events import subjects
from libs.runtime import site
from tests.world.processes import REPOSITORY

SPIN = REPOSITORY / "deploy" / "spin"
OVERLAYS = ("development", "production")
KUBERNETES = tuple(f"1.{minor}" for minor in range(28, 36))
WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob")
# TCP ports that Spin's load balancers are known to allow, and the UDP port that is asked for by ticket.
ALLOWED_PORTS = {("TCP", 5672), ("TCP", 1094), ("UDP", 8884)}

Document = dict[str, Any]


@functools.cache
def rendered(folder: Path) -> tuple[Document, ...]:
    """What `kubectl kustomize` makes of a folder."""
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or "kubectl"
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def workloads(overlay: str) -> list[Document]:
    return [document for document in rendered(SPIN / "overlays" / overlay) if document["kind"] in WORKLOADS]


def pod(workload: Document) -> Document:
    found: Document = workload["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="session")
def with_components(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An overlay of a site that takes every optional component."""
    copy = tmp_path_factory.mktemp("spin") / "spin"
    shutil.copytree(SPIN, copy)
    kustomization = copy / "overlays" / "production" / "kustomization.yaml"
    components = "".join(f"  - ../../components/{path.name}\n" for path in sorted((SPIN / "components").iterdir()))
    kustomization.write_text(kustomization.read_text() + "components:\n" + components)
    return kustomization.parent


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_document_is_valid(with_components: Path, version: str) -> None:
    """Strictly, with every optional component: no unknown field, none missing."""
    for folder in (*(SPIN / "overlays" / overlay for overlay in OVERLAYS), with_components):
        for document in rendered(folder):
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_as_spin_demands(overlay: str) -> None:
    """Not root, numeric ids, no way to gain anything, all capabilities dropped, a read-only root, bounded resources."""
    assert workloads(overlay)
    for workload in workloads(overlay):
        name, spec = workload["metadata"]["name"], pod(workload)
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert all(context[key] > 0 for key in ("runAsUser", "runAsGroup", "fsGroup")), name
        assert spec["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec), name
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"requests", "limits"}
            assert all("memory" in part and "cpu" in part for part in container["resources"].values())
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_volumes_are_those_that_spin_allows(overlay: str) -> None:
    """Of the host only a directory of CFS, which must exist; secrets are read by their group alone."""
    for workload in workloads(overlay):
        for volume in pod(workload).get("volumes", []):
            assert set(volume) & {"emptyDir", "secret", "configMap", "hostPath", "persistentVolumeClaim"}
            if "hostPath" in volume:
                assert volume["hostPath"]["path"].startswith("/global/cfs/cdirs/")
                assert volume["hostPath"]["type"] == "Directory"
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_allowed_ports_are_open_to_the_outside(overlay: str) -> None:
    """Load balancers take ports that Spin allows; never 4222; names are DNS labels."""
    for document in rendered(SPIN / "overlays" / overlay):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", document["metadata"]["name"])
        if document["kind"] == "Service" and document["spec"].get("type") == "LoadBalancer":
            ports = {(port.get("protocol", "TCP"), port["port"]) for port in document["spec"]["ports"]}
            assert ports <= ALLOWED_PORTS
        if document["kind"] == "Service":
            assert document["spec"].get("type", "ClusterIP") in {"ClusterIP", "LoadBalancer"}
        if document["kind"] == "Ingress":
            assert document["spec"]["tls"][0]["hosts"] == [document["spec"]["rules"][0]["host"]]
            assert document["spec"]["rules"][0]["host"].endswith(f".{overlay}.svc.spin.nersc.org")


def test_every_service_runs_with_its_own_key() -> None:
    """One workload a service, its command, and of the bus's keys its own alone; the administrator makes the bus."""
    found: dict[str, set[str]] = {}
    for workload in workloads("production"):
        container = pod(workload)["containers"][0]
        keys = {
            item["path"]
            for volume in pod(workload)["volumes"]
            if "secret" in volume and volume["secret"]["secretName"] == "bus-users"
            for item in volume["secret"]["items"]
        }
        found[" ".join(container["command"][:3])] = keys
    for service in subjects.SERVICES:
        assert found[f"python -m services.{service}"] == {f"{service}.nk", "ca.pem"}
    assert found["nacre bus init"] == {f"{permissions.ADMINISTRATOR}.nk", "ca.pem"}


def test_every_selector_finds_its_pods() -> None:
    """Services and disruption budgets select pods that exist; each replicated workload has a budget."""
    labels = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads("production")]
    budgets = set()
    for document in rendered(SPIN / "overlays" / "production"):
        selector = document.get("spec", {}).get("selector", {})
        if document["kind"] == "Service":
            assert any(selector.items() <= found.items() for found in labels), document["metadata"]["name"]
        if document["kind"] == "PodDisruptionBudget":
            budgets.add(selector["matchLabels"]["app.kubernetes.io/name"])
    replicated = {w["metadata"]["name"] for w in workloads("production") if w["spec"].get("replicas", 1) > 1}
    assert budgets == replicated


def test_the_site_file_of_the_pods_is_good() -> None:
    """It passes the services' own check, and every file that it names lies below a mount of those who read it."""
    loaded = site.load(SPIN / "base" / "site.toml")
    assert loaded.bus.replicas == 3
    mounts = {
        mount["mountPath"]
        for workload in workloads("production")
        for mount in pod(workload)["containers"][0]["volumeMounts"]
    }
    machine = next(iter(loaded.machine.values()))
    named = [loaded.central_services.ca, loaded.central_services.certificate, loaded.central_services.key]
    assert machine.client_id_file and machine.client_key_file
    named += [machine.client_id_file, machine.client_key_file, loaded.credentials.token_file]
    for path in named:
        assert any(str(path).startswith(f"{mount}/") for mount in mounts), path
