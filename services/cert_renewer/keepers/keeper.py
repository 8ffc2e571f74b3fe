"""What keeps one credential, and how a credential is told."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

from libs.events.messages import Credential
from services.cert_renewer import decide

HOST = "host_certificate"
TOKEN = "job_agent_token"
BEARER = "edge_bearer"
CLIENT = "superfacility_client"
ACCESS_TOKEN = "superfacility_access_token"


@dataclass(frozen=True)
class Looked:
    """What a look showed: the credentials, those of them that have just taken effect, and when to look again.

    `again_at` is None when the usual interval will do.
    """

    credentials: tuple[Credential, ...]
    renewed: tuple[Credential, ...] = ()
    again_at: datetime | None = None


class Keeper(Protocol):
    """One credential (or a few that belong together)."""

    # How its loop is called, and whether it is a step of seconds or minutes.
    name: str
    longest_look_s: float

    async def look(self, now: datetime) -> Looked:
        """Look, do what is due, and say what there is. Failures are told as problems, never raised."""


def told(credential: Credential, todo: str = "") -> Credential:
    """With what follows from its times: days left, whether it holds, the alarm, and who must do what by when.

    `todo` is a sentence without its end; it is said once there is an alarm or a problem.
    """
    now, not_before, not_after = credential.checked_at, credential.not_before, credential.not_after
    alarm = decide.alarm(not_before, not_after, now)
    problem = credential.problem
    if not_after is not None:
        problem = decide.validity(min(not_before or now, not_after), not_after, now) or problem
    by = "" if not_after is None else f" before {not_after:%Y-%m-%d %H:%M} UTC" if now < not_after else " at once"
    return msgspec.structs.replace(
        credential,
        days_left=None if not_after is None else decide.days_left(not_after, now),
        problem=problem,
        alarm=alarm.word,
        todo=f"{todo}{by}" if todo and (alarm or problem) else "",
    )
