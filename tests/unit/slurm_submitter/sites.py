"""A small site and its records, as the tests of the submitter need them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from libs.events.messages import BatchQueueObserved, CentralLimits, DemandObserved, JobAgent, Submission
from libs.runtime import site

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def a_site(**ce: Any) -> site.Site:
    """One machine, one CE `cpu`; keyword arguments replace settings of the CE."""
    return site.Site(
        site=site.Identity(name="NERSC", contact="ops@example.org"),
        central_services=site.CentralServices(ca=Path("ca"), certificate=Path("c"), key=Path("k"), account="vobox"),
        machine={"perlmutter": site.Machine(client_id_file=Path("i"), client_key_file=Path("k"), user="alicepro")},
        ce={"cpu": a_ce(**ce)},
        monitoring=site.Monitoring(public_address="relay.example.org:8884", destinations=["ml.example.org:8884"]),
        credentials=site.Credentials(host_certificate_directory=Path("h"), token_file=Path("t")),
    )


def a_ce(**changes: Any) -> site.Ce:
    """The CE `cpu`."""
    ce = site.Ce(
        name="ALICE::NERSC::cpu",
        host="ce.example.org",
        machine="perlmutter",
        batch=site.Batch(account="m0000", qos="regular", directory="/scratch/vobox", output="/scratch/vobox/%x.%a.out"),
        agent=site.Agent(command="run-agent", token_file="/cfs/token.sh"),
    )
    return msgspec.structs.replace(ce, **changes)


def demand(waiting: int | None = 10, **changes: Any) -> DemandObserved:
    """Grid jobs wait; wide limits."""
    limits = CentralLimits(max_jobs=1000, max_queued=100)
    observed = DemandObserved(at=NOW - 5 * SECOND, by="queue_poller/1", ce="cpu", waiting=waiting, limits=limits)
    return msgspec.structs.replace(observed, **changes)


def listing(queued: int = 0, running: int = 0, **changes: Any) -> BatchQueueObserved:
    """A complete listing."""
    observed = BatchQueueObserved(
        at=NOW - 2 * SECOND,
        by="status_tracker/1",
        ce="cpu",
        machine="perlmutter",
        listed_at=NOW - 3 * SECOND,
        queued=queued,
        running=running,
        unaccounted=0,
        strangers=0,
        user_jobs_by_qos={"regular": queued + running},
    )
    return msgspec.structs.replace(observed, **changes)


def submission(name: str = "nacre-cpu-1", **changes: Any) -> Submission:
    """An accepted submission of two agents."""
    record = Submission(
        name=name,
        ce="cpu",
        machine="perlmutter",
        agents=2,
        state="accepted",
        intended_at=NOW - 60 * SECOND,
        changed_at=NOW - 60 * SECOND,
        void_after=NOW + 540 * SECOND,
        fence=1,
        qos="regular",
    )
    return msgspec.structs.replace(record, **changes)


def agent(name: str = "nacre-cpu-1", index: int = 0, **changes: Any) -> JobAgent:
    """The tracker's record of one agent, first listed ten seconds ago."""
    record = JobAgent(
        agent=f"{name}.{index}",
        submission=name,
        index=index,
        ce="cpu",
        machine="perlmutter",
        state="queued",
        first_listed_at=NOW - 10 * SECOND,
        job_id=f"16_{index}",
    )
    return msgspec.structs.replace(record, **changes)
