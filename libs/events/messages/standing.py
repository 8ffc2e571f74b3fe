"""What the submitter knows of one CE that no submission of it says."""

from datetime import datetime

import msgspec


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a job agent starts: its command, and JDK and jar by architecture (`uname -m`).

    `fingerprint` is the same for the same recipe. The environment is no part of it.
    """

    fingerprint: str
    command: str
    jdk: dict[str, str] = {}
    jar: dict[str, str] = {}


class CeStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Record of one CE in the bucket `standings`, under its short name.

    Since `opened_at` every submission of the CE is on record. Before that there may have been others:
    until `settled_at` is given, nothing is submitted. `proven` is the recipe that an agent was last seen to live with.
    """

    ce: str
    opened_at: datetime
    settled_at: datetime | None = None
    proven: Recipe | None = None
