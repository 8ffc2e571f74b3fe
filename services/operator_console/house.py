"""The house as it is known at one instant: what `nacre status` and the console's overview show. Pure.

Everything carries its own instant, so that whoever shows it can say how old it is; None is unknown, never zero.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from libs.events import subjects
from libs.events.messages import (
    BatchQueueObserved,
    CredentialObserved,
    DemandObserved,
    Event,
    FacilityObserved,
    Lease,
    MonitoringObserved,
    SubmissionDecided,
    Wish,
)
from libs.events.rows import PREFIX, Topic

T = TypeVar("T", bound=Event)


class CeState(msgspec.Struct, frozen=True, kw_only=True):
    """The last word on one CE: its demand, its batch queue, and the last decision with what bound it."""

    ce: str
    demand: DemandObserved | None = None
    batch_queue: BatchQueueObserved | None = None
    decided: SubmissionDecided | None = None


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One process that answers; `active` when it holds its service's lease, None when the service has no lease."""

    service: str
    instance: str
    version: str
    active: bool | None


class House(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one instant. `wishes` are those that stand, by their keys in `control`."""

    at: datetime
    ces: list[CeState]
    facilities: list[FacilityObserved]
    credentials: CredentialObserved | None
    relays: list[MonitoringObserved]
    instances: list[Instance]
    wishes: dict[str, Wish]


def assembled(
    latest: Iterable[tuple[str, bytes]],
    leases: Mapping[str, Lease],
    answering: Iterable[tuple[str, str, str]],
    wishes: Mapping[str, Wish],
    at: datetime,
) -> House:
    """The house from (subject, body) of newest messages, leases, (service, instance, version) that answer, wishes."""
    read = _Newest(latest)
    demands = read.by_scope(subjects.DEMAND_OBSERVED)
    listings = read.by_scope(subjects.BATCH_QUEUE_OBSERVED)
    decisions = read.by_scope(subjects.SUBMISSION_DECIDED)
    return House(
        at=at,
        ces=[
            CeState(ce=ce, demand=demands.get(ce), batch_queue=listings.get(ce), decided=decisions.get(ce))
            for ce in sorted({*demands, *listings, *decisions})
        ],
        facilities=list(read.by_scope(subjects.FACILITY_OBSERVED).values()),
        credentials=read.by_scope(subjects.CREDENTIAL_OBSERVED).get("site"),
        relays=list(read.by_scope(subjects.MONITORING_OBSERVED).values()),
        instances=[
            Instance(service=service, instance=instance, version=version, active=_active(service, instance, leases))
            for service, instance, version in answering
        ],
        wishes={key: wish for key, wish in wishes.items() if wish.expires_at is None or wish.expires_at > at},
    )


def _active(service: str, instance: str, leases: Mapping[str, Lease]) -> bool | None:
    held = [lease.holder for key, lease in leases.items() if key.partition(".")[0] == service]
    return f"{service}/{instance}" in held if held else None


class _Newest:
    """Newest messages, decoded by the table's types; what is not of the table or does not decode is left out."""

    def __init__(self, latest: Iterable[tuple[str, bytes]]) -> None:
        self._found: dict[str, dict[str, Any]] = {}
        topics = {topic.name: topic for topic in subjects.TOPICS if topic.message is not None}
        for subject, body in latest:
            scope, *words = subject.removeprefix(f"{PREFIX}.").split(".")
            topic = topics.get(".".join(words[:2]))
            if topic is None or topic.message is None:
                continue
            try:
                message = msgspec.json.decode(body, type=topic.message)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            self._found.setdefault(topic.name, {})[".".join([scope, *words[2:]])] = message

    def by_scope(self, topic: Topic[T]) -> dict[str, T]:
        """Messages of a topic by scope, with the suffix where there is one."""
        return dict(sorted(self._found.get(topic.name, {}).items()))
