"""The one table of the bus: every subject and bucket, its message, retention, writer and readers.

Streams, permissions, the README's table, the AsyncAPI document and the one-writer test all come from here.
A subject is `nacre.v1.<scope>.<noun>.<past participle>[.<suffix>]`. The scope is the CE's short name, the machine's
name, or `site`.
"""

from typing import Any, TypeVar

from libs.events import messages
from libs.events.rows import Bucket, Stream, Topic

QUEUE_POLLER = "queue_poller"
SLURM_SUBMITTER = "slurm_submitter"
STATUS_TRACKER = "status_tracker"
MONITORING_RELAY = "monitoring_relay"
CERT_RENEWER = "cert_renewer"
OPERATOR_CONSOLE = "operator_console"
SERVICES = (QUEUE_POLLER, SLURM_SUBMITTER, STATUS_TRACKER, MONITORING_RELAY, CERT_RENEWER, OPERATOR_CONSOLE)

T = TypeVar("T")

LATEST = Stream(name="LATEST", kept="latest", max_bytes=16 << 20, max_age_s=0, max_per_subject=1)
SUBMISSIONS = Stream(name="SUBMISSIONS", kept="log", max_bytes=256 << 20, max_age_s=30 * 86400)
JOB_AGENTS = Stream(name="JOB_AGENTS", kept="log", max_bytes=512 << 20, max_age_s=30 * 86400)
NODES = Stream(name="NODES", kept="log", max_bytes=16 << 20, max_age_s=30 * 86400)
WISHES = Stream(name="WISHES", kept="log", max_bytes=16 << 20, max_age_s=180 * 86400)
CREDENTIALS = Stream(name="CREDENTIALS", kept="log", max_bytes=16 << 20, max_age_s=365 * 86400)
MONITORING = Stream(name="MONITORING", kept="memory", max_bytes=256 << 20, max_age_s=3600)
STREAMS = (LATEST, SUBMISSIONS, JOB_AGENTS, NODES, WISHES, CREDENTIALS, MONITORING)

DEMAND_OBSERVED = Topic(
    noun="demand",
    verb="observed",
    message=messages.DemandObserved,
    scope="ce",
    stream=LATEST,
    writer=QUEUE_POLLER,
    readers=(SLURM_SUBMITTER, MONITORING_RELAY, OPERATOR_CONSOLE),
    meaning="grid jobs that wait for this CE, and its central limits",
)
SITE_CONFIG_OBSERVED = Topic(
    noun="site_config",
    verb="observed",
    message=messages.SiteConfigObserved,
    scope="ce",
    stream=LATEST,
    writer=QUEUE_POLLER,
    readers=(QUEUE_POLLER, SLURM_SUBMITTER, STATUS_TRACKER, OPERATOR_CONSOLE),
    meaning="what ALICE's directory says about this CE, with what changed and what is broken",
)
BATCH_QUEUE_OBSERVED = Topic(
    noun="batch_queue",
    verb="observed",
    message=messages.BatchQueueObserved,
    scope="ce",
    stream=LATEST,
    writer=STATUS_TRACKER,
    readers=(SLURM_SUBMITTER, MONITORING_RELAY, OPERATOR_CONSOLE),
    meaning="job agents of this CE by state, and all batch jobs of our Slurm user",
)
FACILITY_OBSERVED = Topic(
    noun="facility",
    verb="observed",
    message=messages.FacilityObserved,
    scope="machine",
    stream=LATEST,
    writer=STATUS_TRACKER,
    readers=(QUEUE_POLLER, SLURM_SUBMITTER, OPERATOR_CONSOLE),
    meaning="the facility's status, planned outages and our allocation",
)


def _submission(verb: str, message: type[T], meaning: str) -> Topic[T]:
    return Topic(
        noun="submission",
        verb=verb,
        message=message,
        scope="ce",
        stream=SUBMISSIONS,
        writer=SLURM_SUBMITTER,
        readers=(STATUS_TRACKER, OPERATOR_CONSOLE),
        meaning=meaning,
    )


