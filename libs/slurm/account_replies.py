"""What the facility gave our account, as GET /account/projects says it. Pure; a body of another shape is Malformed.

Source: https://api.nersc.gov/api/v1.2/openapi.json (ProjectStats): hours are node hours of Perlmutter, `hours_*` our
user's share of a project, `project_hours_*` the whole project, each for CPU and for GPU nodes.
"""

import msgspec

from libs.slurm.replies import decode


class NodeHours(msgspec.Struct, frozen=True, kw_only=True):
    """Node hours given and used."""

    given: float
    used: float


class ProjectHours(msgspec.Struct, frozen=True, kw_only=True):
    """What may be charged to one account this year, by kind of node; None where the facility says nothing of a kind.

    Of our user's share and the whole project it is the one with less left: whichever ends first ends our batch jobs.
    """

    account: str
    cpu: NodeHours | None
    gpu: NodeHours | None


class _Project(msgspec.Struct):
    repo_name: str
    cpu_hours_given: float | None = None
    cpu_hours_used: float | None = None
    cpu_project_hours_given: float | None = None
    cpu_project_hours_used: float | None = None
    gpu_hours_given: float | None = None
    gpu_hours_used: float | None = None
    gpu_project_hours_given: float | None = None
    gpu_project_hours_used: float | None = None


def projects(body: bytes, what: str) -> tuple[ProjectHours, ...]:
    """Every account that our user may charge to."""
    return tuple(
        ProjectHours(
            account=one.repo_name,
            cpu=_scarcer(
                (one.cpu_hours_given, one.cpu_hours_used),
                (one.cpu_project_hours_given, one.cpu_project_hours_used),
            ),
            gpu=_scarcer(
                (one.gpu_hours_given, one.gpu_hours_used),
                (one.gpu_project_hours_given, one.gpu_project_hours_used),
            ),
        )
        for one in decode(body, list[_Project], what)
    )


def _scarcer(*pairs: tuple[float | None, float | None]) -> NodeHours | None:
    known = [NodeHours(given=given, used=used) for given, used in pairs if given is not None and used is not None]
    return min(known, key=lambda hours: hours.given - hours.used, default=None)
