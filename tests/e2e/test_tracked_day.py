"""One per cent of a machine's day of one-hour agents, tracked to the last verdict."""

from pathlib import Path

import pytest

from tests.e2e import tracked_day


@pytest.mark.timeout(150)
async def test_every_verdict_of_a_day_is_the_ledgers(tmp_path: Path) -> None:
    """720 agents in all kinds of endings: the tracker's counts by ending equal those of the model's own ledger."""
    found = await tracked_day.run(tmp_path / "day", nodes=30, hours=24, speed=7200.0, seed=1)
    assert found["tracker"] == found["ledger"]
    assert found["agents"] == sum(found["ledger"].values())
