"""Two years of 47-day certificates on a simulated clock: renewed at the right time, through outages of the authority.

The authority lives on the same clock. It reads the signing requests that cert_renewer leaves, and puts what it signs
beside them, as a person or a script does it; while it is away nothing comes, and now and then it errs.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from libs.events.messages import Credential
from libs.runtime.site.credentials import HostCertificate
from services.cert_renewer.keepers.host import HostKeeper
from services.cert_renewer.sources.manual import Manual
from services.cert_renewer.sources.requested import Pending
from tests.integration.cert_renewer.install_kills import is_whole
from tests.world.acme.authority import BAD, LIFE, Authority

BEGIN = datetime(2029, 3, 15, tzinfo=UTC)
END = BEGIN + timedelta(days=730)
STEP = timedelta(days=1)
DN = "/O=Nacre Test Site/CN=ce.example.org"
NAMES = ("hostcert.pem", "hostkey.pem")


@dataclass
class Desk:
    """Whoever signs: `is_away` says when nobody does, `kind_at` what comes out."""

    folder: Path
    authority: Authority
    is_away: Callable[[datetime], bool] = lambda now: False
    kind_at: Callable[[datetime], str] = lambda now: "good"
    signed: list[datetime] = field(default_factory=list)

    def work(self, now: datetime) -> None:
        """Sign what lies there, unless it is signed already."""
        request, certificate = self.folder / "host.csr", self.folder / "hostcert.pem"
        if self.is_away(now) or not request.exists():
            return
        wanted = x509.load_pem_x509_csr(request.read_bytes()).public_key()
        found = x509.load_pem_x509_certificate(certificate.read_bytes()) if certificate.exists() else None
        if found is not None and found.public_key() == wanted and self.kind_at(now - STEP) == "good":
            return
        certificate.write_bytes(self.authority.signed(request.read_bytes(), now, kind=self.kind_at(now)))
        self.signed.append(now)


@dataclass(frozen=True)
class Day:
    """What was told at one instant."""

    at: datetime
    row: Credential
    is_renewed: bool


def made(folder: Path) -> tuple[HostKeeper, Authority]:
    """A keeper whose requests and certificates lie in `drop`, and the authority that it trusts."""
    drop, volume = folder / "drop", folder / "volume"
    drop.mkdir()
    authority = Authority(BEGIN)
    (folder / "anchors.pem").write_bytes(authority.root_pem)
    settings = HostCertificate(source="manual", dn=DN, names=["ce.example.org"], key="p-256", server_auth=True)
    source = Manual(drop, Pending(volume, settings))
    return HostKeeper(settings, folder / "anchors.pem", volume, NAMES, source), authority


async def lived(folder: Path, desk: Callable[[Path, Authority], Desk], until: datetime = END) -> tuple[list[Day], Desk]:
    """Look once a day; every look finds a whole pair once there is one."""
    keeper, authority = made(folder)
    working = desk(folder / "drop", authority)
    days = []
    now = BEGIN
    while now < until:
        looked = await keeper.look(now)
        (row,) = looked.credentials
        days.append(Day(now, row, bool(looked.renewed)))
        if row.not_after is not None:
            assert is_whole(folder / "volume")
        working.work(now)
        now += STEP
    return days, working


def renewals(days: list[Day]) -> list[Day]:
    return [day for day in days if day.is_renewed]


def left(day: Day) -> timedelta:
    assert day.row.not_after is not None
    return day.row.not_after - day.at


async def test_each_certificate_is_renewed_in_its_last_third_and_nobody_is_alarmed(tmp_path: Path) -> None:
    """A first one and 22 renewals, each within two days of its time; never an alarm, never a day without."""
    days, desk = await lived(tmp_path, Desk)
    made = renewals(days)
    assert len(made) == len(desk.signed) == 23
    gaps = {after.at - before.at for before, after in itertools.pairwise(made[1:])}
    assert all(LIFE * 2 / 3 <= gap <= LIFE * 2 / 3 + 3 * STEP for gap in gaps)
    settled = days[2:]
    assert all(left(day) > LIFE / 3 - 3 * STEP for day in settled)
    assert {(day.row.alarm, day.row.problem, day.row.todo) for day in settled} == {("", "", "")}
    assert not (tmp_path / "drop" / "host.csr").exists()
    assert {Path(one.row.source) for one in made} == {tmp_path / "drop"}


async def test_outages_of_the_authority_are_bridged_and_alarmed_in_time(tmp_path: Path) -> None:
    """Away for ten days each month: always a good certificate. Away for 45: alarms grow, it ends, and comes back."""
    long_from = BEGIN + timedelta(days=400)
    long_to = long_from + timedelta(days=45)

    def is_away(now: datetime) -> bool:
        return long_from <= now < long_to or (now - BEGIN) % timedelta(days=30) < timedelta(days=10)

    days, _ = await lived(tmp_path, lambda folder, authority: Desk(folder, authority, is_away))
    first = next(number for number, day in enumerate(days) if day.is_renewed)
    calm = [day for day in days[first:] if not long_from <= day.at < long_to + timedelta(days=12)]
    assert all(left(day) > timedelta(days=4) for day in calm)
    assert {day.row.alarm for day in calm} <= {"", "notice", "warning"}
    storm = [day for day in days if long_from <= day.at < long_to]
    alarms = [day.row.alarm for day in storm]
    levels = ["", "notice", "warning", "critical"]
    ranks = [levels.index(alarm) for alarm in alarms]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2, 3}
    ended = [day for day in storm if left(day) <= timedelta(0)]
    assert ended
    assert all("expired at" in day.row.problem for day in ended)
    warned = next(day for day in storm if day.row.alarm == "warning")
    assert timedelta(days=6) < left(warned) <= timedelta(days=7)
    assert warned.row.todo.startswith(f"have {tmp_path}/drop/host.csr signed, and the certificate")
    assert warned.row.todo.endswith(f" before {warned.row.not_after:%Y-%m-%d %H:%M} UTC")
    assert left(days[-1]) > timedelta(days=4)


async def test_an_authority_that_errs_costs_nothing(tmp_path: Path) -> None:
    """In the last third it signs a bad one of another kind each day; each is told and not taken, then a good one is."""
    kinds = [kind for kind in BAD if kind != "future"]
    renew = BEGIN + LIFE * 2 / 3
    until = renew + STEP * (len(kinds) + 1)

    def kind_at(now: datetime) -> str:
        return kinds[(now - renew) // STEP % len(kinds)] if renew <= now < until else "good"

    days, _ = await lived(
        tmp_path, lambda folder, authority: Desk(folder, authority, kind_at=kind_at), until=until + 3 * STEP
    )
    erring = [day for day in days if renew + STEP <= day.at < until]
    problems = {day.row.problem for day in erring}
    assert len(erring) == len(problems) == len(kinds)
    assert all("is not taken" in words or "was not made for" in words for words in problems)
    assert all(left(day) > timedelta(days=2) for day in erring)
    assert days[-1].row.problem == ""
    assert left(days[-1]) > timedelta(days=40)


async def test_one_that_begins_tomorrow_is_taken_tomorrow(tmp_path: Path) -> None:
    """Not before it is valid, and without asking anybody again."""
    keeper, authority = made(tmp_path)
    await keeper.look(BEGIN)
    Desk(tmp_path / "drop", authority, kind_at=lambda now: "future").work(BEGIN)
    (early,) = (await keeper.look(BEGIN + timedelta(hours=23))).credentials
    assert "certificate: not valid before 2029-03-16 00:00 UTC; is this machine's clock right?" in early.problem
    assert early.not_after is None
    looked = await keeper.look(BEGIN + timedelta(hours=24))
    assert looked.renewed == looked.credentials
    assert looked.credentials[0].problem == ""
