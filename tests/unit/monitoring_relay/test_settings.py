import argparse

import msgspec

from libs.runtime.run import Context
from services.monitoring_relay import settings
from tests.unit.slurm_submitter.sites import a_ce, a_site


def test_a_ce_in_shadow_mode_is_not_reported() -> None:
    """MonALISA hears of it from the CE that runs under the same name."""
    site = msgspec.structs.replace(a_site(), ce={"cpu": a_ce(), "gpu": a_ce(name="ALICE::X::gpu", mode="shadow")})
    assert list(settings.of(Context("monitoring_relay", "1", site, "", argparse.Namespace())).ces) == ["cpu"]
