"""A certificate authority for both sides of a replayed session."""

from pathlib import Path

import pytest

from tests.contract.alice.replay import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """One that server and client trust."""
    return Authority(tmp_path)
