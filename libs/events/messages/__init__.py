"""The messages of the bus and the records of its buckets. Bodies are JSON; every instant is aware and UTC.

Changes are additive: a new field has a default, a field is never renamed or given another meaning. A reader ignores
fields that it does not know. `version` counts the additive revisions of one message.
"""

from libs.events.messages.batch_queue import (
    BatchQueueObserved,
)
from libs.events.messages.credential import (
    Credential,
    CredentialObserved,
    CredentialRenewed,
)
from libs.events.messages.demand import (
    CentralLimits,
    DemandObserved,
)
from libs.events.messages.event import (
    Event,
)
from libs.events.messages.facility import (
    Allocation,
    ApiSeen,
    FacilityObserved,
    FacilityStatus,
    Outage,
)
from libs.events.messages.history import (
    AgentDay,
    AgentLog,
    AgentMap,
    Finished,
)
from libs.events.messages.job_agent import (
    Activity,
    AgentState,
    Ending,
    JobAgent,
    JobAgentChanged,
)
from libs.events.messages.lease import (
    Lease,
)
from libs.events.messages.monitoring import (
    MonitoringObserved,
)
from libs.events.messages.node import (
    NodeCleared,
    NodeSuspected,
)
from libs.events.messages.site_config import (
    SiteConfigObserved,
)
from libs.events.messages.standing import (
    CeStanding,
    Recipe,
)
from libs.events.messages.submission import (
    DecisionInputs,
    Purpose,
    Submission,
    SubmissionAbandoned,
    SubmissionAccepted,
    SubmissionAdopted,
    SubmissionDecided,
    SubmissionEvent,
    SubmissionForgotten,
    SubmissionIntended,
    SubmissionRefused,
    SubmissionState,
    SubmissionUnclear,
    SubmissionWithdrawn,
)
from libs.events.messages.wish import (
    Bound,
    Cancel,
    Drain,
    FetchLog,
    Probe,
    Wish,
    WishFulfilled,
)

__all__ = [
    "Activity",
    "AgentDay",
    "AgentLog",
    "AgentMap",
    "AgentState",
    "Allocation",
    "ApiSeen",
    "BatchQueueObserved",
    "Bound",
    "Cancel",
    "CeStanding",
    "CentralLimits",
    "Credential",
    "CredentialObserved",
    "CredentialRenewed",
    "DecisionInputs",
    "DemandObserved",
    "Drain",
    "Ending",
    "Event",
    "FacilityObserved",
    "FacilityStatus",
    "FetchLog",
    "Finished",
    "JobAgent",
    "JobAgentChanged",
    "Lease",
    "MonitoringObserved",
    "NodeCleared",
    "NodeSuspected",
    "Outage",
    "Probe",
    "Purpose",
    "Recipe",
    "SiteConfigObserved",
    "Submission",
    "SubmissionAbandoned",
    "SubmissionAccepted",
    "SubmissionAdopted",
    "SubmissionDecided",
    "SubmissionEvent",
    "SubmissionForgotten",
    "SubmissionIntended",
    "SubmissionRefused",
    "SubmissionState",
    "SubmissionUnclear",
    "SubmissionWithdrawn",
    "Wish",
    "WishFulfilled",
]
