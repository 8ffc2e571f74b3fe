"""The table of refusals, by the texts as Slurm and NERSC print them."""

import pytest

from libs.slurm.outcomes import Refusal, RefusalKind, Unclear, read_failure

FAILED = "sbatch: error: Batch job submission failed: "

# What is printed, and its class. Sources: a real Slurm 22.05.8; slurm_errno.c; docs.nersc.gov/jobs/errors/.
TEXTS = {
    f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FAILED}Job violates accounting/QOS policy (job submit limit, user's "
    "size and/or time limits)": "submit_limit",
    f"sbatch: error: AssocGrpSubmitJobsLimit\n{FAILED}Job violates accounting/QOS policy (...)": "submit_limit",
    f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)": "submit_limit",
    f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{FAILED}Job violates accounting/QOS policy (...)": "time_limit",
    f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)": "time_limit",
    "sbatch: error: Job cost estimated at 71582788.25 node hours, your balance is 4293.00 node hours (Repo: 4292.57 "
    "node hours). Cannot proceed, please see https://docs.nersc.gov/jobs/policy/ for your options": "allocation",
    f"sbatch: error: AssocGrpBillingMinutes\n{FAILED}Job violates accounting/QOS policy (...)": "allocation",
    f"{FAILED}Requested account has breached requested QOS usage threshold": "allocation",
    "error: No available node hour balance information for user xxx, account xxx. Cannot proceed.": "account",
    f"{FAILED}Invalid account or account/partition combination specified": "account",
    f"{FAILED}Invalid qos specification": "qos",
    "sbatch: error: Your account has exceeded a file system quota and is not permitted to submit batch jobs.  Please "
    "run `myquota` for more information.": "quota",
    f"{FAILED}Job can not start due to maintenance reservation.": "maintenance",
    f"{FAILED}System submissions disabled": "maintenance",
    f"{FAILED}Requested operation is presently disabled": "maintenance",
    f"{FAILED}Required partition not available (inactive or drain)": "maintenance",
    f"{FAILED}Rate limit exceeded, please retry momentarily": "busy",
    f"{FAILED}Unable to create job record, try again": "busy",
    f"sbatch: error: No architecture specified, cannot estimate job costs.\n{FAILED}Unspecified error": "request",
    f"sbatch: error: Job request does not match any supported policy.\n{FAILED}Unspecified error.": "request",
    f"{FAILED}Invalid feature specification": "request",
    f"{FAILED}Invalid license specification": "request",
    f"{FAILED}Invalid node name specified": "request",
    f"{FAILED}Requested reservation is invalid": "request",
    f"{FAILED}Requested node configuration is not available": "request",
    f"{FAILED}Node count specification invalid": "request",
    "sbatch: error: Memory specification can not be satisfied": "request",
    "sbatch: error: Batch script contains DOS line breaks (\\r\\n)": "script",
    "sbatch: error: Batch script contains only whitespace!": "script",
    f"{FAILED}Pathname of a file, directory or other parameter too long": "script",
    "sbatch: error: Invalid --time specification": "script",
    '{"detail": "Not authenticated"}': "authentication",
    f"{FAILED}Protocol authentication error": "authentication",
    f"{FAILED}User's group not permitted to use this partition": "authentication",
    f"{FAILED}Unspecified error": "other",
}


@pytest.mark.parametrize("text", TEXTS)
def test_each_text_falls_into_its_class(text: str) -> None:
    """What Slurm or NERSC prints is refused in its class, and kept as it is."""
    assert read_failure(text) == Refusal(kind=RefusalKind(TEXTS[text]), text=text)


@pytest.mark.parametrize(
    "text",
    [
        f"{FAILED}Socket timed out on send/recv operation",
        f"{FAILED}Unable to contact slurm controller (connect failure)",
        f"{FAILED}Zero Bytes were transmitted or received",
        f"{FAILED}Unexpected message received",
        f"{FAILED}Slurm backup controller in standby mode",
    ],
)
def test_a_lost_answer_of_slurmctld_is_unclear(text: str) -> None:
    """sbatch calls it an error, too, but the job may have been taken; the words are known ones."""
    outcome = read_failure(text)
    assert isinstance(outcome, Unclear) and outcome.unknown_text == ""


def test_unknown_words_are_kept_whole_and_silence_is_unclear() -> None:
    """Words that no row knows are given back for the table to learn, up to a bound."""
    outcome = read_failure("the moon is full")
    assert isinstance(outcome, Unclear) and outcome.unknown_text == "the moon is full"
    long = read_failure("?" * 5000)
    assert isinstance(long, Unclear) and len(long.unknown_text) == 2000
    for nothing in ("", " \n"):
        outcome = read_failure(nothing)
        assert isinstance(outcome, Unclear) and outcome.unknown_text == ""
