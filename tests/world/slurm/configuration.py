"""The files a private Slurm needs, as text: slurm.conf and slurmdbd.conf.

Every port, socket and file is the instance's own, so that several run side by side. Whole nodes are given to a job, as
Perlmutter's regular and preempt queues do. Sources: https://slurm.schedmd.com/slurm.conf.html, .../slurmdbd.conf.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MACHINE = "perlmutter"
ACCOUNT = "m0000"
QOS_LIMITS = {
    "regular": ("MaxSubmitJobsPerUser=5000", "MaxWall=48:00:00"),
    "preempt": ("MaxSubmitJobsPerUser=5000", "MaxWall=48:00:00"),
    "debug": ("MaxSubmitJobsPerUser=5", "MaxJobsPerUser=2", "MaxWall=00:30:00"),
}
DEFAULT_QOS = "debug"
FIRST_NODE = 4096
FIRST_GPU_NODE = 1000
NODE_MEMORY_MB = 512_000


@dataclass(frozen=True)
class Layout:
    """Where one instance lives: `path` is a short name of its directory (unix sockets end at 107 characters).

    `settings` of slurm.conf stand instead of ours, or beside them.
    """

    path: Path
    host: str
    address: str
    user: str
    nodes: int
    gpu_nodes: int
    cpus: int
    controller_port: int
    accounting_port: int
    database_port: int
    node_ports: tuple[int, ...]
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def munge_socket(self) -> Path:
        return self.path / "munge" / "munge.socket"

    @property
    def node_names(self) -> list[str]:
        return [*self.features]

    @property
    def features(self) -> dict[str, str]:
        """Each node's feature, `cpu` or `gpu`: what `-C` asks for."""
        cpu = {f"nid{FIRST_NODE + number:06d}": "cpu" for number in range(self.nodes)}
        return cpu | {f"nid{FIRST_GPU_NODE + number:06d}": "gpu" for number in range(self.gpu_nodes)}


def slurm_conf(layout: Layout) -> str:
    """Return slurm.conf of this instance."""
    path = layout.path
    nodes = "\n".join(
        f"NodeName={name} NodeAddr={layout.address} NodeHostname={layout.host} Port={port} CPUs={layout.cpus} "
        f"RealMemory={NODE_MEMORY_MB} Feature={feature} State=UNKNOWN"
        for (name, feature), port in zip(layout.features.items(), layout.node_ports, strict=True)
    )
    text = f"""\
ClusterName={MACHINE}
SlurmctldHost={layout.host}({layout.address})
SlurmctldPort={layout.controller_port}
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
CredType=cred/munge
SlurmUser={layout.user}
SlurmdUser={layout.user}
StateSaveLocation={path}/state
SlurmdSpoolDir={path}/spool/%n
SlurmctldPidFile={path}/slurmctld.pid
SlurmdPidFile={path}/slurmd.%n.pid
SlurmctldLogFile={path}/log/slurmctld.log
SlurmdLogFile={path}/log/slurmd.%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=5,batch_sched_delay=0,default_queue_depth=1000
CommunicationParameters=NoCtldInAddrAny
MaxJobCount=50000
MaxArraySize=1001
MinJobAge=300
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout=30
MessageTimeout=20
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={layout.address}
AccountingStoragePort={layout.accounting_port}
AccountingStoragePass={layout.munge_socket}
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment
{nodes}
PartitionName=regular Nodes=ALL Default=YES MaxTime=48:00:00 DefaultTime=00:30:00 State=UP OverSubscribe=EXCLUSIVE
"""
    for name, value in layout.settings.items():
        line = f"{name}={value}"
        text, times = re.subn(rf"(?m)^{re.escape(name)}=.*$", lambda _, line=line: line, text)  # type: ignore[misc]
        text = text if times else f"{text}{line}\n"
    return text


def slurmdbd_conf(layout: Layout) -> str:
    """Return slurmdbd.conf; the file must have mode 0600 and belong to SlurmUser, or slurmdbd refuses it."""
    path = layout.path
    return f"""\
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
DbdHost=localhost
DbdAddr={layout.address}
DbdPort={layout.accounting_port}
SlurmUser={layout.user}
LogFile={path}/log/slurmdbd.log
PidFile={path}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={layout.database_port}
StorageUser=slurm
StoragePass=devonly
StorageLoc=slurm_acct_db
"""
