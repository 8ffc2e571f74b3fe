"""The facility's state that no Slurm knows: status, outages, notes, and the user's account."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

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

    def __init__(self, *, user: str, uid: int, account: str, client_id: str, client_expires_at: float) -> None:
        self._user = user
        self._uid = uid
        self._account = account
        self._client_id = client_id
        self._client_expires_at = client_expires_at
        self._status = dict.fromkeys(RESOURCES, "active")
        self._notes: dict[str, list[str]] = {name: [] for name in RESOURCES}
        self._updated_at = time.time()
        self._outages: list[dict[str, Any]] = []

    def status(self, name: str) -> dict[str, Any]:
        """Return one resource's status; raises KeyError for an unknown name."""
        full_name, system_type = RESOURCES[name]
        return {
            "name": name,
            "full_name": full_name,
            "description": "System Active" if self._status[name] == "active" else f"System {self._status[name]}",
            "system_type": system_type,
            "notes": list(self._notes[name]),
            "status": self._status[name],
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
        return [
            outage
            for outage in self._outages
            if outage["name"] == name and (not planned or outage["status"] == "Planned")
        ]

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
                "uid": self._uid, "name": self._user, "firstname": "Alice", "lastname": "Production", "middlename": "",
                "workphone": "", "otherPhones": "", "email": f"{self._user}@example.org",
            },
            "projects": [
                project
                | {
                    "hours_given": 1e6, "hours_used": 0.0, "project_hours_given": 1e6, "project_hours_used": 0.0,
                    "cpu_hours_given": 1e6, "cpu_hours_used": 0.0, "cpu_project_hours_given": 1e6,
                    "cpu_project_hours_used": 0.0, "gpu_hours_given": 0.0, "gpu_hours_used": 0.0,
                    "gpu_project_hours_given": 0.0, "gpu_project_hours_used": 0.0, 
                    "projdir_usage": [], "hpss_usage": [],
                }
            ],
            "roles": [project],
            "groups": {"groups": [{"gid": 0, "name": self._account, "users": []}]},
            "clients": [
                {
                    "name": "nacre", "clientId": self._client_id, "expiresAt": _iso(self._client_expires_at),
                    "comments": None,
                }
            ],
        }[what]  # fmt: skip


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _instant(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, int | float):
        return _iso(value)
    return datetime.fromisoformat(str(value)).isoformat()
