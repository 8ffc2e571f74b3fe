from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.apmon import datagram
from libs.apmon.datagram import Parameter, XdrType
from services.status_tracker.rules.reports import Report, report_of

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "apmon"
AGENT, RUNNER = "ALIEN_alien.site.JobAgent_Nodes", "ALIEN_alien.site.JobRunner_Nodes"


def parameters(**values: str | float) -> list[Parameter]:
    return [
        Parameter(name, XdrType.STRING if isinstance(value, str) else XdrType.REAL64, value)
        for name, value in values.items()
    ]


@pytest.mark.parametrize(
    ("cluster", "node", "values", "report"),
    [
        (
            AGENT, "nid001.chn.nersc.gov:17:0", {"ja_status": 1},
            Report("nid001", "nid001:17", working=False, requesting=True),
        ),
        (AGENT, "nid001:17:1", {"ja_status": 4, "TTL_left": 9}, Report("nid001", "nid001:17", working=True)),
        (AGENT, "nid001:17:1", {"ja_status": -2}, Report("nid001", "nid001:17", working=False)),
        (AGENT, "nid001:17:1", {"job_id": 3e9}, Report("nid001", "nid001:17", grid_job=3_000_000_000)),
        (AGENT, "nid001:99", {"jobID": 12.0, "statusID": 10.0}, Report("nid001", "nid001:99", grid_job=12)),
        (AGENT, "nid001", {"job_id": 0}, Report("nid001")),
        (AGENT, "nid001:17", {"ja_status": "x"}, Report("nid001", "nid001:17")),
        (RUNNER, "nid001:17", {"runningja": 3.0}, Report("nid001", "nid001:17", working=True)),
        (RUNNER, "nid001:17", {"runningja": 0}, Report("nid001", "nid001:17", working=False)),
        (AGENT, "nid001:17", {"BatchId": "7_3"}, Report("nid001", "nid001:17", batch_id="7_3")),
        (AGENT, "nid001:17", {"SLURM_JOB_ID": 16.0}, Report("nid001", "nid001:17", batch_id="16")),
        (AGENT, "nid001:17", {"SLURM_JOB_ID": float("nan")}, Report("nid001", "nid001:17")),
        ("ALICE::X::Y_Jobs", "123", {"status": 10}, Report("", grid_job=123, working=True)),
        ("ALICE::X::Y_Jobs", "123", {"status": 15, "host": "nid001.x"}, Report("nid001", grid_job=123, working=False)),
        ("ALICE::X::Y_Jobs", "123", {"rss": 5.0}, Report("", grid_job=123, working=True)),
        ("ALICE::X::Y_Jobs", "nid001", {"status": -3, "host": 5.0}, Report("", working=False)),
        ("ALIEN_System_Nodes", "nid001.x", {"load1": 3.0}, Report("nid001")),
        ("ALIEN_Self_JobRunner_Nodes", "nid001", {}, Report("nid001")),
        ("Site_CE_ALICE::X::Y", "ce.example.org", {"jobAgents_queued": 1}, None),
        ("TaskQueue_Jobs_ALICE", "x", {}, None),
        ("", "", {}, None),
    ],
)  # fmt: skip
def test_what_datagrams_say(cluster: str, node: str, values: dict[str, str | float], report: Report | None) -> None:
    """JAliEn's senders by their clusters; a grid job's id only when it can be one."""
    assert report_of(cluster, node, parameters(**values)) == report


def test_every_recorded_datagram_is_read_or_passed_over() -> None:
    """Real senders' bytes, broken ones among them, raise nothing and name only grid jobs that can exist."""
    for path in sorted(VECTORS.glob("*.bin")):
        found = datagram.decode(path.read_bytes())
        report = report_of(found.cluster or "", found.node or "", found.parameters)
        assert report is None or report.grid_job is None or 0 < report.grid_job < 1 << 53


@given(
    st.sampled_from([AGENT, RUNNER, "X_Jobs", "ALIEN_System_Nodes"]),
    st.text(max_size=30),
    st.dictionaries(
        st.sampled_from(["job_id", "jobID", "ja_status", "runningja", "status", "host", "BatchId"]),
        st.one_of(st.text(max_size=20), st.floats(), st.integers(-(2**63), 2**63 - 1)),
    ),
)
def test_any_values_give_a_report(cluster: str, node: str, values: dict[str, str | float]) -> None:
    """Nothing that a sender can write breaks the join."""
    assert report_of(cluster, node, parameters(**values)) is not None
