"""The facility's state that no Slurm knows: status, outages, notes, and the user's account."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.world.superfacility.oauth import ApiClient

MACHINE = "perlmutter"
RESOURCES = {
    "perlmutter": ("Perlmutter", "compute"),
    "dtns": ("Data Transfer Nodes", "filesystem"),
    "global_homes": ("Global Homes", "filesystem"),
    "community_filesystem": ("Community File System (CFS)", "filesystem"),
    "spin": ("Spin", "service"),
}
STATUSES = ("active", "unavailable", "degraded", "other")
OUTAGE_STATUSES = ("Active", "Cancelled", "Completed", "Extended", "Planned")
OUTAGES_MAX = 100


class Facility:
    """What GET /status..., and GET /account... answer; the admin port changes it."""

    def __init__(self, *, user: str, uid: int, account: str) -> None:
        self.user = user
        self._uid = uid
        self._account = account
        self._hours = {"hours_given": 1e6, "hours_used": 0.0}
        self._status = dict.fromkeys(RESOURCES, "active")
        self._notes: dict[str, list[str]] = {name: [] for name in RESOURCES}
        self._updated_at = time.time()
        self._outages: list[dict[str, Any]] = []

    def status(self, name: str) -> dict[str, Any]:
        """Return one resource's status; raises KeyError for an unknown name."""
        full_name, system_type = RESOURCES[name]
        out = any(_as_of_now(one)["status"] == "Active" for one in self._outages if one["name"] == name)
        status = "unavailable" if out and self._status[name] == "active" else self._status[name]
        return {
            "name": name,
            "full_name": full_name,
            "description": "System Active" if status == "active" else f"System {status}",
            "system_type": system_type,
            "notes": list(self._notes[name]),
            "status": status,
            "updated_at": _iso(self._updated_at),
        }

    def set_status(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Take {"status", "name"?, "notes"?}; raises ValueError."""
        name = str(asked.get("name", MACHINE))
        if name not in RESOURCES or asked.get("status") not in STATUSES:
            raise ValueError(f"status is one of {STATUSES}, name one of {tuple(RESOURCES)}")
        self._status[name] = asked["status"]
        self._notes[name] = [str(note) for note in asked.get("notes", [])]
        self._updated_at = time.time()
        return self.status(name)

    def notes(self, name: str) -> list[dict[str, Any]]:
        """Return the notes of a resource; raises KeyError for an unknown name."""
        return [
            {"name": name, "notes": note, "active": True, "timestamp": _iso(self._updated_at)}
            for note in self._notes[name]
        ]

    def outages(self, name: str, *, planned: bool) -> list[dict[str, Any]]:
        """Return a resource's outages; raises KeyError for an unknown name."""
        RESOURCES[name]
        known = [_as_of_now(outage) for outage in self._outages if outage["name"] == name]
        return [outage for outage in known if not planned or outage["status"] == "Planned"]

    def maintenance(self, outage: Mapping[str, Any]) -> tuple[float, float] | None:
        """Return the unix seconds between which an outage takes the machine away, None where it does not."""
        if outage["name"] != MACHINE or outage["status"] not in ("Planned", "Active", "Extended"):
            return None
        start_at, end_at = (outage[name] and _unix(outage[name]) for name in ("start_at", "end_at"))
        return None if start_at is None or end_at is None else (start_at, end_at)

    def add_outage(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Take {"start_at", "end_at" (ISO or unix seconds), "name"?, "status"?, "description"?}; raises ValueError."""
        name, status = str(asked.get("name", MACHINE)), asked.get("status", "Planned")
        if name not in RESOURCES or status not in OUTAGE_STATUSES or len(self._outages) >= OUTAGES_MAX:
            raise ValueError(f"status is one of {OUTAGE_STATUSES}, name one of {tuple(RESOURCES)}")
        outage = {
            "name": name,
            "start_at": _instant(asked.get("start_at")),
            "end_at": _instant(asked.get("end_at")),
            "description": str(asked.get("description", "Scheduled Maintenance")),
            "notes": str(asked.get("notes", "")),
            "status": status,
            "swo": str(asked.get("swo", "")),
            "update_at": _iso(time.time()),
        }
        self._outages.append(outage)
        return outage

    def clear_outages(self) -> None:
        """Forget all outages."""
        self._outages.clear()

    def account(self, what: str) -> Any:
        """Answer GET /account/<what>; raises KeyError."""
        project = {"id": 1, "description": "ALICE", "repo_name": self._account, "iris_role": "user"}
        return {
            "": {
                "uid": self._uid, "name": self.user, "firstname": "Alice", "lastname": "Production", "middlename": "",
                "workphone": "", "otherPhones": "", "email": f"{self.user}@example.org",
            },
            "projects": [
                project
                | self._hours
                | {f"project_{name}": hours for name, hours in self._hours.items()}
                | {f"cpu_{name}": hours for name, hours in self._hours.items()}
                | {f"cpu_project_{name}": hours for name, hours in self._hours.items()}
                | {
                    "gpu_hours_given": 0.0, "gpu_hours_used": 0.0, "gpu_project_hours_given": 0.0,
                    "gpu_project_hours_used": 0.0, "projdir_usage": [], "hpss_usage": [],
                }
            ],
            "roles": [project],
            "groups": {"groups": [{"gid": 1, "name": self._account, "users": [{"uid": self._uid, "name": self.user}]}]},
        }[what]  # fmt: skip

    def clients(self, known: Iterable[ApiClient]) -> list[dict[str, Any]]:
        """Answer GET /account/clients."""
        return [
            {"name": one.name, "clientId": one.client_id, "expiresAt": _iso(one.expires_at), "comments": None}
            for one in known
        ]

    def set_account(self, asked: Mapping[str, Any]) -> dict[str, float]:
        """Take {"hours_given"?, "hours_used"?}; raises ValueError."""
        if wrong := set(asked) - set(self._hours):
            raise ValueError(f"unknown fields: {', '.join(sorted(wrong))}")
        self._hours |= {name: float(value) for name, value in asked.items()}
        return self._hours


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _instant(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, int | float):
        return _iso(value)
    return datetime.fromisoformat(str(value)).isoformat()


def _unix(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def _as_of_now(outage: dict[str, Any]) -> dict[str, Any]:
    """A planned outage becomes active, and then completed, as its time comes."""
    now = time.time()
    if outage["status"] != "Planned" or outage["start_at"] is None or now < _unix(outage["start_at"]):
        return outage
    over = outage["end_at"] is not None and now >= _unix(outage["end_at"])
    return outage | {"status": "Completed" if over else "Active"}
