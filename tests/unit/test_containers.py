"""The Dockerfiles and docker-compose.yml, as far as they can be judged without an engine."""

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from libs.events import subjects
from libs.runtime import site
from tests.containers import base_images
from tests.world.processes import REPOSITORY

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("nacre:")}


def test_every_service_has_a_container() -> None:
    """Each service but the console is a command of the one image, under its own name with hyphens."""
    commands = {name: service["command"] for name, service in OURS.items() if name != "bus-init"}
    wanted = set(subjects.SERVICES) - {subjects.OPERATOR_CONSOLE}
    assert commands == {name.replace("_", "-"): ["python", "-m", f"services.{name}"] for name in wanted}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    """No root, a read-only root file system, no capabilities, no way to gain any, a bound on processes."""
    service = SERVICES[name]
    assert re.fullmatch(r"\$\{NACRE_UID:-[1-9][0-9]*\}:0", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_every_lasting_container_has_a_healthcheck(name: str) -> None:
    """What restarts by itself says whether it is healthy; what runs once is waited for by its end."""
    service = SERVICES[name]
    checked = "test" in service.get("healthcheck", {})
    assert checked == (service["restart"] == "unless-stopped")


def test_the_world_stands_apart() -> None:
    """Without the profile `world` there is the house alone; the world never reaches the bus."""
    world = {name for name, service in SERVICES.items() if service.get("profiles") == ["world"]}
    assert world == {name for name, service in SERVICES.items() if service["image"].startswith("nacre-world:")}
    assert all(SERVICES[name]["networks"] == ["outside"] for name in world)


@pytest.mark.parametrize("path", base_images.DOCKERFILES)
def test_dockerfiles_need_no_registry_and_no_buildkit(path: str) -> None:
    """They build with the classic builder, from base images that can be made here, and never end as root."""
    text = (REPOSITORY / path).read_text()
    assert not re.search(r"^# *syntax|--mount=|--chmod=|--link\b|<<", text, re.MULTILINE)
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "64123:0"
    assert base_images.named() == {base_images.DEBIAN, base_images.PYTHON, base_images.NATS}


def test_the_site_file_of_the_containers_is_good() -> None:
    """It passes the services' own check, and names the bus and the worlds' containers as Compose does."""
    loaded = site.load(REPOSITORY / "tests" / "containers" / "site.toml")
    assert loaded.central_services.host in SERVICES
    assert loaded.bus.url == OURS["queue-poller"]["environment"]["NACRE_NATS_URL"]
    assert loaded.monitoring.public_address.partition(":")[0] in OURS
