from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import FacilityObserved, Outage, SiteConfigObserved
from libs.runtime import site
from libs.runtime.site.overlay import before_outage, effective
from tests.unit.slurm_submitter.sites import a_ce

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def said(**changes: object) -> SiteConfigObserved:
    origins = {
        "ttl_s": "ce_ttl",
        "cores": "ce_matcharg",
        "partitions": "partitions",
        "environment.A": "host_environment",
    }
    found: dict[str, object] = {"at": NOW, "by": "queue_poller/1", "ce": "cpu", "origins": origins}
    return SiteConfigObserved(**(found | changes))  # type: ignore[arg-type]


def with_variables(**variables: str) -> site.Ce:
    return a_ce(agent=site.Agent(command="run", token_file="t", environment=variables), partition="p")


def test_without_alice_the_site_file_stands() -> None:
    """Nothing observed, or nothing set there, changes nothing, and the origin is the site file."""
    ce = with_variables(B="1")
    for observed in (None, said()):
        found = effective(ce, observed)
        assert found.ce == ce
        assert set(found.origins.values()) == {"site file"}
        assert set(found.origins) == {"ttl_s", "cores", "partition", "environment.B"}


def test_alices_settings_are_laid_over() -> None:
    """Cores, partitions and variables are ALICE's, with their origin; variables it does not set stay."""
    ce = with_variables(A="0", B="1")
    found = effective(ce, said(cores=8, partitions=["a", "b"], environment={"A": "9"}))
    assert (found.ce.cores, found.ce.partition) == (8, "a,b")
    assert found.ce.agent.environment == {"A": "9", "B": "1"}
    assert found.origins == {
        "ttl_s": "site file",
        "cores": "ce_matcharg",
        "partition": "partitions",
        "environment.A": "host_environment",
        "environment.B": "site file",
    }
    assert effective(ce, said(partitions=[])).ce.partition == ""


def test_the_shorter_time_to_live_holds() -> None:
    """What the batch job's time limit leaves is never exceeded."""
    found = effective(a_ce(ttl_s=1000), said(ttl_s=900))
    assert (found.ce.ttl_s, found.origins["ttl_s"]) == (900, "ce_ttl")
    found = effective(a_ce(ttl_s=1000), said(ttl_s=87000))
    assert (found.ce.ttl_s, found.origins["ttl_s"]) == (1000, "site file, below ce_ttl 87000")


def test_what_is_pinned_is_the_site_files() -> None:
    """Each setting can be kept from ALICE's configuration."""
    observed = said(ttl_s=1, cores=8, partitions=["a"], environment={"A": "9"})
    ce = a_ce(pinned=["ttl_s", "cores", "partition", "environment"])
    found = effective(ce, observed)
    assert found.ce == ce
    assert set(found.origins.values()) == {"site file"}


def facility(*outages: Outage) -> FacilityObserved:
    return FacilityObserved(
        at=NOW, by="status_tracker/1", machine="perlmutter", status="active", planned_outages=[*outages]
    )


def outage(start: timedelta, name: str = "maintenance", status: str = "Planned") -> Outage:
    return Outage(name=name, start_at=NOW + start, end_at=NOW + start + HOUR, status=status)


def test_a_planned_outage_shortens_the_time_to_live() -> None:
    """The first to come counts, to the second, and is named as the origin."""
    found = before_outage(effective(a_ce(), None), facility(outage(3 * HOUR, "later"), outage(2 * HOUR, "first")), NOW)
    assert found.ce.ttl_s == 7200
    assert found.origins["ttl_s"] == "outage 'first' begins 2026-11-23 14:00 UTC"
    soon = before_outage(effective(a_ce(), None), facility(outage(timedelta(milliseconds=1))), NOW)
    assert soon.ce.ttl_s == 1


@pytest.mark.parametrize(
    "seen",
    [
        None,
        facility(),
        facility(outage(-HOUR / 2)),
        facility(outage(-3 * HOUR)),
        facility(outage(HOUR, status="Cancelled")),
        facility(outage(HOUR, status="completed")),
        facility(outage(240 * HOUR)),
    ],
)
def test_no_other_outage_changes_anything(seen: FacilityObserved | None) -> None:
    """Unknown, under way, over, called off, or too far away."""
    plain = effective(a_ce(), None)
    assert before_outage(plain, seen, NOW) == plain


@given(
    st.integers(1, 200_000),
    st.none() | st.integers(1, (1 << 31) - 1),
    st.lists(st.integers(-100_000, 300_000), max_size=4),
)
def test_the_time_to_live_is_never_longer_than_any_bound(ttl_s: int, alice_s: int | None, starts_s: list[int]) -> None:
    """Neither the site file's, nor ALICE's, nor the way to the next outage is exceeded, and it stays positive."""
    seen = facility(*(outage(timedelta(seconds=start_s)) for start_s in starts_s))
    found = before_outage(effective(a_ce(ttl_s=ttl_s), said(ttl_s=alice_s)), seen, NOW).ce.ttl_s
    coming_s = [start_s for start_s in starts_s if start_s > 0]
    assert found == min([ttl_s, *([alice_s] if alice_s else []), *coming_s])
