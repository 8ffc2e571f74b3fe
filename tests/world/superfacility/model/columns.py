"""The columns of `squeue -o %all` and of `sacct -o ALL`, as Slurm 22.05 prints them.

Sources: https://slurm.schedmd.com/squeue.html#OPT_format, https://slurm.schedmd.com/sacct.html#SECTION_Job-Accounting-Fields
"""

from __future__ import annotations

# In the order of %all: the letters a..z, then A..Z.
SQUEUE_HEADERS = {
    "a": "ACCOUNT", "b": "TRES_PER_NODE", "c": "MIN_CPUS", "d": "MIN_TMP_DISK", "e": "END_TIME", "f": "FEATURES",
    "g": "GROUP", "h": "OVER_SUBSCRIBE", "i": "JOBID", "j": "NAME", "k": "COMMENT", "l": "TIME_LIMIT",
    "m": "MIN_MEMORY", "n": "REQ_NODES", "o": "COMMAND", "p": "PRIORITY", "q": "QOS", "r": "REASON", "s": "",
    "t": "ST", "u": "USER",
    "v": "RESERVATION", "w": "WCKEY", "x": "EXC_NODES", "y": "NICE", "z": "S:C:T", "A": "JOBID", "B": "EXEC_HOST",
    "C": "CPUS", "D": "NODES", "E": "DEPENDENCY", "F": "ARRAY_JOB_ID", "G": "GROUP", "H": "SOCKETS_PER_NODE",
    "I": "CORES_PER_SOCKET", "J": "THREADS_PER_CORE", "K": "ARRAY_TASK_ID", "L": "TIME_LEFT", "M": "TIME",
    "N": "NODELIST", "O": "CONTIGUOUS", "P": "PARTITION", "Q": "PRIORITY", "R": "NODELIST(REASON)", "S": "START_TIME",
    "T": "STATE", "U": "UID", "V": "SUBMIT_TIME", "W": "LICENSES", "X": "CORE_SPEC", "Y": "SCHEDNODES", "Z": "WORK_DIR",
}  # fmt: skip

# What never differs between the model's jobs.
SQUEUE_CONSTANTS = {
    "b": "N/A", "c": "1", "d": "0", "m": "0", "n": "", "s": "", "v": "(null)", "w": "(null)", "x": "", "y": "0",
    "z": "*:*:*", "E": "(null)", "H": "*", "I": "*", "J": "*", "O": "0", "X": "N/A", "Y": "(null)",
}  # fmt: skip

SACCT_COLUMNS = (  # noqa: SIM905
    "Account AdminComment AllocCPUS AllocNodes AllocTRES AssocID AveCPU AveCPUFreq AveDiskRead AveDiskWrite "
    "AvePages AveRSS AveVMSize BlockID Cluster Comment Constraints ConsumedEnergy ConsumedEnergyRaw Container "
    "CPUTime CPUTimeRAW DBIndex DerivedExitCode Elapsed ElapsedRaw Eligible End ExitCode Flags GID Group JobID "
    "JobIDRaw JobName Layout MaxDiskRead MaxDiskReadNode MaxDiskReadTask MaxDiskWrite MaxDiskWriteNode "
    "MaxDiskWriteTask MaxPages MaxPagesNode MaxPagesTask MaxRSS MaxRSSNode MaxRSSTask MaxVMSize MaxVMSizeNode "
    "MaxVMSizeTask McsLabel MinCPU MinCPUNode MinCPUTask NCPUS NNodes NodeList NTasks Partition Priority QOS "
    "QOSRAW Reason ReqCPUFreq ReqCPUFreqGov ReqCPUFreqMax ReqCPUFreqMin ReqCPUS ReqMem ReqNodes ReqTRES "
    "Reservation ReservationId Reserved ResvCPU ResvCPURAW Start State Submit SubmitLine Suspended SystemComment "
    "SystemCPU Timelimit TimelimitRaw TotalCPU TRESUsageInAve TRESUsageInMax TRESUsageInMaxNode "
    "TRESUsageInMaxTask TRESUsageInMin TRESUsageInMinNode TRESUsageInMinTask TRESUsageInTot TRESUsageOutAve "
    "TRESUsageOutMax TRESUsageOutMaxNode TRESUsageOutMaxTask TRESUsageOutMin TRESUsageOutMinNode "
    "TRESUsageOutMinTask TRESUsageOutTot UID User UserCPU WCKey WCKeyID WorkDir"
).split()

SACCT_JOB_CONSTANTS = {
    "AssocID": "4", "Cluster": "perlmutter", "DerivedExitCode": "0:0", "Flags": "SchedMain,StartRecieved",
    "QOSRAW": "2", "ReqCPUFreq": "Unknown", "ReqCPUFreqGov": "Unknown", "ReqCPUFreqMax": "Unknown",
    "ReqCPUFreqMin": "Unknown", "ReqCPUS": "1", "ReqMem": "500G", "Suspended": "00:00:00", "SystemCPU": "00:00:00",
    "TotalCPU": "00:00:00", "UserCPU": "00:00:00", "WCKeyID": "0",
}  # fmt: skip
SACCT_STEP_CONSTANTS = {
    "AssocID": "4", "AveCPUFreq": "0", "Cluster": "perlmutter", "ConsumedEnergy": "0", "ConsumedEnergyRaw": "0",
    "JobName": "batch", "Layout": "Unknown", "NTasks": "1", "ReqCPUFreq": "0", "ReqCPUFreqGov": "0",
    "ReqCPUFreqMax": "0", "ReqCPUFreqMin": "0", "Suspended": "00:00:00", "SystemCPU": "00:00:00",
    "TotalCPU": "00:00:00", "UserCPU": "00:00:00",
}  # fmt: skip
