"""The lines of the report that `--once` prints. Pure."""

from datetime import datetime

from libs.alice.answers import OPEN, FreeSlots, Pong, WaitingJobs
from libs.alice.identity import Loaded
from libs.alice.peer import Peer
from libs.alice.site_config import settings
from libs.alice.site_map import WHOLE_NODE
from libs.events.messages import SiteConfigObserved
from libs.runtime.site import Ce, Limits
from libs.runtime.site.overlay import Effective

WIDTH = 20
# Settings that only the broker is told, beside those of the CE.
BROKERS_ONLY = ("users", "no_users", "required_cpus", "close_storage")
DAY_S = 86400


def ours(account: str, loaded: Loaded, pong: Pong, *, now: datetime) -> list[str]:
    """Who we are, by our own files and as the central services see us."""
    configured = "" if pong.account in ("", account) else f" (answered: {pong.account})"
    return [
        _line("we are", loaded.subject),
        _line("account", f"{account}{configured}"),
        _line("roles", ", ".join(pong.roles) or "not answered"),
        _line("host certificate", _until(loaded.not_after, now)),
    ]


def theirs(place: str, pong: Pong, peer: Peer | None, *, spent_s: float, now: datetime) -> list[str]:
    """Who answers, over what, and how fast; `spent_s` includes connecting."""
    hostname = pong.server_info.get("hostname")
    lines = [_line("central services", f"{place}{f', says it is {hostname}' if hostname else ''}")]
    if peer is None:
        lines.append(_line("TLS peer", "showed no certificate"))
    else:
        lines.append(_line("TLS peer", f"{peer.subject}, issued by {peer.issuer}, {_until(peer.not_after, now)}"))
        lines.append(_line("connection", f"{peer.tls} to {peer.address}"))
    return [*lines, _line("connect and ping", _took(spent_s))]


def heading(short: str, ce: Ce) -> list[str]:
    """Which CE the next lines are about."""
    return ["", f"{ce.name} ({short}, {ce.mode}) on {ce.host}"]


def site_config_read(*, spent_s: float) -> list[str]:
    """That ALICE's site configuration was read; what it says comes with the CE as it is run."""
    return [_line("site configuration", "read from ALICE's directory", spent_s)]


def site_config(found: Effective, observed: SiteConfigObserved | None) -> list[str]:
    """The CE as it is run: each setting that ALICE may set with its origin, and what is wrong there."""
    ce = found.ce
    told = {
        "ttl_s": str(ce.ttl_s),
        "cores": "0: a whole node" if ce.cores == WHOLE_NODE else str(ce.cores),
        "partition": ce.partition or "none",
        **{f"environment.{name}": text for name, text in sorted(ce.agent.environment.items())},
    }
    lines = [_line("", f"{name} = {text}  ({found.origins[name]})") for name, text in told.items()]
    if observed is not None:
        rest = {name: text for name, text in settings(observed).items() if name in BROKERS_ONLY}
        lines += [_line("", f"{name} = {text}  ({observed.origins[name]})") for name, text in rest.items()]
        lines += [_line("", f"problem: {problem}") for problem in observed.problems]
    return lines


def free_slots(free: FreeSlots, *, spent_s: float) -> list[str]:
    """The code with its meaning, and the limits if there are any."""
    code = "no code" if free.code is None else f"code {free.code}"
    lines = [_line("free slots", f"{code}: {free.meaning}", spent_s)]
    if free.max_jobs is not None and free.max_queued is not None:
        lines.append(_line("limits", _limits(free.max_jobs, free.max_queued)))
    return lines


def shadow(limits: Limits) -> list[str]:
    """What stands in for free slots, which are not asked in shadow mode."""
    return [
        _line("free slots", "not asked in shadow mode: the question would write over the row of the CE that runs"),
        _line("limits", f"{_limits(limits.shadow_max_jobs, limits.shadow_max_queued)} (from the site file)"),
    ]


def waiting_jobs(waiting: WaitingJobs, *, spent_s: float) -> list[str]:
    """How many grid jobs wait for this CE."""
    code = "no code" if waiting.code is None else f"code {waiting.code}"
    return [
        _line("waiting grid jobs", f"not counted ({code})" if waiting.count is None else str(waiting.count), spent_s)
    ]


def problem(free: FreeSlots) -> str:
    """Why the answer to free slots is a failure; empty when open, and when locked, which is a state like any other."""
    return "" if free.code == OPEN or free.is_locked else f"free slots: {free.meaning}"


def _line(label: str, text: str, spent_s: float | None = None) -> str:
    return f"  {label:<{WIDTH}}{text}" + ("" if spent_s is None else f"  [{_took(spent_s)}]")


def _limits(max_jobs: int | None, max_queued: int | None) -> str:
    return f"{max_jobs} active job agents, {max_queued} of them queued"


def _took(spent_s: float) -> str:
    return f"{spent_s * 1000:.0f} ms"


def _until(not_after: datetime, now: datetime) -> str:
    days = (not_after - now).total_seconds() / DAY_S
    return f"ends {not_after:%Y-%m-%d %H:%M} UTC, " + (f"{days:.1f} days left" if days > 0 else "EXPIRED")