SUBMISSION_INTENDED = _submission("intended", messages.SubmissionIntended, "recorded before the POST leaves")
SUBMISSION_ACCEPTED = _submission("accepted", messages.SubmissionAccepted, "Slurm gave a job id")
SUBMISSION_REFUSED = _submission("refused", messages.SubmissionRefused, "Slurm or the facility said no")
SUBMISSION_UNCLEAR = _submission("unclear", messages.SubmissionUnclear, "the answer was lost")
SUBMISSION_ADOPTED = _submission("adopted", messages.SubmissionAdopted, "found in a listing by its name")
SUBMISSION_ABANDONED = _submission("abandoned", messages.SubmissionAbandoned, "never executed, or void")
SUBMISSION_FORGOTTEN = _submission("forgotten", messages.SubmissionForgotten, "acknowledged, then lost by Slurm")
SUBMISSION_WITHDRAWN = _submission("withdrawn", messages.SubmissionWithdrawn, "queued agents of it were cancelled")
SUBMISSION_DECIDED = _submission("decided", messages.SubmissionDecided, "the journal of decisions")

JOB_AGENT_CHANGED = Topic(
    noun="job_agent",
    verb="changed",
    message=messages.JobAgentChanged,
    scope="ce",
    stream=JOB_AGENTS,
    writer=STATUS_TRACKER,
    readers=(QUEUE_POLLER, OPERATOR_CONSOLE),
    meaning="a job agent's record changed",
)
NODE_SUSPECTED = Topic(
    noun="node",
    verb="suspected",
    message=messages.NodeSuspected,
    scope="machine",
    stream=NODES,
    writer=STATUS_TRACKER,
    readers=(STATUS_TRACKER, SLURM_SUBMITTER, OPERATOR_CONSOLE),
    meaning="job agents fail early or stay silent on a node: avoid it for a while",
)
NODE_CLEARED = Topic(
    noun="node",
    verb="cleared",
    message=messages.NodeCleared,
    scope="machine",
    stream=NODES,
    writer=STATUS_TRACKER,
    readers=(STATUS_TRACKER, SLURM_SUBMITTER, OPERATOR_CONSOLE),
    meaning="a suspected node is believed again",
)
WISH_FULFILLED = Topic(
    noun="wish",
    verb="fulfilled",
    message=messages.WishFulfilled,
    scope="ce",
    stream=WISHES,
    writer=SLURM_SUBMITTER,
    readers=(OPERATOR_CONSOLE,),
    meaning="what became of an operator's wish for a deed",
)
CREDENTIAL_OBSERVED = Topic(
    noun="credential",
    verb="observed",
    message=messages.CredentialObserved,
    scope="site",
    stream=LATEST,
    writer=CERT_RENEWER,
    readers=(OPERATOR_CONSOLE,),
    meaning="every credential and its days left, never a key",
)
CREDENTIAL_RENEWED = Topic(
    noun="credential",
    verb="renewed",
    message=messages.CredentialRenewed,
    scope="site",
    stream=CREDENTIALS,
    writer=CERT_RENEWER,
    readers=(OPERATOR_CONSOLE,),
    meaning="a new credential took effect",
)
MONITORING_RECEIVED: Topic[Any] = Topic(
    noun="monitoring",
    verb="received",
    message=None,
    scope="site",
    stream=MONITORING,
    writer=MONITORING_RELAY,
    readers=(MONITORING_RELAY, STATUS_TRACKER),
    meaning="batches of ApMon datagrams as received (binary)",
    suffix="relay",
)
MONITORING_OBSERVED = Topic(
    noun="monitoring",
    verb="observed",
    message=messages.MonitoringObserved,
    scope="site",
    stream=LATEST,
    writer=MONITORING_RELAY,
    readers=(OPERATOR_CONSOLE,),
    meaning="one relay's counts",
    suffix="relay",
)

