"""A site as ALICE's LDAP describes real ones, set up as the recorded one was. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any


def site_document(
    *, site: str, ces: Iterable[str], ce_host: str, subjects: Mapping[str, str], account: str
) -> dict[str, Any]:
    """The initial document of SiteConfig; `ces` are short names, `subjects` maps certificate subjects to accounts."""
    names = list(ces)
    close_se = f"ALICE::{site}::EOS"
    return {
        "vo": {
            "accountname": "ALICE",
            "userdir": "/alice/user",
            "queuedbhost": "alice-taskqueue.cern.ch",
            "proxyport": "8082",
            "sedefaultqosandcount": "disk=2",
        },
        "site": {
            "accountname": site,
            "domain": ce_host.partition(".")[2],
            "administrator": f"ALICE operations <operations@{ce_host.partition('.')[2]}>",
            "country": "US",
            "latitude": "37.876",
            "longitude": "-122.253",
            "logdir": "/tmp/alien/log",
            "cachedir": "/tmp/alien/cache",
            "tmpdir": "/tmp/alien/tmp",
            "closese": close_se,
        },
        "hosts": {
            ce_host: {
                "ce": names[0],
                "closese": close_se,
                "logdir": "/tmp/jalien-log",
                "cachedir": "/tmp/jalien-cache",
                "tmpdir": "/tmp/jalien-tmp",
                "workdir": "/tmp/jalien-run",
                "environment": ["MAX_RETRIES=3", "RESERVED_DISK=2048"],
            }
        },
        "ces": {name: ce_attributes(ce_host) for name in names},
        "partitions": {"part1": {"cename": [f"ALICE::{site}::{name}" for name in names]}},
        "roles": {"vobox": {"users": account}},
        "accounts": {
            uid: {
                "subject": [dn for dn, owner in subjects.items() if owner == uid],
                "homedirectory": f"/{uid[0]}/{uid}/",
            }
            for uid in dict.fromkeys(subjects.values())
        },
    }


def ce_attributes(ce_host: str) -> dict[str, Any]:
    """A CE without requirements of its own: 8 cores and 87,000 s for each job agent."""
    return {
        "host": ce_host,
        "type": "SLURM",
        "ttl": "87000",
        "matcharg": "CPUCores=8",
        "environment": ["ALIEN_SITE_CGROUPS=1", "RESERVED_RAM=4096"],
        "installationmethod": "CVMFS",
        "submitcmd": "/usr/bin/sbatch",
        "statuscmd": "/usr/bin/squeue",
        "killcmd": "/usr/bin/scancel",
    }