TOPICS: tuple[Topic[Any], ...] = (
    DEMAND_OBSERVED,
    SITE_CONFIG_OBSERVED,
    BATCH_QUEUE_OBSERVED,
    FACILITY_OBSERVED,
    SUBMISSION_INTENDED,
    SUBMISSION_ACCEPTED,
    SUBMISSION_REFUSED,
    SUBMISSION_UNCLEAR,
    SUBMISSION_ADOPTED,
    SUBMISSION_ABANDONED,
    SUBMISSION_FORGOTTEN,
    SUBMISSION_WITHDRAWN,
    SUBMISSION_DECIDED,
    JOB_AGENT_CHANGED,
    NODE_SUSPECTED,
    NODE_CLEARED,
    WISH_FULFILLED,
    CREDENTIAL_OBSERVED,
    CREDENTIAL_RENEWED,
    MONITORING_RECEIVED,
    MONITORING_OBSERVED,
)

SUBMISSIONS_BUCKET = Bucket(
    name="submissions",
    record=messages.Submission,
    writers=(SLURM_SUBMITTER,),
    readers=(SLURM_SUBMITTER, STATUS_TRACKER, OPERATOR_CONSOLE),
    key="<submission>",
    meaning="every submission that may still have a batch job, or had one lately",
    max_bytes=64 << 20,
)
STANDINGS_BUCKET = Bucket(
    name="standings",
    record=messages.CeStanding,
    writers=(SLURM_SUBMITTER,),
    readers=(SLURM_SUBMITTER, OPERATOR_CONSOLE),
    key="<CE>",
    meaning="of each CE, since when all its submissions are on record, and the agent command that is proven",
    max_bytes=1 << 20,
)
JOB_AGENTS_BUCKET = Bucket(
    name="job_agents",
    record=messages.JobAgent,
    writers=(STATUS_TRACKER,),
    readers=(STATUS_TRACKER, SLURM_SUBMITTER, OPERATOR_CONSOLE),
    key="<submission>.<array index>[.<node rank>]",
    meaning="what became of each job agent",
    max_bytes=512 << 20,
)
AGENT_DAYS_BUCKET = Bucket(
    name="agent_days",
    record=messages.AgentDay,
    writers=(STATUS_TRACKER,),
    readers=(STATUS_TRACKER, OPERATOR_CONSOLE),
    key="<ce>.<day>",
    meaning="finished job agents in daily summaries, which stay",
    max_bytes=16 << 20,
)
AGENT_MAP_BUCKET = Bucket(
    name="agent_map",
    record=messages.AgentMap,
    writers=(STATUS_TRACKER,),
    readers=(STATUS_TRACKER, OPERATOR_CONSOLE),
    key="<ce>.<day>.<number>",
    meaning="which agent was which Slurm job on which node, and its ALICE job ids",
    max_bytes=1 << 30,
    ttl_s=180 * 86400,
    forgets=True,
)
AGENT_LOGS_BUCKET = Bucket(
    name="agent_logs",
    record=messages.AgentLog,
    writers=(STATUS_TRACKER,),
    readers=(STATUS_TRACKER, OPERATOR_CONSOLE),
    key="<submission>.<array index>[.<node rank>]",
    meaning="head and tail of what failed job agents wrote, redacted",
    max_bytes=128 << 20,
    ttl_s=30 * 86400,
    forgets=True,
)
CONTROL_BUCKET = Bucket(
    name="control",
    record=messages.Wish,
    writers=(OPERATOR_CONSOLE,),
    readers=(SLURM_SUBMITTER, STATUS_TRACKER, OPERATOR_CONSOLE),
    key="<kind>.<CE, agent or id>",
    meaning="operators' wishes with author, reason and expiry",
    max_bytes=16 << 20,
)
LEASES_BUCKET = Bucket(
    name="leases",
    record=messages.Lease,
    writers=SERVICES,
    readers=SERVICES,
    key="<service>.<what>",
    meaning="which instance is the active one",
    max_bytes=1 << 20,
    ttl_s=6,
)
BUCKETS: tuple[Bucket[Any], ...] = (
    SUBMISSIONS_BUCKET,
    STANDINGS_BUCKET,
    JOB_AGENTS_BUCKET,
    AGENT_DAYS_BUCKET,
    AGENT_MAP_BUCKET,
    AGENT_LOGS_BUCKET,
    CONTROL_BUCKET,
    LEASES_BUCKET,
)
